// A heat map of names against time, on a canvas that pointer and arrow keys read cell by cell; the same stands in a table.

import { colour, h, replace, say } from "./dom.js";
import { clockText, number, onTimeZone } from "./time.js";

const STEPS = [0.05, 0.1, 0.25, 0.5, 1];
const ROW = 22;
const AXIS = 22;

/** The words for a PSI: under 0.1 hardly any change, from 0.25 on a large one, by the usual reading. */
export function psiWords(psi) {
  if (psi === null || psi === undefined) return "not looked at";
  return psi < 0.1 ? "hardly changed" : psi < 0.25 ? "changed somewhat" : "changed a lot";
}

/**
 * A heat map in `element`. Options: title, at (Unix seconds, ascending), names, values: for each time one value or null for
 * each name, onPick(name), picked (a name or null). Returns {set(some of the options), destroy()}.
 */
export function heatMap(element, options) {
  let now = { picked: null, ...options };
  let cell = null; // [time, name] that is read
  const canvas = h("canvas", { class: "heat-canvas", "aria-hidden": "true" });
  const read = h("p", { class: "heat-read", role: "status" });
  const stage = h(
    "div",
    {
      class: "heat-stage",
      tabindex: 0,
      role: "group",
      "aria-label": `${now.title}. The arrow keys read cell by cell; Enter chooses the feature.`,
      onkeydown: keys,
    },
    canvas,
  );
  const names = h("div", { class: "heat-names" });
  const rows = h("div");
  const details = h(
    "details",
    { class: "chart-table", ontoggle: () => details.open && replace(rows, asTable(now)) },
    h("summary", null, "Values as a table"),
    rows,
  );
  const root = h(
    "div",
    { class: "heat", "data-testid": "chart-heat" },
    legend(),
    h("div", { class: "heat-body" }, names, stage),
    read,
    details,
  );
  element.append(root);

  canvas.addEventListener("mousemove", (event) => choose(under(event)));
  canvas.addEventListener("mouseleave", () => choose(null));
  canvas.addEventListener("click", (event) => pick(under(event)));
  const resized = new ResizeObserver(draw);
  const unzone = onTimeZone(paint);
  document.addEventListener("streamlearn:theme", draw);

  function under(event) {
    const box = canvas.getBoundingClientRect();
    const place = [
      Math.floor(((event.clientX - box.left) / box.width) * now.at.length),
      Math.floor((event.clientY - box.top) / ROW),
    ];
    return place[0] >= 0 && place[0] < now.at.length && place[1] >= 0 && place[1] < now.names.length ? place : null;
  }

  function pick(place) {
    if (place) now.onPick?.(now.names[place[1]]);
  }

  function choose(place) {
    if (place?.join() === cell?.join()) return;
    cell = place;
    draw();
    if (place === null) return say(read, "Point at a cell, or move with the arrow keys, to read it.");
    const value = now.values[place[0]]?.[place[1]] ?? null;
    const told = value === null ? "not looked at" : `PSI ${number(value)}, ${psiWords(value)}`;
    say(read, `${now.names[place[1]]} at ${clockText(now.at[place[0]])}: ${told}`);
  }

  function keys(event) {
    const [i, k] = cell ?? [now.at.length - 1, 0];
    const last = [now.at.length - 1, now.names.length - 1];
    const moves = {
      ArrowLeft: [i - 1, k],
      ArrowRight: [i + 1, k],
      ArrowUp: [i, k - 1],
      ArrowDown: [i, k + 1],
      Home: [0, k],
      End: [last[0], k],
      PageUp: [i, 0],
      PageDown: [i, last[1]],
    };
    if (event.key === "Enter") pick(cell);
    else if (event.key in moves && last[0] >= 0 && last[1] >= 0)
      choose(cell === null ? [i, k] : moves[event.key].map((x, side) => Math.max(0, Math.min(last[side], x))));
    else return;
    event.preventDefault();
  }

  function draw() {
    const width = stage.clientWidth;
    const [columns, lines] = [now.at.length, now.names.length];
    if (width === 0 || columns === 0 || lines === 0) return;
    const scale = window.devicePixelRatio || 1;
    const height = lines * ROW + AXIS;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
    const ctx = canvas.getContext("2d");
    ctx.scale(scale, scale);
    const each = width / columns;
    const panel = colour("--panel"); // only cells without a value show the hatching behind the canvas
    const paints = STEPS.concat(Infinity).map((one, i) => mixed(i));
    for (let i = 0; i < columns; i++) {
      for (let k = 0; k < lines; k++) {
        const value = now.values[i]?.[k];
        if (value === null || value === undefined) continue;
        ctx.fillStyle = panel;
        ctx.fillRect(i * each, k * ROW, each + 0.4, ROW);
        ctx.fillStyle = paints[step(value)];
        ctx.fillRect(i * each, k * ROW + 1, Math.max(each - (each > 6 ? 1 : 0), 0.5) + (each > 6 ? 0 : 0.4), ROW - 2);
      }
    }
    ctx.lineWidth = 2;
    const picked = now.names.indexOf(now.picked);
    if (picked >= 0) frame(ctx, colour("--accent"), 1, picked * ROW + 1, width - 2, ROW - 2);
    if (cell) frame(ctx, colour("--text"), cell[0] * each, cell[1] * ROW + 1, Math.max(each, 3), ROW - 2);
    ctx.fillStyle = panel;
    ctx.fillRect(0, lines * ROW, width, AXIS);
    ctx.fillStyle = colour("--muted");
    ctx.font = "11px system-ui, sans-serif";
    const marks = Math.min(6, columns, Math.max(2, Math.floor(width / 130)));
    for (let m = 0; m < marks; m++) {
      const i = Math.round((m * (columns - 1)) / Math.max(1, marks - 1));
      ctx.textAlign = m === 0 ? "left" : m === marks - 1 ? "right" : "center";
      ctx.fillText(shortTime(now.at, i), m === 0 ? 0 : m === marks - 1 ? width : (i + 0.5) * each, lines * ROW + 15);
    }
  }

  function paint() {
    replace(
      names,
      now.names.map((name) =>
        h(
          "button",
          {
            type: "button",
            class: "heat-name",
            title: name,
            "aria-pressed": String(name === now.picked),
            onclick: () => now.onPick?.(name),
          },
          name,
        ),
      ),
    );
    say(read, "Point at a cell, or move with the arrow keys, to read it.");
    cell = null;
    draw();
    if (details.open) replace(rows, asTable(now));
  }

  paint();
  resized.observe(stage);
  return {
    set(changes) {
      const focused = document.activeElement?.classList.contains("heat-name") ? document.activeElement.textContent : null;
      now = { ...now, ...changes };
      paint();
      if (focused) [...names.children].find((one) => one.textContent === focused)?.focus({ preventScroll: true });
    },
    destroy() {
      resized.disconnect();
      unzone();
      document.removeEventListener("streamlearn:theme", draw);
      root.remove();
    },
  };
}

