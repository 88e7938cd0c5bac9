// A case as a story: each thing that happened in a section of its own, in order, with its numbers; live while it is open.

import { actionBar } from "../lib/actions.js";
import { h, replace, say } from "../lib/dom.js";
import { retrain } from "../lib/fits.js";
import { KINDS, ENDS, decision, diagnosis, moved, opening, test, windows } from "../lib/story.js";
import { number, span, when } from "../lib/time.js";
import { canary, recorded, trialPart, verdict } from "../lib/trial.js";
import { badge, facts, loading, pageHead } from "../lib/views.js";

// name, heading, content: (story, case) → nodes or null, when it was: (story) → its place in the control log or Unix seconds,
// and the parts of the story that it shows.
const PARTS = [
  ["alarm", (story) => (story.alarm ? "Alarm" : "Beginning"), opening, (story) => story.opened?.control, ["opened", "alarm"]],
  ["windows", () => "The windows and their losses", windows, (story) => story.test?.control, ["windows", "losses"]],
  ["test", () => "The test", test, (story) => story.test?.control, ["test"]],
  ["diagnosis", () => "Diagnosis", diagnosis, (story) => story.test?.control, ["diagnosis"]],
  [
    "features",
    () => "Features that moved",
    (story, doc) => moved(story, doc.model),
    (story) => story.test?.control,
    ["features"],
  ],
  ["decision", () => "Decision", decision, (story) => story.decision?.control, ["decision"]],
  ["retrain", () => "Retrain", retrain, (story) => story.retrain?.attempts.at(-1)?.at, ["retrain"]],
  ["trial", () => "Trial", null, (story) => story.trial?.began_at, ["trial"]],
  ["canary", () => "Canary", canary, (story) => story.trial?.canary?.began_at, ["trial"]],
  ["verdict", () => "Verdict", verdict, (story) => story.verdict?.control, ["verdict"]],
];

const ENDED = { good: "healthy", bad: "degraded", quiet: "closed" };

export async function mount(root, params, ctx) {
  const id = params.case;
  ctx.title(`Case ${id}`);
  replace(root, loading(`Loading case ${id}`));
  const first = await ctx.api.get(`/v1/cases/${encodeURIComponent(id)}`);
  const path = `/v1/models/${encodeURIComponent(first.model)}`;
  const model = await ctx.api.get(path).catch(() => null); // a case may outlive its model

  const state = h("span");
  const top = h("div", { class: "panel" });
  const bar = model === null ? null : actionBar(model, ctx.session);
  const list = h("ol", { class: "story" });
  const steps = h("div");
  const waits = h("p", { class: "muted", role: "status" });
  const modelLink = [`Model ${first.model}`, `#/model/${encodeURIComponent(first.model)}`];
  replace(
    root,
    pageHead(`Case ${id}`, state, [modelLink, ["Audit", `#/audit?${new URLSearchParams({ q: id })}`]]),
    top,
    bar,
    list,
    waits,
    h(
      "section",
      { class: "panel" },
      h("details", null, h("summary", null, h("h2", { class: "inline" }, "Every step, as it was recorded")), steps),
    ),
  );

  const trial = trialPart();
  const parts = PARTS.map(([name, title, content, time, needs]) =>
    makePart(name, title, time, content ?? ((story) => (story.trial ? trial.element : null)), needs),
  );
  list.append(...parts.map((part) => part.element));
  let drawn = "";

  function show(doc) {
    const { story } = doc;
    replace(state, doc.open ? badge("open") : badge(ENDED[ENDS[doc.outcome]?.[0]] ?? "closed", endWords(doc)));
    replace(
      top,
      facts([
        ["Kind", KINDS[doc.kind] ?? doc.kind],
        ["Model", h("a", { href: modelLink[1] }, doc.model)],
        ["Opened", when(doc.opened_at)],
        ["Closed", doc.closed_at === null ? null : [when(doc.closed_at), ` (open for ${span(doc.closed_at - doc.opened_at)})`]],
        [
          "Version",
          doc.version === null
            ? null
            : h("a", { href: `${modelLink[1]}/versions?version=${doc.version}` }, `version ${doc.version}`),
        ],
      ]),
    );
    for (const part of parts) part.show(story, doc);
    trial.set(story);
    say(waits, doc.open ? next(story) : "");
    const now = JSON.stringify(doc.steps);
    if (now !== drawn) replace(steps, recorded(doc));
    drawn = now;
  }

  show(first);
  let asking = false;
  async function changed(doc) {
    if (doc.story) return show(doc);
    if (asking) return;
    asking = true;
    try {
      show(await ctx.api.get(`/v1/cases/${encodeURIComponent(id)}`));
    } catch {
      // the next change asks again
    } finally {
      asking = false;
    }
  }
  const off = [ctx.live.on(`case:${id}`, changed)];
  if (bar !== null)
    off.push(ctx.live.on(`model:${first.model}`, (doc) => bar.update(doc.control ? doc : { ...model, ...doc })));
  return () => {
    off.forEach((end) => end());
    bar?.end();
    trial.destroy();
  };
}

/** A part of the story that is made again only when what it shows has changed. */
function makePart(name, title, time, content, needs) {
  const heading = h("h2");
  const moment = h("p", { class: "muted story-time" });
  const body = h("div", { class: "stack" });
  const element = h(
    "li",
    { class: "panel story-part", "data-testid": `story-${name}`, hidden: true },
    h("div", { class: "panel-head" }, heading, moment),
    body,
  );
  let shown = "";
  return {
    element,
    show(story, doc) {
      const now = JSON.stringify(needs.map((one) => story[one]));
      if (now === shown) return;
      shown = now;
      const made = content(story, doc);
      element.hidden = made === null || made === undefined;
      if (element.hidden) return;
      say(heading, title(story));
      replace(moment, timeWords(stepAt(doc, time(story)), story.opened));
      if (!(made instanceof Node && body.contains(made))) replace(body, made);
    },
  };
}

/** The step at a place in the control log, or at a time: both are exact. */
function stepAt(doc, place) {
  return doc.steps.find((step) => step.control === place || step.at === place) ?? null;
}

function timeWords(step, opened) {
  if (step === null) return [];
  const later = opened ? step.at - opened.at : 0;
  const events = opened ? step.n - opened.n : 0;
  const words = [later > 0 ? `+${span(later)}` : "", events > 0 ? `${number(events)} labelled events later` : ""];
  return [when(step.at), words.some(Boolean) ? `  ·  ${words.filter(Boolean).join(", ")}` : ""];
}

function endWords(doc) {
  return doc.outcome ? (ENDS[doc.outcome]?.[1] ?? doc.outcome.replaceAll("_", " ")) : "Closed";
}

/** What an open case waits for. */
function next(story) {
  if (story.verdict?.kind === "promoted")
    return "The promotion is watched: next comes the verdict whether the loss is back to what it was.";
  if (story.trial && story.trial.ended === null)
    return "The trial goes on until the evidence suffices, or its horizon is reached.";
  if (story.trial) return "The trial has ended; every shard is being told.";
  if (story.retrain?.attempts.at(-1)?.ended === null)
    return "Next: when the fit is done, the new version is tried beside the champion.";
  if (story.test || story.opened?.kind !== "drift") return "Next: the decision whether and when to retrain.";
  return "Next: the alarm is held against fresh labels, as soon as enough have come.";
}
