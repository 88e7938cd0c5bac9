// Charts over a common axis: uPlot draws, and this module shares cursor and zoom, reads values to people who do not see them,
// and tells the same as a table.

import uPlot from "../vendor/uPlot.esm.js";
import { asTable, inWords, told, xText } from "./chart_words.js";
import { drawMarks } from "./marks.js";
import { colour, h, replace, say } from "./dom.js";
import { clockText, number, onTimeZone, timeZone } from "./time.js";

const DAY = 86400;

/** Charts that are made with the same group share their cursor and zoom. `onCursor(x | null)` hears where the cursor stands. */
export function chartGroup(onCursor = () => {}) {
  return { charts: new Set(), x: null, onCursor };
}

/**
 * A chart in `element`. Options:
 *   what      its name: the chart's data-testid is chart-<what>
 *   title     its heading; `unit` stands beside it
 *   at        x values, ascending: Unix seconds or, with x: "number", any numbers (named by `xLabel`)
 *   series    [{label, values: [number | null, …], color: 1…8, dash, width, points, step, low, high, right, format, axis}]:
 *             `low` and `high` make a band; `right` puts it on the axis at the right; `step` draws steps; `format(value)` gives
 *             its text, `axis(value)` that of its axis
 *   range     [from, until], or null for what the data spans
 *   marks     see marks.js; shaded, and drawn as lines
 *   onZoom    called with (from, until) when a part was chosen by dragging
 *   group     see chartGroup
 *   height    pixels (190); `zero` makes the axis begin at 0; `rightAxis` keeps its room also when nothing stands on it, so
 *             that charts above each other agree; `log` makes the left axis logarithmic
 *   bridge    lines are drawn over what is missing for so many x units (0)
 * Returns {element, set(some of the options), destroy()}.
 */
export function timeChart(element, options) {
  const group = options.group ?? chartGroup();
  let now = { x: "time", height: 190, marks: [], range: null, unit: "", ...options };
  let plot = null;
  let made = "";
  const titleId = `chart-title-${now.what}-${Math.random().toString(36).slice(2, 8)}`;
  const legend = h("ul", { class: "legend" });
  const summary = h("p", { class: "sr" });
  const stage = h("div", {
    class: "chart-stage",
    tabindex: 0,
    role: "slider",
    "aria-labelledby": titleId,
    "aria-valuemin": 0,
    "aria-valuemax": 0,
    "aria-valuenow": 0,
    "aria-valuetext": "No value chosen: move with the arrow keys",
    onkeydown: (event) => keys(event, self),
  });
  const details = h(
    "details",
    { class: "chart-table", ontoggle: () => details.open && replace(rows, asTable(now)) },
    h("summary", null, "Values as a table"),
  );
  const heading = h("h3", { id: titleId });
  const rows = h("div");
  details.append(rows);
  const root = h(
    "section",
    { class: "chart", "data-testid": `chart-${now.what}` },
    h("div", { class: "chart-head" }, heading, legend),
    summary,
    stage,
    details,
  );
  element.append(root);

  const self = {
    element: root,
    get plot() {
      return plot;
    },
    get options() {
      return now;
    },
    set(changes) {
      now = { ...now, ...changes };
      paint();
    },
    /** Show the values at x, or the newest ones for null. */
    read(x) {
      const at = now.at ?? [];
      const i = x === null ? at.length - 1 : nearest(at, x);
      [...legend.children].forEach((item, k) => {
        const one = now.series[k];
        say(item.lastChild, told(one, x === null ? one.values.findLastIndex((value) => value !== null) : i));
      });
      if (at.length === 0) return;
      stage.setAttribute("aria-valuemax", at.length - 1);
      stage.setAttribute("aria-valuenow", i);
      stage.setAttribute(
        "aria-valuetext",
        `${xText(now, at[i])}: ${now.series.map((one) => `${one.label} ${told(one, i)}`).join(", ")}`,
      );
    },
    destroy() {
      group.charts.delete(self);
      resized.disconnect();
      unzone();
      document.removeEventListener("streamlearn:theme", restyle);
      plot?.destroy();
      root.remove();
    },
  };

  function paint() {
    const shape = JSON.stringify([
      now.series.map((one) => [one.label, one.color, one.dash, one.right, !!one.low, one.points, one.width]),
      [now.height, now.x, now.title, now.unit],
    ]);
    if (shape !== made) {
      plot?.destroy();
      made = shape;
      replace(heading, now.title, now.unit ? h("span", { class: "unit" }, ` ${now.unit}`) : null);
      replace(
        legend,
        now.series.map((one) => legendItem(one)),
      );
      plot = build(now, stage, group, self);
    } else {
      plot.batch(() => {
        plot.setData(columns(now), false);
        plot.setScale("x", limits(now));
      });
    }
    say(summary, inWords(now));
    self.read(group.x);
    if (details.open) replace(rows, asTable(now));
  }

  function restyle() {
    made = "";
    paint();
  }

  const resized = new ResizeObserver(() => {
    const width = Math.floor(stage.clientWidth);
    if (plot && width > 0 && width !== plot.width) plot.setSize({ width, height: now.height });
  });
  const unzone = onTimeZone(restyle);
  document.addEventListener("streamlearn:theme", restyle);
  group.charts.add(self);
  paint();
  resized.observe(stage);
  return self;
}