function frame(ctx, paint, x, y, width, height) {
  ctx.strokeStyle = paint;
  ctx.strokeRect(x, y, width, height);
}

function shortTime(at, i) {
  const full = clockText(at[i]);
  return at.at(-1) - at[0] > 86400 ? full.slice(5, 16) : full.slice(11, at.at(-1) - at[0] > 900 ? 16 : 19);
}

function step(value) {
  const found = STEPS.findIndex((one) => value < one);
  return found < 0 ? STEPS.length : found;
}

function mixed(i) {
  return `color-mix(in srgb, ${colour("--heat-1")} ${[0, 14, 30, 52, 76, 100][i]}%, ${colour("--heat-0")})`;
}

function legend() {
  const words = [`under ${STEPS[0]}`, ...STEPS.slice(1).map((one, i) => `${STEPS[i]} – ${one}`), `from ${STEPS.at(-1)}`];
  return h(
    "ul",
    { class: "legend heat-legend", "aria-label": "Colours: PSI" },
    h("li", { class: "legend-name" }, "PSI"),
    words.map((text, i) => h("li", null, h("span", { class: `block heat-step-${i}`, "aria-hidden": "true" }), text)),
  );
}

function asTable(now) {
  const every = Math.max(1, Math.ceil(now.at.length / 60));
  const picked = now.at
    .map((t, i) => i)
    .filter((i) => (now.at.length - 1 - i) % every === 0)
    .reverse();
  return h(
    "div",
    { class: "table-scroll", role: "region", tabindex: 0, "aria-label": `${now.title}, values` },
    every > 1 ? h("p", { class: "muted" }, `Every ${every}th of ${now.at.length} times.`) : null,
    h(
      "table",
      null,
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          h("th", { scope: "col" }, "Time"),
          now.names.map((name) => h("th", { scope: "col", class: "end" }, name)),
        ),
      ),
      h(
        "tbody",
        null,
        picked.map((i) =>
          h(
            "tr",
            null,
            h("th", { scope: "row" }, clockText(now.at[i])),
            now.names.map((name, k) => h("td", { class: "end" }, number(now.values[i]?.[k] ?? null))),
          ),
        ),
      ),
    ),
  );
}
