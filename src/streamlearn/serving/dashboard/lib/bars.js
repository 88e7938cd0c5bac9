// Two distributions side by side, before and after; bars to a limit; p against its level. Each says in words what it draws.

import { h, s } from "./dom.js";
import { number, percent } from "./time.js";

const WIDE = 460;
const HIGH = 128;
const MOST_NAMES = 12;
const LOWEST = 1e-12; // p-values below are drawn there

/**
 * A histogram of before and after as a figure. `histogram`: {edges | values, before: [counts], after: [counts]}. Options:
 * title, what (the data-testid is chart-<what>), names ([before, after]), label(value) → the text of an edge or a category.
 */
export function pair(histogram, { title, what, names = ["before", "after"], label = text }) {
  const sides = [shares(histogram.before), shares(histogram.after)];
  const sums = [sum(histogram.before), sum(histogram.after)];
  const key = h(
    "ul",
    { class: "legend" },
    names.map((name, i) =>
      h("li", null, h("span", { class: `block side-${i}`, "aria-hidden": "true" }), `${name} (${number(sums[i])})`),
    ),
  );
  const drawn = histogram.edges ? ofNumbers(histogram, sides, label) : ofCategories(histogram, sides, names, label);
  return h(
    "figure",
    { class: "pair", "data-testid": what ? `chart-${what}` : null },
    h("figcaption", { class: "chart-head" }, h("span", { class: "pair-title" }, title), key),
    drawn,
  );
}

function ofNumbers({ edges, before, after }, sides, label) {
  const top = Math.max(...sides.flat(), 1e-9);
  const bars = before.length;
  const each = WIDE / bars;
  const y = (share) => HIGH * (1 - share / top);
  const rects = sides.flatMap((side, k) =>
    side.map(
      (share, i) =>
        share > 0 &&
        s("rect", {
          class: `side-${k}`,
          x: i * each + each * (k ? 0.5 : 0.08),
          width: each * 0.42,
          y: Math.min(y(share), HIGH - 1.5),
          height: Math.max(HIGH - y(share), 1.5),
        }),
    ),
  );
  const ticks = [0, Math.floor(bars / 2), bars];
  return [
    h("div", { class: "pair-top muted", "aria-hidden": "true" }, percent(top)),
    s(
      "svg",
      {
        class: "bars",
        viewBox: `0 0 ${WIDE} ${HIGH}`,
        preserveAspectRatio: "none",
        role: "img",
        "aria-label": `Most in one bar: ${percent(top)}. The values are in the table below.`,
      },
      rects,
      s("line", { x1: 0, x2: WIDE, y1: HIGH, y2: HIGH, class: "axis-line" }),
    ),
    h(
      "div",
      { class: "pair-ticks", "aria-hidden": "true" },
      ticks.map((i) => h("span", null, label(edges[i]))),
    ),
    values(
      before.map((count, i) => [`${label(edges[i])} – ${label(edges[i + 1])}`, count, after[i]]),
      sides,
    ),
  ];
}

function ofCategories({ values: all, before, after }, sides, names, label) {
  const order = all.map((name, i) => i);
  const shown = order.slice(0, MOST_NAMES);
  const top = Math.max(...sides.flat(), 1e-9);
  const bar = (k, i) =>
    h(
      "span",
      { class: "hbar" },
      h("span", { class: `hbar-fill side-${k}`, style: { width: `${(100 * sides[k][i]) / top}%` } }),
      h("span", { class: "hbar-text" }, percent(sides[k][i])),
    );
  const row = (i) =>
    h("tr", null, h("th", { scope: "row" }, label(all[i])), h("td", null, bar(0, i)), h("td", null, bar(1, i)));
  return [
    h(
      "table",
      { class: "hbars" },
      h(
        "thead",
        { class: "sr" },
        h(
          "tr",
          null,
          h("th", { scope: "col" }, "value"),
          names.map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h("tbody", null, shown.map(row)),
    ),
    all.length > shown.length
      ? values(
          order.map((i) => [label(all[i]), before[i], after[i]]),
          sides,
          `All ${all.length} values`,
        )
      : null,
  ];
}

function values(rows, sides, title = "Values as a table") {
  const cell = (count, share) => h("td", { class: "end" }, `${number(count)} (${percent(share)})`);
  return h(
    "details",
    { class: "chart-table" },
    h("summary", null, title),
    h(
      "div",
      { class: "table-scroll", role: "region", tabindex: 0, "aria-label": title },
      h(
        "table",
        null,
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "col" }, "value"),
            h("th", { scope: "col", class: "end" }, "before"),
            h("th", { scope: "col", class: "end" }, "after"),
          ),
        ),
        h(
          "tbody",
          null,
          rows.map(([name, before, after], i) =>
            h("tr", null, h("th", { scope: "row" }, name), cell(before, sides[0][i]), cell(after, sides[1][i])),
          ),
        ),
      ),
    ),
  );
}

