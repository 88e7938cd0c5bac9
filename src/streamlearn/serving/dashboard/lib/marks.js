// What happened to a model, over its charts: lanes of spans and points that can be reached by keyboard, and their shade and
// lines in the charts themselves. A mark is {kind, at, until, open, label, detail, case, version}: GET /v1/models/NAME/marks.

import { colour, h, replace } from "./dom.js";
import { clock, clockText, span } from "./time.js";
import { table } from "./views.js";

// kind -> [lane, words, colour of the series palette, shape of a point]
const KINDS = {
  case: ["Case", "Drift case", 2, "span"],
  retrain: ["Retrain", "Retrain", 4, "span"],
  trial: ["Trial", "Trial", 1, "span"],
  canary: ["Canary", "Canary", 3, "span"],
  held: ["Held", "Held", 5, "span"],
  broken_input: ["Held", "Broken input", 5, "span"],
  feature_drift: ["Data", "Feature drift", 6, "span"],
  alarm: ["Events", "Alarm", 2, "▲"],
  promoted: ["Events", "Promoted", 3, "●"],
  rolled_back: ["Events", "Rolled back", 5, "◀"],
  recovered: ["Events", "Recovered", 3, "✓"],
  not_recovered: ["Events", "Not recovered", 5, "✕"],
};
const LANES = ["Events", "Case", "Retrain", "Trial", "Canary", "Held", "Data"];
const LINES = new Set(["alarm", "promoted", "rolled_back"]);
const SHADES = { case: 0.07, retrain: 0.14, trial: 0.1, canary: 0.13, held: 0.16, broken_input: 0.16 };
const TABLE_ROWS = 200;
const CLOSE = 0.008; // of the range: points of a kind that are nearer than this are one

function about(mark) {
  return KINDS[mark.kind] ?? ["Events", mark.kind.replaceAll("_", " "), 7, "◆"];
}

/** The words for a kind of mark. */
export function markWords(kind) {
  return about({ kind })[1];
}

/** Shade the spans and draw the points of `marks` in a plot, below its lines. */
export function drawMarks(u, marks) {
  const { ctx, bbox } = u;
  const x = (t) => Math.round(u.valToPos(t, "x", true));
  const [left, right] = [bbox.left, bbox.left + bbox.width];
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const mark of marks ?? []) {
    const paint = colour(`--series-${about(mark)[2]}`);
    if (mark.kind in SHADES && (mark.open || mark.until !== null)) {
      const [from, until] = [Math.max(left, x(mark.at)), Math.min(right, mark.open ? x(clock()) : x(mark.until))];
      if (until <= left || from >= right) continue;
      ctx.globalAlpha = SHADES[mark.kind];
      ctx.fillStyle = paint;
      ctx.fillRect(from, bbox.top, Math.max(1, until - from), bbox.height);
    } else if (LINES.has(mark.kind)) {
      ctx.globalAlpha = 0.75;
      ctx.strokeStyle = paint;
      ctx.lineWidth = uPixel(1.25);
      ctx.setLineDash(mark.kind === "alarm" ? [uPixel(3), uPixel(3)] : []);
      ctx.beginPath();
      ctx.moveTo(x(mark.at), bbox.top);
      ctx.lineTo(x(mark.at), bbox.top + bbox.height);
      ctx.stroke();
    }
  }
  ctx.restore();
}

function uPixel(size) {
  return size * (window.devicePixelRatio || 1);
}

