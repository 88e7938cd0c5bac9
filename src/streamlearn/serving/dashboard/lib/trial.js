// The parts of a case's story from its trial on: how the evidence grew, the canary, the verdict, and every step as recorded.

import { toLimit } from "./bars.js";
import { timeChart } from "./charts.js";
import { h, replace } from "./dom.js";
import { ENDS, plain } from "./story.js";
import { number, percent, when } from "./time.js";
import { badge, facts, table } from "./views.js";

const LEAST = 1e-12; // e-values below are drawn there

/** The trial. It stays in place, so that its charts do not flicker. Returns {element, set(story), destroy()}. */
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
    if (told.ended !== null && !told.events) {
      for (const place of [bar, numbers, charts, rest]) replace(place); // there was none
      return;
    }
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
        [told.arms ? "Pairs of users compared" : "Events compared", number(told.events)],
        told.arms ? ["Users of the challenger", `${percent(told.arms)}, drawn at random`] : null,
        ["Loss of the champion", told.champion_loss === null ? null : number(told.champion_loss)],
        ["Loss of the challenger", told.challenger_loss === null ? null : number(told.challenger_loss)],
        ["Mean difference", told.mean === null ? null : number(told.mean)],
        ["Its interval", told.low === null ? null : `${number(told.low)} to ${number(told.high)}`],
        ["Highest e-value", told.peak === null ? null : number(told.peak)],
        ["Trial of this model", told.k === null ? null : `number ${number(told.k)}`],
        ["Tolerance", told.tolerance === null ? null : number(told.tolerance)],
        ["Error rate over all trials", told.alpha],
      ].filter(Boolean)),
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
    const at = growth.events;
    const range = [at[0], at[0] + (at.at(-1) - at[0]) * 1.04]; // room for the last tick's number
    const line = at.map(() => told.threshold);
    const evidence = [
      { label: "e-value", values: growth.e.map((e) => (e === null ? null : Math.max(e, LEAST))), color: 1 },
      { label: "needed", values: line, color: 5, dash: [6, 4] },
    ];
    const difference = [
      { label: "champion − challenger", values: growth.mean, low: growth.low, high: growth.high, color: 3 },
      { label: "no difference", values: at.map(() => 0), color: 7, dash: [6, 4] },
    ];
    if (drawn === null) {
      replace(charts);
      const common = { x: "number", xLabel: told.arms ? "after pairs of users" : "after events", at, range, height: 190 };
      drawn = [
        timeChart(charts, {
          ...common,
          what: "trial-e",
          log: true,
          title: "Evidence for the challenger",
          unit: "e-value, logarithmic",
          series: evidence,
        }),
        timeChart(charts, {
          ...common,
          what: "trial-difference",
          title: told.arms ? "Difference of the mean rewards missed" : "Difference of the mean losses",
          unit: "with its confidence interval",
          series: difference,
        }),
      ];
    } else {
      drawn[0].set({ at, range, series: evidence });
      drawn[1].set({ at, range, series: difference });
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
  if (told.ended !== null && !told.events) return [h("strong", null, "No trial was held. "), told.why];
  if (told.ended === "trial_won") return [h("strong", null, "Won. "), told.why];
  if (told.ended === "trial_lost") return [h("strong", null, "Lost. "), told.why];
  const begun = told.arms
    ? `Version ${told.version} answers for ${percent(told.arms)} of the users, drawn at random, and what they do is compared. `
    : `Version ${told.version} is tried on the same events as the champion. `;
  const what = told.arms ? "pairs of users" : "events";
  if (told.e === null || told.e === undefined) return `${begun}${told.arms ? "No pair of users" : "No event"} has been compared yet.`;
  const enough = told.threshold !== null && told.e >= told.threshold;
  const needs = enough ? `more than the ${number(told.threshold)} that is needed` : `and ${number(told.threshold)} is needed`;
  return `${begun}After ${number(told.events)} ${what} the evidence that it is better is ${number(told.e)}, ${needs}.`;
}

function scale(x) {
  return Math.max(0, Math.log10(1 + Math.max(x, 0)));
}

function guardrails(all) {
  if (!all?.length) return null;
  const both = (pair) => (pair?.length ? `${number(pair[0])} → ${number(pair[1])}` : "not measured");
  const columns = [
    { label: "Guardrail", head: true, cell: (one) => plain(one.metric) },
    { label: "May worsen by", align: "end", cell: (one) => allowance(one) },
    { label: "Over all, champion → challenger", align: "end", cell: (one) => both(one.all) },
    { label: "Of late", align: "end", cell: (one) => both(one.recent) },
    { label: "State", cell: (one) => (one.broken ? badge("degraded", "Broken") : badge("healthy", "Holds")) },
  ];
  return [h("h3", null, "Guardrails"), table(columns, all, "Guardrails of the trial")];
}

function allowance({ absolute, relative }) {
  const parts = [absolute > 0 || !relative ? number(absolute) : null, relative > 0 ? percent(relative) : null];
  return parts.filter(Boolean).join(" or ");
}

function slices(told) {
  if (!told?.rows?.length) return null;
  const columns = [
    { label: "Slice", head: true, cell: (one) => `${one.feature} = ${one.value}` },
    { label: "Events", align: "end", cell: (one) => number(one.n) },
    {
      label: "Loss, champion → challenger",
      align: "end",
      cell: (one) => `${number(one.champion)} → ${number(one.challenger)}`,
    },
    { label: "Evidence that it is worse", align: "end", cell: (one) => number(one.e) },
    { label: "State", cell: (one) => (one.worse ? badge("degraded", "Worse") : badge("healthy", "Holds")) },
  ];
  const words = `Slices: worse in ${number(told.worse)} of ${number(told.count)}`;
  return h("details", { class: "more", open: told.worse > 0 }, h("summary", null, words), table(columns, told.rows, "Slices"));
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