function build(now, stage, group, self) {
  const text = colour("--muted");
  const grid = { stroke: colour("--grid"), width: 1 };
  const font = "11px system-ui, sans-serif";
  const axis = (more) => ({ stroke: text, font, grid, ticks: { show: false }, gap: 4, ...more });
  const format = (side) => {
    const one = now.series.find((each) => Boolean(each.right) === side);
    return one ? (one.axis ?? one.format ?? number) : () => "";
  };
  const series = [{}];
  const bands = [];
  for (const one of now.series) {
    const stroke = colour(`--series-${one.color}`);
    const common = {
      scale: one.right ? "right" : "y",
      gaps: (u, k, from, to, found) => wide(u, found, self.options.bridge ?? 0),
    };
    series.push({
      ...common,
      label: one.label,
      stroke,
      width: one.width ?? 1.75,
      dash: one.dash,
      points: one.points ? { show: true, size: 5 } : { show: true, size: 4, fill: stroke, filter: alone },
      paths: one.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
    });
    if (one.low) {
      const none = { ...common, stroke: "transparent", width: 0, points: { show: false } };
      series.push({ ...none, label: "high" }, { ...none, label: "low" });
      bands.push({ series: [series.length - 2, series.length - 1], fill: `color-mix(in srgb, ${stroke} 16%, transparent)` });
    }
  }
  const range = (u, low, high) => span(low, high, self.options.zero);
  const right = Boolean(now.rightAxis) || now.series.some((one) => one.right);
  const size = parseInt(colour("--axis"), 10) || 54;
  const plot = new uPlot(
    {
      width: Math.max(200, Math.floor(stage.clientWidth)),
      height: now.height,
      series,
      bands,
      padding: [8, right ? 0 : 10, 0, 0],
      legend: { show: false },
      tzDate: (t) => (timeZone() === "utc" ? uPlot.tzDate(new Date(t * 1000), "Etc/UTC") : new Date(t * 1000)),
      scales: {
        x: { time: now.x === "time", auto: false, range: (u, low, high) => [low, high] },
        y: now.log ? { distr: 3, range: (u, low, high) => logSpan(low, high) } : { range },
        right: { range },
      },
      axes: [
        axis({
          size: 26,
          space: 70,
          values:
            now.x === "time"
              ? (u, splits, i, space, step) => splits.map((t) => tick(t, step))
              : (u, splits) => splits.map(number),
        }),
        axis({
          size,
          space: 34,
          grid: now.log ? { ...grid, filter: (u, splits) => powers(splits).map((label, i) => (label ? splits[i] : null)) } : grid,
          values: (u, splits) => (now.log ? powers(splits) : splits.map((value) => format(false)(value))),
        }),
        axis({
          show: right,
          side: 1,
          size,
          space: 34,
          scale: "right",
          grid: { show: false },
          values: (u, splits) => splits.map((value) => format(true)(value)),
        }),
      ],
      cursor: {
        drag: { x: Boolean(now.onZoom), y: false, setScale: false },
        points: { size: 7 },
        y: false,
        move: (u, left, top) =>
          u.data[0].length && left >= 0 ? [u.valToPos(u.data[0][u.posToIdx(left)], "x"), top] : [left, top],
        dataIdx: (u, k, i) => i,
      },
      hooks: {
        drawClear: [(u) => drawMarks(u, self.options.marks)],
        setCursor: [(u) => u.cursor.event && moved(u, group, self)],
        setSelect: [
          (u) => {
            if (u.select.width < 4) return;
            const [from, until] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            self.options.onZoom?.(from, until);
          },
        ],
      },
    },
    columns(now),
    stage,
  );
  plot.setScale("x", limits(now));
  plot.over.addEventListener("mouseleave", () => place(group, null, self));
  return plot;
}

