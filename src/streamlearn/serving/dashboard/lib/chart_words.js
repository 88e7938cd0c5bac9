// A chart for those who do not see it: its values in words, and as a table. `chart`: the options of timeChart.

import { clockText, number, timeZone } from "./time.js";
import { table } from "./views.js";

const TABLE_ROWS = 60;

/** The value of a series at index i, as text. */
export function told(one, i) {
  const value = one.values[i];
  if (value === null || value === undefined) return "–";
  return (one.format ?? number)(value);
}

/** An x value as text. */
export function xText(chart, x) {
  return chart.x === "time" ? clockText(x) : `${chart.xLabel ?? "at"} ${number(x)}`;
}

/** Each series at its end, its smallest and its largest value. */
export function inWords(chart) {
  const at = chart.at ?? [];
  if (at.length === 0) return `${chart.title}: nothing recorded in this time.`;
  const lines = chart.series.map((one) => {
    const there = one.values.filter((value) => value !== null && value !== undefined);
    if (there.length === 0) return `${one.label}: nothing recorded.`;
    const [low, high] = [there.reduce((a, b) => Math.min(a, b)), there.reduce((a, b) => Math.max(a, b))];
    const [last, least, most] = [there.at(-1), low, high].map(one.format ?? number);
    return `${one.label}: ${last} at the end, from ${least} to ${most}.`;
  });
  return `${chart.title}, from ${xText(chart, at[0])} to ${xText(chart, at.at(-1))}. ${lines.join(" ")}`;
}

/** At most TABLE_ROWS rows of values, newest first. */
export function asTable(chart) {
  const at = chart.at ?? [];
  const every = Math.max(1, Math.ceil(at.length / TABLE_ROWS));
  const picked = at.map((x, i) => i).filter((i) => (at.length - 1 - i) % every === 0);
  const name = chart.x === "time" ? (timeZone() === "utc" ? "Time, UTC" : "Local time") : (chart.xLabel ?? "At");
  const columns = [
    { label: name, head: true, cell: (i) => xText(chart, at[i]) },
    ...chart.series.map((one) => ({ label: one.label, align: "end", cell: (i) => told(one, i) })),
  ];
  const thinned = every > 1 ? `, every ${every}th of ${at.length} points` : "";
  return table(columns, picked.reverse(), `${chart.title}, values${thinned}`);
}