/** How far `value` is on the way to `limit`, as a bar with a line at the limit; `words` says it. */
export function toLimit(value, limit, words, tone = "") {
  const most = Math.max(value, limit, 1e-12) * 1.15;
  const place = (x) => `${Math.min(100, Math.max(0, (100 * x) / most))}%`;
  return h(
    "div",
    { class: "to-limit" },
    h(
      "div",
      { class: "to-limit-bar", "aria-hidden": "true" },
      h("span", { class: `to-limit-fill ${tone}`, style: { width: place(value) } }),
      h("span", { class: "to-limit-line", style: { left: place(limit) } }),
    ),
    h("p", { class: "to-limit-words" }, words),
  );
}

/** p and the level on a scale of powers of ten, from 1 at the left; the words say the same. */
export function againstLevel(p, level) {
  const least = Math.min(-3, Math.floor(Math.log10(Math.max(Math.min(p, level), LOWEST))));
  const x = (value) => (WIDE * Math.log10(Math.max(value, LOWEST))) / least;
  const powers = [];
  for (let power = 0; power >= least; power -= Math.ceil(-least / 6)) powers.push(power);
  const below = p <= level;
  return s(
    "svg",
    {
      class: "level",
      viewBox: `-14 0 ${WIDE + 40} 54`,
      role: "img",
      "aria-label": `p is ${number(p)}, ${below ? "below" : "above"} the level ${number(level)}`,
    },
    s("rect", { class: "level-zone", x: x(level), y: 16, width: Math.max(0, WIDE - x(level)), height: 16 }),
    s("line", { class: "axis-line", x1: 0, x2: WIDE, y1: 32, y2: 32 }),
    powers.map((power) => [
      s("line", { class: "axis-line", x1: x(10 ** power), x2: x(10 ** power), y1: 32, y2: 36 }),
      s("text", { x: x(10 ** power), y: 48, "text-anchor": "middle" }, powerWords(power, power === least && p < LOWEST)),
    ]),
    s("line", { class: "level-line", x1: x(level), x2: x(level), y1: 10, y2: 34 }),
    s("text", { class: "level-name", x: x(level), y: 9, "text-anchor": "middle" }, "level"),
    s("path", { class: below ? "level-p met" : "level-p", d: `M${x(p)} 30l-6-11h12z` }),
  );
}

function powerWords(power, clipped) {
  return `${clipped ? "≤ " : ""}${power > -4 ? String(10 ** power) : `1e${power}`}`;
}

/** `done` of `total` as a progress bar with its words. */
export function progress(done, total, name) {
  const share = total > 0 ? Math.min(1, done / total) : 0;
  return h(
    "div",
    {
      class: "progress",
      role: "progressbar",
      "aria-label": name,
      "aria-valuemin": 0,
      "aria-valuemax": total,
      "aria-valuenow": done,
      "aria-valuetext": `${number(done)} of ${number(total)}`,
    },
    h("span", { class: "progress-fill", style: { width: `${100 * share}%` } }),
  );
}

function shares(counts) {
  const all = sum(counts);
  return counts.map((count) => (all ? count / all : 0));
}

function sum(counts) {
  return counts.reduce((a, b) => a + b, 0);
}

function text(value) {
  return typeof value === "number" ? number(value) : String(value);
}
