// The part of a case's story that tells of its retrain: attempts, progress, and the search among candidates.

import { progress } from "./bars.js";
import { h } from "./dom.js";
import { byShard, plain } from "./story.js";
import { number, percent, span, when } from "./time.js";
import { table } from "./views.js";

/** The fits, with the progress of the one that runs. */
export function retrain({ retrain: told }) {
  if (!told) return null;
  const last = told.attempts.at(-1);
  const running = last && last.ended === null;
  const columns = [
    { label: "Attempt", head: true, cell: (one) => number(one.attempt) },
    { label: "Begun", cell: (one) => when(one.at, "time") },
    {
      label: "What",
      class: "text",
      cell: (one) => [one.why, one.reason ? h("span", { class: "sub muted" }, plain(one.reason)) : null],
    },
    { label: "From offset", align: "end", cell: (one) => byShard(one.window?.starts) ?? "–" },
    { label: "To offset", align: "end", cell: (one) => byShard(one.window?.until) ?? "–" },
    {
      label: "Took",
      align: "end",
      cell: (one) => (one.took_s === null ? (one.ended_at ? span(one.ended_at - one.at) : "–") : span(one.took_s)),
    },
    { label: "Result", cell: (one) => (one.ended === null ? "under way" : one.ended === "retrained" ? "fitted" : "failed") },
  ];
  return [
    h(
      "p",
      { class: "lead" },
      running
        ? `Version ${told.version} is being fitted.`
        : `Version ${told.version} ${last?.ended === "retrained" ? `was fitted in ${span(told.took_s)}` : "was not fitted"}.`,
    ),
    told.progress
      ? h(
          "div",
          { class: "progress-line" },
          progress(told.progress.done, told.progress.total, `Fit of version ${told.version}`),
          h("span", null, progressWords(told.progress)),
        )
      : running
        ? h("p", { class: "muted" }, "The fit waits for its turn, or has just begun.")
        : null,
    table(columns, told.attempts, "Attempts to fit"),
    told.search ? search(told.search) : null,
  ];
}

function progressWords({ done, total }) {
  return `${number(done)} of ${number(total)} records (${percent(total ? done / total : 0)})`;
}

function search(told) {
  const rows = [...(told.candidates ?? [])].sort(
    (a, b) =>
      Number(b.name === told.winner) - Number(a.name === told.winner) || b.rungs - a.rungs || (a.loss ?? 0) - (b.loss ?? 0),
  );
  const columns = [
    {
      label: "Candidate",
      head: true,
      cell: (one) => [one.name, one.name === told.winner ? h("span", { class: "sub good-text" }, "chosen") : null],
    },
    { label: "Loss", align: "end", cell: (one) => number(one.loss) },
    {
      label: "Worse than the best by",
      align: "end",
      cell: (one) =>
        one.difference ? `${number(one.difference[0])} (${number(one.difference[1])} to ${number(one.difference[2])})` : "–",
    },
    { label: "Fitted on", align: "end", cell: (one) => number(one.fitted) },
    { label: "CPU", align: "end", cell: (one) => span(one.seconds) },
    { label: "Dropped", cell: (one) => one.dropped || "–" },
  ];
  return h(
    "details",
    { class: "more" },
    h("summary", null, `Search: ${rows.length} candidates, scored on ${number(told.scored)} events`),
    h("p", null, told.why),
    table(columns, rows, "Candidates"),
  );
}
