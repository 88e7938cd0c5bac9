// The parts of a case's story from its trial on: how the evidence grew, the canary, the verdict, and every step as recorded.

import { toLimit } from "./bars.js";
import { timeChart } from "./charts.js";
import { h, replace } from "./dom.js";
import { ENDS, plain } from "./story.js";
import { number, percent, when } from "./time.js";
import { facts, table } from "./views.js";

const LEAST = 1e-12;
const ten = (x) => number(10 ** x);
const power = (x) => (Math.abs(x) < 4 ? ten(x) : Number.isInteger(x) ? `1e${x}` : (10 ** x).toExponential(0).replace("+", ""));
const log = (x) => (x === null || x === undefined ? null : Math.log10(Math.max(x, LEAST)));

/** The trial; it stays in place and is brought up to date, so that its charts do not flicker. Returns {element, set(story), destroy()}. */
export function trialPart() {
  const lead = h("p", { class: "lead", "data-testid": "case-trial" });
  const bar = h("div");
  const numbers = h("div");
  const charts = h("div", { class: "growth" });
  const rest = h("div", { class: "stack" });
  const element = h("div", { class: "stack" }, lead, bar, numbers, charts, rest);
  let drawn = null;
  let shown = "";

  function set({ trial: told }) {
    if (!told || JSON.stringify(told) === shown) return;
    shown = JSON.stringify(told);
    replace(lead, inWords(told));
    replace(
      bar,
      told.e === null || told.threshold === null
        ? null
        : toLimit(
            scale(told.e),
            scale(told.threshold),
            `Evidence ${number(told.e)} of the ${number(told.threshold)} that is needed (the bar is on a logarithmic scale)`,
            told.e >= told.threshold ? "met" : "",
          ),
    );
    replace(
      numbers,
      facts([
        ["Events compared", number(told.events)],
        ["Loss of the champion", told.champion_loss === null ? null : number(told.champion_loss)],
        ["Loss of the challenger", told.challenger_loss === null ? null : number(told.challenger_loss)],
        ["Mean difference", told.mean === null ? null : number(told.mean)],
        ["Its interval", told.low === null ? null : `${number(told.low)} to ${number(told.high)}`],
        ["Highest e-value", told.peak === null ? null : number(told.peak)],
        ["Trial of this model", told.k === null ? null : `number ${number(told.k)}`],
        ["Tolerance", told.tolerance === null ? null : number(told.tolerance)],
        ["Error rate over all trials", told.alpha],
      ]),
    );
    draw(told);
    replace(rest, guardrails(told.guardrails), slices(told.slices));
  }

  function draw(told) {
    const { growth } = told;
    if (growth.events.length < 2) {
      if (drawn === null)
        replace(
          charts,
          h(
            "p",
            { class: "muted" },
            told.ended === null
              ? "How the evidence grows is drawn as soon as two points are there."
              : "How the evidence grew was not recorded for this trial.",
          ),
        );
      return;
    }
    const line = growth.events.map(() => log(told.threshold));
    const evidence = [
      { label: "e-value", values: growth.e.map(log), color: 1, format: ten, axis: power },
      { label: "needed", values: line, color: 5, dash: [6, 4], format: ten },
    ];
    const difference = [
      { label: "champion − challenger", values: growth.mean, low: growth.low, high: growth.high, color: 3 },
      { label: "no difference", values: growth.events.map(() => 0), color: 7, dash: [6, 4] },
    ];
    if (drawn === null) {
      replace(charts);
      const common = { x: "number", xLabel: "after events", at: growth.events, height: 190 };
      drawn = [
        timeChart(charts, {
          ...common,
          what: "trial-e",
          title: "Evidence for the challenger",
          unit: "e-value, logarithmic",
          series: evidence,
        }),
        timeChart(charts, {
          ...common,
          what: "trial-difference",
          title: "Difference of the mean losses",
          unit: "with its confidence interval",
          series: difference,
        }),
      ];
    } else {
      drawn[0].set({ at: growth.events, series: evidence });
      drawn[1].set({ at: growth.events, series: difference });
    }
  }

  return {
    element,
    set,
    destroy() {
      drawn?.forEach((chart) => chart.destroy());
    },
  };
}

function inWords(told) {
  if (told.ended === "trial_won") return [h("strong", null, "Won. "), told.why];
  if (told.ended === "trial_lost") return [h("strong", null, "Lost. "), told.why];
  const begun = `Version ${told.version} is tried on the same events as the champion. `;
  if (told.e === null || told.e === undefined) return `${begun}No event has been compared yet.`;
  const enough = told.threshold !== null && told.e >= told.threshold;
  const needs = enough ? `more than the ${number(told.threshold)} that is needed` : `and ${number(told.threshold)} is needed`;
  return `${begun}After ${number(told.events)} events the evidence that it is better is ${number(told.e)}, ${needs}.`;
}

