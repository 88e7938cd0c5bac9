// A model's features: how far each has moved over time, what the newest look found, and the distributions of the chosen one.

import { pair } from "../lib/bars.js";
import { h, replace, say } from "../lib/dom.js";
import { refresher } from "../lib/fresh.js";
import { heatMap, psiWords } from "../lib/heat.js";
import { chance, featureFacts } from "../lib/story.js";
import { clock, number, percent, since, span, when } from "../lib/time.js";
import { badge, empty, failure, loading, modelTabs, pageHead, panel, table } from "../lib/views.js";

const RANGES = [
  [3600, "1 h"],
  [21600, "6 h"],
  [86400, "24 h"],
  [604800, "7 d"],
  [2592000, "30 d"],
];
const FRESH_MS = 15000;

export async function mount(root, params, ctx) {
  const { model } = params;
  ctx.title(`Features of ${model}`);
  const base = `/model/${encodeURIComponent(model)}/features`;
  const path = `/v1/models/${encodeURIComponent(model)}/features`;
  let range = RANGES.some(([seconds]) => String(seconds) === params.range) ? Number(params.range) : 3600;
  let picked = params.feature ?? null;
  let doc = null;
  let map = null;
  let shown = "";

  const said = h("span", { class: "muted" });
  const problem = h("div");
  const heat = h("div");
  const chosen = h("div", { class: "stack" });
  const list = h("div");
  const ranges = h(
    "div",
    { class: "segmented", role: "group", "aria-label": "Time shown" },
    RANGES.map(([seconds, words]) =>
      h(
        "button",
        {
          type: "button",
          "data-testid": `range-${seconds}`,
          "aria-pressed": String(seconds === range),
          onclick: () => choose(seconds),
        },
        words,
      ),
    ),
  );
  const chosenPanel = panel("The chosen feature", { "data-testid": "feature-chosen" }, null, chosen);
  const body = h(
    "div",
    { class: "page" },
    panel("Drift over time", { "data-testid": "feature-heat" }, ranges, heat),
    chosenPanel,
    panel("All features, as last looked at", { "data-testid": "feature-list" }, null, list),
  );
  replace(root, pageHead(`Features of ${model}`, said, modelTabs(model, "features")), problem, body);
  replace(heat, loading("Loading the features"));

  function remember() {
    const query = new URLSearchParams({ range: String(range), ...(picked ? { feature: picked } : {}) });
    history.replaceState(null, "", `#${base}?${query}`);
  }

  function choose(seconds) {
    range = seconds;
    for (const button of ranges.children)
      button.setAttribute("aria-pressed", String(button.dataset.testid === `range-${seconds}`));
    remember();
    load();
  }

  function pick(name) {
    picked = name;
    remember();
    show(doc);
    if (chosenPanel.getBoundingClientRect().top > innerHeight - 120) chosenPanel.scrollIntoView({ block: "center" });
  }

  async function load() {
    try {
      show(await ctx.api.get(path, { since: clock() - range, until: clock() }));
      replace(problem);
      body.hidden = false;
    } catch (error) {
      body.hidden = doc === null;
      replace(problem, failure(error, load));
    }
  }

  function show(next) {
    doc = next;
    say(said, inWords(doc));
    showHeat(doc);
    const now = JSON.stringify([doc.features, picked]);
    if (now === shown) return;
    shown = now;
    const names = doc.features.map((one) => one.name);
    if (!names.length) {
      chosenPanel.hidden = true;
      replace(
        list,
        doc.enabled === null
          ? empty(
              "A model that recommends has no features of its own",
              "It makes them of what users do with items. Ask for a recommendation with explain to see what moved its scores.",
            )
          : doc.enabled === false
          ? empty(
              "The features of this model are not watched",
              "Set enabled = true under [models.NAME.drift.features] in the configuration to watch them.",
            )
          : empty(
              "No look at the features yet",
              "A reference is made of the first events, and the next ones are held against it. Send events, then come back.",
            ),
      );
      return;
    }
    const one = doc.features.find((feature) => feature.name === picked) ?? doc.features[0];
    chosenPanel.hidden = false;
    say(chosenPanel.querySelector("h2"), `Feature ${one.name}`);
    replace(
      chosen,
      one.histogram
        ? pair(one.histogram, { title: "Its distribution", what: "feature", names: ["reference", "now"] })
        : h(
            "p",
            { class: "muted" },
            picked && !names.includes(picked)
              ? `${picked} is not among the features of the last look.`
              : "Its distributions were not recorded.",
          ),
      featureFacts(one),
    );
    replace(list, featureTable(doc, one.name, pick));
  }

  function showHeat({ heat: told }) {
    if (!told.at.length || !told.names.length) {
      map?.destroy();
      map = null;
      replace(
        heat,
        empty("Nothing recorded in this time", "Choose a longer time above. A value comes with each look at the features."),
      );
      return;
    }
    const set = { at: told.at, names: told.names, values: told.psi, picked: picked ?? told.names[0] };
    if (map === null) {
      replace(heat);
      map = heatMap(heat, { title: "Population stability index by feature and time", onPick: pick, ...set });
    } else map.set(set);
  }

  await load();
  const off = ctx.live.on(`model:${model}`, refresher(load, FRESH_MS));
  return () => {
    off();
    map?.destroy();
  };
}