function moved(u, group, self) {
  const { left, idx } = u.cursor;
  place(group, left < 0 || idx === null || idx === undefined ? null : u.data[0][idx], self);
}

/** Put the cursor of every chart of the group at x; null takes it away. */
function place(group, x, from) {
  if (group.x === x) return;
  group.x = x;
  for (const chart of group.charts) {
    chart.read(x);
    if (chart === from || chart.plot === null) continue;
    const left = x === null ? -10 : chart.plot.valToPos(x, "x");
    chart.plot.setCursor({ left, top: x === null ? -10 : 4 }, false);
  }
  group.onCursor(x);
}

function keys(event, self) {
  const at = self.options.at ?? [];
  const group = self.options.group;
  if (at.length === 0) return;
  const i = group?.x === null || group?.x === undefined ? at.length : nearest(at, group.x);
  const far = event.shiftKey ? 10 : 1;
  const moves = {
    ArrowLeft: i - far,
    ArrowRight: i + far,
    ArrowDown: i - far,
    ArrowUp: i + far,
    PageUp: i - 25,
    PageDown: i + 25,
    Home: 0,
    End: at.length - 1,
  };
  if (event.key === "Escape") place(group, null, null);
  else if (event.key in moves) place(group, at[Math.max(0, Math.min(at.length - 1, moves[event.key]))], null);
  else return;
  event.preventDefault();
}

function columns(now) {
  const at = now.at ?? [];
  return [at, ...now.series.flatMap((one) => (one.low ? [one.values, one.high, one.low] : [one.values]))];
}

function limits(now) {
  const at = now.at ?? [];
  if (now.range) return { min: now.range[0], max: now.range[1] };
  const [low, high] = at.length ? [at[0], at.at(-1)] : [0, 1];
  return { min: low, max: high > low ? high : low + 1 };
}

function span(low, high, zero) {
  if (low === null || low === undefined || high === null) return [0, 1];
  if (zero && high <= 0 && low >= 0) return [0, 1];
  if (zero) low = Math.min(0, low);
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return [zero && low === 0 ? 0 : low - room, high + room];
}

function logSpan(low, high) {
  if (!(low > 0 && high > 0)) return [0.1, 10];
  return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high * 1.05))];
}

/** The labels of a logarithmic axis: some five powers of ten; no label where uPlot wants none (null). */
function powers(splits) {
  const isPower = (value) => value > 0 && Math.abs(value / 10 ** Math.round(Math.log10(value)) - 1) < 1e-9;
  const exponents = splits.map((value) => (isPower(value) ? Math.round(Math.log10(value)) : null));
  const known = exponents.filter((exponent) => exponent !== null);
  const every = Math.max(1, Math.ceil(known.length / 5));
  return exponents.map((exponent) => {
    if (exponent === null || known.indexOf(exponent) % every) return "";
    return Math.abs(exponent) > 4 ? `1e${exponent}` : number(10 ** exponent);
  });
}

/** The indices of values that no line leads to. */
function alone(u, k) {
  const values = u.data[k];
  const missing = (i) => values[i] === null || values[i] === undefined;
  const found = [];
  for (let i = 0; i < values.length; i++) if (!missing(i) && missing(i - 1) && missing(i + 1)) found.push(i);
  return found;
}

/** The gaps, in canvas pixels, that are longer than `bridge` along x. */
function wide(u, gaps, bridge) {
  const perUnit = u.bbox.width / (u.scales.x.max - u.scales.x.min);
  return gaps.filter(([from, to]) => to - from > bridge * perUnit);
}

function tick(t, step) {
  const full = clockText(t);
  if (step >= DAY) return full.slice(5, 10);
  if (full.slice(11) === "00:00:00") return full.slice(5, 10);
  return step >= 60 ? full.slice(11, 16) : full.slice(11);
}

/** The index of the value in ascending `at` that is nearest to x. */
export function nearest(at, x) {
  let [low, high] = [0, at.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (at[middle] < x) low = middle;
    else high = middle;
  }
  return high < 0 ? 0 : Math.abs(at[low] - x) <= Math.abs(at[high] - x) ? low : high;
}

function legendItem(one) {
  return h(
    "li",
    null,
    h("span", { class: `swatch series-${one.color}${one.dash ? " dashed" : ""}`, "aria-hidden": "true" }),
    h("span", { class: "legend-name" }, one.label),
    h("span", { class: "legend-value" }, "–"),
  );
}
