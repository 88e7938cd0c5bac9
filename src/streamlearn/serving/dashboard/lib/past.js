// A model's history as the page has it: read whole for a range, then kept up to date at its end while one looks.

import { get } from "./api.js";
import { clock } from "./time.js";

export const RANGES = { "5m": 300, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800, "30d": 2592000 };
const SERIES = "metric:*,baseline:*,loss,detector:*,rate,lag,freshness_p50_s,freshness_p99_s,trial_e,trial_threshold";
const TAIL_S = 10; // the finest step of the history
const WHOLE_S = 300; // so often at least everything is read again
const FRESH_MOST_S = 3600; // in longer ranges what came since the last step is one point

/** The history of `model`. */
export function pastOf(model) {
  const path = `/v1/models/${encodeURIComponent(model)}/history`;
  let base = { at: [], series: {}, step_s: TAIL_S };
  let fresh = []; // [at, {name: value}] since the last step
  let readAt = 0;
  let tailAt = 0;

  async function load(since, until, points, signal) {
    const found = await get(path, { since: since.toFixed(3), until: until.toFixed(3), points, series: SERIES }, signal);
    base = found;
    fresh = fresh.filter(([at]) => at > end() && at <= until);
    readAt = tailAt = clock();
  }

  /** Read what was added since the last step; true when there was anything to read. Everything, when that is due. */
  async function more(length, points) {
    const now = clock();
    if (now - readAt > Math.max(WHOLE_S, 10 * base.step_s)) {
      await load(now - length, now, points);
      return true;
    }
    if (now - tailAt < Math.max(TAIL_S, base.step_s / 2)) return false;
    tailAt = now;
    const since = Math.max(base.at.at(-1) ?? 0, now - length, now - 2 * WHOLE_S - base.step_s);
    const tail = await get(path, { since: since.toFixed(3), until: now.toFixed(3), points: 600, series: SERIES });
    join(tail);
    return true;
  }

  function join(tail) {
    if (tail.at.length === 0) return;
    const kept = base.at.findIndex((at) => at >= tail.at[0]);
    const n = kept < 0 ? base.at.length : kept;
    const series = {};
    for (const name of new Set([...Object.keys(base.series), ...Object.keys(tail.series)])) {
      series[name] = {};
      for (const part of ["mean", "min", "max"]) {
        const before = base.series[name]?.[part].slice(0, n) ?? new Array(n).fill(null);
        series[name][part] = [...before, ...(tail.series[name]?.[part] ?? new Array(tail.at.length).fill(null))];
      }
    }
    base = { ...base, at: [...base.at.slice(0, n), ...tail.at], series };
    fresh = fresh.filter(([at]) => at > end());
  }

  function end() {
    return base.at.length ? base.at.at(-1) + TAIL_S / 2 : 0;
  }

  return {
    load,
    more,
    /** The model's document says how things are now. */
    hear(doc, length) {
      if (length > FRESH_MOST_S) fresh = [];
      fresh.push([clock(), valuesOf(doc)]);
    },
    /**
     * {at, begun, empty, step_s, names, get(name) → {mean, min, max}}; what was heard since the last step is at the end.
     * `begun`: the first step of which anything is known, undefined when nothing is.
     */
    view() {
      const extra = fresh.map(([at]) => at);
      return {
        at: [...base.at, ...extra],
        begun: base.at[base.at.findIndex((at, i) => Object.values(base.series).some(({ mean }) => mean[i] !== null))],
        empty: Object.keys(base.series).length === 0,
        step_s: base.step_s,
        names: Object.keys(base.series),
        get(name) {
          const heard = fresh.map(([, values]) => values[name] ?? null);
          const of = (part) => [...(base.series[name]?.[part] ?? new Array(base.at.length).fill(null)), ...heard];
          return { mean: of("mean"), min: of("min"), max: of("max") };
        },
      };
    },
  };
}

// What a model's document says now, by the names of the history. Scores only of a model of one shard: they do not add up.
function valuesOf(doc) {
  const values = { rate: doc.rate, lag: doc.lag };
  for (const [name, value] of Object.entries(doc.scores?.window ?? {})) values[`metric:${name}`] = value;
  for (const [baseline, scores] of Object.entries(doc.scores?.baselines ?? {})) {
    for (const [name, value] of Object.entries(scores ?? {})) {
      if (name.startsWith("window_")) values[`baseline:${baseline}:${name.slice(7)}`] = value;
    }
  }
  for (const name of ["p50", "p99"]) {
    const ages = doc.shards.map((shard) => shard.status?.freshness_ms?.[name]).filter(Boolean);
    if (ages.length) values[`freshness_${name}_s`] = Math.max(...ages) / 1000;
  }
  return values;
}