function inWords(doc) {
  const moved = doc.features.filter((one) => one.differs).length;
  if (!doc.features.length) return "";
  const differ = moved ? `${moved} of ${doc.features.length} differ` : `None of ${doc.features.length} differs`;
  const reference = doc.reference ? ` of ${number(doc.reference.n)} events` : "";
  return `${differ} from the reference${reference}; looked at ${number(doc.looks)} times`;
}

function featureTable(doc, chosen, pick) {
  const columns = [
    {
      label: "Feature",
      head: true,
      cell: (one) =>
        h(
          "button",
          { type: "button", class: "link", "aria-pressed": String(one.name === chosen), onclick: () => pick(one.name) },
          one.name,
        ),
    },
    { label: "Type", cell: (one) => one.type },
    {
      label: "Now",
      cell: (one) =>
        one.differs ? badge("case", "Differs") : one.flagged_since ? badge("watch", "Flagged") : badge("healthy", "Same"),
    },
    { label: "PSI", align: "end", cell: (one) => h("span", { title: psiWords(one.psi) }, number(one.psi)) },
    { label: "p", align: "end", cell: (one) => chance(one.p) },
    { label: "e-value", align: "end", cell: (one) => number(one.e) },
    { label: "Missing, before → now", align: "end", cell: (one) => change(one.missing) },
    { label: "New values", align: "end", cell: (one) => percent(one.unseen ?? null) },
    { label: "Outside", align: "end", cell: (one) => percent(one.outside ?? null) },
    { label: "Flagged", cell: (one) => ((one.flagged_since ?? one.since) ? since(one.flagged_since ?? one.since) : "–") },
  ];
  const rows = [...doc.features].sort((a, b) => Number(b.differs) - Number(a.differs) || (b.psi ?? 0) - (a.psi ?? 0));
  return [
    table(columns, rows, "The features and how they differ from the reference", {
      row: (one) => ({ "data-testid": `row-${one.name}` }),
    }),
    doc.in_all > doc.features.length
      ? h("p", { class: "muted" }, `${number(doc.features.length)} of ${number(doc.in_all)} features are told apart.`)
      : null,
    doc.at ? h("p", { class: "muted" }, "Last looked at ", when(doc.at), ` (${span(clock() - doc.at)} ago).`) : null,
  ];
}

function change(both) {
  return both && (both[0] || both[1]) ? `${percent(both[0])} → ${percent(both[1])}` : "none";
}