/** Lanes of marks in `element`, over the charts below: {set(marks, range)}. `href(mark)` leads to more, or is null. */
export function markStrip(element, href) {
  const lanes = h("div", {
    class: "lanes",
    role: "toolbar",
    "aria-label": "What happened, in order of time; move with the arrow keys",
    onkeydown: rove,
  });
  const tip = h("div", { class: "mark-tip", role: "status" });
  const list = h("div");
  const details = h("details", { class: "chart-table" }, h("summary", null, "What happened, as a table"), list);
  element.append(h("section", { class: "strip", "data-testid": "marks" }, lanes, tip, details));
  let shown = "";

  function set(marks, range) {
    const there = marks.filter((mark) => mark.at <= range[1] && ends(mark) >= range[0]);
    const shape = JSON.stringify([there.map((m) => [m.kind, m.at, m.until, m.open, m.label, m.detail]), range]);
    if (shape === shown) return;
    shown = shape;
    const focused = document.activeElement?.dataset?.mark;
    const groups = new Map(LANES.map((lane) => [lane, []]));
    for (const mark of merged(there, range)) groups.get(about(mark)[0]).push(mark);
    const used = LANES.filter((lane) => groups.get(lane).length);
    replace(
      lanes,
      used.length
        ? used.map((lane) => row(lane, groups.get(lane), range))
        : h("p", { class: "muted quiet-line" }, "No alarm, case, retrain or promotion in this time."),
    );
    const all = [...lanes.querySelectorAll("[data-mark]")];
    all.forEach((one, i) => (one.tabIndex = i === 0 ? 0 : -1));
    if (focused) all.find((one) => one.dataset.mark === focused)?.focus();
    details.hidden = there.length === 0;
    replace(list, asTable(there));
  }

  function row(lane, marks, range) {
    const width = range[1] - range[0];
    const share = (t) => `${(100 * Math.max(0, Math.min(1, (t - range[0]) / width))).toFixed(3)}%`;
    const items = marks.map((mark) => {
      const [, words, tone, shape] = about(mark);
      const link = href(mark);
      const isSpan = shape === "span";
      const size = isSpan
        ? { left: share(mark.at), width: `calc(${share(ends(mark))} - ${share(mark.at)})` }
        : { left: share(mark.at) };
      return h(
        link ? "a" : "span",
        {
          class: `mark ${isSpan ? "mark-span" : "mark-point"} tone-${tone}${mark.open ? " open" : ""}`,
          style: size,
          href: link,
          role: link ? null : "img",
          "data-testid": `mark-${mark.kind}`,
          "data-mark": `${mark.kind}@${mark.at}`,
          "aria-label": inWords(mark),
          onmouseenter: () => show(mark),
          onmouseleave: () => show(null),
          onfocus: () => show(mark),
          onblur: () => show(null),
        },
        isSpan
          ? h("span", { class: "mark-text", "aria-hidden": "true" }, mark.label || words)
          : h("span", { "aria-hidden": "true" }, mark.count ? `${shape}${mark.count}` : shape),
      );
    });
    return h(
      "div",
      { class: "lane" },
      h("span", { class: "lane-name", "aria-hidden": "true" }, lane),
      h("div", { class: "lane-track" }, items),
    );
  }

  function show(mark) {
    replace(
      tip,
      mark === null
        ? null
        : [
            h("strong", null, mark.label || about(mark)[1]),
            " ",
            times(mark),
            mark.detail ? h("span", { class: "tip-detail" }, mark.detail) : null,
          ],
    );
    tip.classList.toggle("seen", mark !== null);
  }

  return { set };
}

function rove(event) {
  const all = [...event.currentTarget.querySelectorAll("[data-mark]")].sort(
    (a, b) => Number(a.dataset.mark.split("@")[1]) - Number(b.dataset.mark.split("@")[1]),
  );
  const i = all.indexOf(document.activeElement);
  const next = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: all.length - 1 }[
    event.key
  ];
  if (i < 0 || next === undefined) return;
  event.preventDefault();
  const to = all[Math.max(0, Math.min(all.length - 1, next))];
  all.forEach((one) => (one.tabIndex = one === to ? 0 : -1));
  to.focus();
}

function merged(marks, range) {
  const near = (range[1] - range[0]) * CLOSE;
  const newest = new Map();
  const out = [];
  for (const mark of marks) {
    const before = newest.get(mark.kind);
    if (about(mark)[3] !== "span" && before && mark.at - before.last < near) {
      before.count = (before.count ?? 1) + 1;
      before.last = mark.at;
      before.label = `${before.count} × ${about(mark)[1]}`;
      before.detail = "Zoom in to see each.";
      continue;
    }
    const copy = { ...mark, last: mark.at };
    newest.set(mark.kind, copy);
    out.push(copy);
  }
  return out;
}

function ends(mark) {
  return mark.open ? clock() : (mark.until ?? mark.at);
}

function times(mark) {
  if (about(mark)[3] !== "span" || (!mark.open && mark.until === null)) return clockText(mark.at);
  return `${clockText(mark.at)} – ${mark.open ? "now" : clockText(mark.until, "short")} (${span(ends(mark) - mark.at)})`;
}

function inWords(mark) {
  return [mark.label || about(mark)[1], times(mark), mark.detail].filter(Boolean).join(", ");
}

function asTable(marks) {
  const rows = [...marks].reverse().slice(0, TABLE_ROWS);
  const columns = [
    { label: "When", cell: times },
    { label: "What", head: true, cell: (mark) => mark.label || about(mark)[1] },
    { label: "Detail", cell: (mark) => mark.detail },
  ];
  return table(
    columns,
    rows,
    marks.length > rows.length ? `The newest ${rows.length} of ${marks.length}` : "What happened, newest first",
  );
}