function scale(x) {
  return Math.max(0, Math.log10(1 + Math.max(x, 0)));
}

function guardrails(all) {
  if (!all?.length) return null;
  const names = [...new Set(all.flatMap((one) => Object.keys(one)))];
  return h(
    "details",
    { class: "more", open: true },
    h("summary", null, "Guardrails"),
    table(
      names.map((name, i) => ({ label: plain(name), head: i === 0, cell: (one) => value(one[name]) })),
      all,
      "Guardrails",
    ),
  );
}

function slices(told) {
  if (!told) return null;
  const rows = Array.isArray(told)
    ? told
    : Object.entries(told).map(([name, one]) =>
        one && typeof one === "object" && !Array.isArray(one) ? { slice: name, ...one } : { slice: name, value: one },
      );
  if (!rows.length) return null;
  const names = [...new Set(rows.flatMap((one) => Object.keys(one)))];
  return h(
    "details",
    { class: "more" },
    h("summary", null, "Slices"),
    table(
      names.map((name, i) => ({ label: plain(name), head: i === 0, cell: (one) => value(one[name]) })),
      rows,
      "Slices",
    ),
  );
}

/** Anything as short text. */
export function value(x) {
  if (x === null || x === undefined || x === "") return "–";
  if (typeof x === "number") return number(x);
  if (typeof x === "boolean") return x ? "yes" : "no";
  if (Array.isArray(x)) return x.map(value).join(", ");
  return typeof x === "object"
    ? Object.entries(x)
        .map(([name, one]) => `${plain(name)} ${value(one)}`)
        .join(", ")
    : String(x);
}

/** The canary's steps. */
export function canary({ trial }) {
  const told = trial?.canary;
  if (!told) return null;
  const open = trial.ended === null;
  const steps = told.shares.map((share, i) => {
    const at =
      i + 1 < told.step || !open ? (i + 1 > told.step ? "not reached" : "done") : i + 1 === told.step ? "now" : "to come";
    return h(
      "li",
      { class: `step ${at.replace(" ", "-")}`, "aria-current": at === "now" ? "step" : null },
      h("strong", null, percent(share)),
      h("span", null, at),
    );
  });
  return [
    h(
      "p",
      { class: "lead" },
      open
        ? `Version ${trial.version} answers for ${percent(told.share)} of the keys.`
        : `Version ${trial.version} answered for ${percent(told.share)} of the keys at its last step.`,
    ),
    h("ol", { class: "steps", "aria-label": "Shares of the keys, step by step" }, steps),
    facts([
      ["Events at this share", told.events === undefined ? null : number(told.events)],
      ["Served outcomes known", told.served ? value(told.served) : null],
      ["Mean outcome", told.outcome ? value(told.outcome) : null],
      ["p of their difference", told.p === null || told.p === undefined ? null : number(told.p)],
      ["Level", told.level === undefined ? null : number(told.level)],
      ["Evidence against it", told.guard ? `${number(told.guard.e)} of ${number(told.guard.threshold)}` : null],
    ]),
  ];
}

/** How the case ended. */
export function verdict(story, doc) {
  const told = story.verdict;
  if (!told) return null;
  const [tone, words, meaning] = ENDS[told.kind] ?? ["quiet", plain(told.kind), ""];
  return [
    h(
      "p",
      { class: `verdict ${tone}`, "data-testid": "case-verdict", "data-kind": told.kind },
      h("strong", null, words),
      ` ${meaning}`,
    ),
    told.why ? h("p", null, told.why) : null,
    facts([
      ["Decided by", told.by],
      [
        "Version",
        told.version === null
          ? null
          : h(
              "a",
              { href: `#/model/${encodeURIComponent(doc.model)}/versions?version=${told.version}` },
              `version ${told.version}`,
            ),
      ],
    ]),
  ];
}

/** Every step as control recorded it. */
export function recorded(doc) {
  const columns = [
    { label: "When", head: true, cell: (step) => when(step.at) },
    { label: "Step", cell: (step) => plain(step.kind) },
    { label: "Events", align: "end", cell: (step) => number(step.n) },
    { label: "By", cell: (step) => step.by },
    { label: "Why", class: "text", cell: (step) => step.why },
    {
      label: "Record",
      cell: (step) =>
        h(
          "a",
          {
            href: `#/audit?${new URLSearchParams({ model: doc.model, open: String(step.control) })}`,
            "aria-label": `${plain(step.kind)} in the audit`,
          },
          `#${step.control}`,
        ),
    },
  ];
  return table(columns, doc.steps, "Every step of the case");
}
