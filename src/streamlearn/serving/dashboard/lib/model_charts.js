// Which of a model's series stand in which chart, and how they are read.

import { number, percent, span } from "./time.js";

const SHARES = new Set(["accuracy", "roc_auc", "positive_rate", "hit_rate", "click_rate", "coverage"]);
const FALLBACK = { binary: "accuracy", multiclass: "accuracy", regression: "mae", recommend: "ndcg" };

/** A metric's value as it is read: a share as a percentage. */
export function metricText(metric, value) {
  return SHARES.has(metric) ? percent(value) : number(value);
}

const OF_LISTS = { majority: "popular", no_change: "recent" }; // what the baselines of a recommender rank by

/** A baseline as it is called for the task. */
export function baselineName(name, task) {
  return task === "recommend" ? (OF_LISTS[name] ?? words(name)) : words(name);
}

/** The metrics that the history has, the model's main one first. */
export function metricsOf(view, task) {
  const main = FALLBACK[task];
  const names = view.names.filter((name) => name.startsWith("metric:")).map((name) => name.slice(7));
  return [main, ...names.filter((name) => name !== main).sort()];
}

/** The charts' options by name; one that has nothing to show is null. `metric`: the one of chart "metric". */
export function chartsOf(view, metric, task) {
  const common = { at: view.at, bridge: Math.max(45, 3 * view.step_s) };
  const line = (name, label, color, more = {}) => {
    const { mean, min, max } = view.get(name);
    return { label, color, values: mean, ...(more.band ? { low: min, high: max } : {}), ...more };
  };
  const text = (value) => metricText(metric, value);
  const baselines = view.names.filter((name) => name.startsWith("baseline:") && name.endsWith(`:${metric}`)).sort();
  const detectors = view.names.filter((name) => name.startsWith("detector:")).sort();
  const trial = view.get("trial_e").mean.some((value) => value !== null);
  return {
    metric: {
      ...common,
      title: `${words(metric)}, windowed`,
      series: [
        line(`metric:${metric}`, "model", 1, { band: true, format: text, width: 2 }),
        ...baselines.map((name, i) =>
          line(name, baselineName(name.split(":")[1], task), [7, 8, 6][i % 3], { dash: [5, 4], format: text, width: 1.25 }),
        ),
      ],
    },
    loss: {
      ...common,
      title: detectors.length ? "Loss and detectors" : "Loss",
      unit: detectors.length ? "mean loss left, statistics right" : "mean of recent labels",
      zero: true,
      series: [
        line("loss", "loss", 2, { band: true }),
        ...detectors.map((name, i) =>
          line(name, words(name.slice(9)), [4, 6, 8, 7][i % 4], { right: true, width: 1.25, dash: i ? [6, 3] : undefined }),
        ),
      ],
    },
    trial: trial && {
      ...common,
      title: "Trial",
      unit: "e-value; wins at the threshold",
      log: true,
      series: [line("trial_e", "e-value", 1, { width: 2 }), line("trial_threshold", "threshold", 5, { dash: [5, 4] })],
    },
    traffic: {
      ...common,
      title: "Events and lag",
      unit: "events/s left, records right",
      zero: true,
      series: [line("rate", "events/s", 1, { band: true }), line("lag", "lag", 2, { right: true, axis: whole, dash: [5, 3] })],
    },
    freshness: {
      ...common,
      title: "Freshness",
      unit: "from posted to learned",
      zero: true,
      series: [
        line("freshness_p50_s", "p50", 6, { format: span }),
        line("freshness_p99_s", "p99", 4, { format: span, dash: [5, 3] }),
      ],
    },
  };
}

/** The label of a tick where there are no fractions. */
function whole(value) {
  return Number.isInteger(value) ? number(value) : "";
}

/** A name as words: page_hinkley → page hinkley. */
export function words(name) {
  return name.replaceAll("_", " ");
}
