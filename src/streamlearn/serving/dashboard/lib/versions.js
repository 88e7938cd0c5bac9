// The parts of the page of versions: lineage, what served when, one version in full, and what differs between two.

import { h } from "./dom.js";
import { plain } from "./story.js";
import { clock, clockText, number, percent, since, span, when } from "./time.js";
import { value } from "./trial.js";
import { badge, empty, facts, table } from "./views.js";

const FATES = {
  champion: ["healthy", "Serves"],
  previous: ["watch", "Served before"],
  shadow: ["trial", "In the shadow"],
  trial: ["trial", "On trial"],
  fitting: ["retraining", "Being fitted"],
  fitted: ["retraining", "Fitted"],
  failed: ["degraded", "Not fitted"],
  dropped: ["closed", "Dropped"],
  lost: ["closed", "Lost its trial"],
  rolled_back: ["rolling_back", "Rolled back"],
  retired: ["closed", "Retired"],
};
const METRICS = ["ndcg", "hit_rate", "mrr", "accuracy", "roc_auc", "log_loss", "mae", "rmse", "r2", "f1", "kappa"];

/** The fate of a version as a badge. */
export function fate(doc) {
  const [state, words] = FATES[doc.fate] ?? ["closed", plain(doc.fate) || "unknown"];
  return badge(state, words);
}

/** A link that shows a version. */
export function versionLink(model, version, words = `version ${version}`) {
  return h("a", { href: `#/model/${encodeURIComponent(model)}/versions?version=${version}` }, words);
}

/** Versions as a tree of parents and what came of them. */
export function lineage(model, items) {
  const known = new Set(items.map((doc) => doc.version));
  const children = new Map();
  for (const doc of items) {
    const parent = known.has(doc.parent) ? doc.parent : null;
    children.set(parent, [...(children.get(parent) ?? []), doc]);
  }
  const node = (doc) =>
    h("div", { class: "lineage-node" }, versionLink(model, doc.version), fate(doc), h("span", { class: "muted" }, origin(doc)));
  // A chain stays in one column; where several came of one version, all but the newest begin a column of their own.
  const branch = (first) => {
    const out = [];
    for (let doc = first; doc; ) {
      const next = children.get(doc.version) ?? [];
      const aside = next.slice(0, -1).map((one) => h("ul", { class: "lineage" }, branch(one)));
      out.push(h("li", null, node(doc), aside));
      doc = next.at(-1);
    }
    return out;
  };
  return h("ul", { class: "lineage" }, (children.get(null) ?? []).map(branch));
}

function origin(doc) {
  const from = doc.parent === null || doc.parent === undefined ? "" : ` from version ${doc.parent}`;
  if (doc.reason === "registered") return "the first";
  if (doc.reason === "import") return `imported${from}`;
  if (doc.case) return `made in case ${doc.case}${from}`;
  return `${plain(doc.reason)}${from}`;
}

/** What served when, as a strip and as a table. `items`: the stretches of GET /v1/models/{model}/history. */
export function served(model, items) {
  if (!items.length)
    return empty("Nothing has served yet", "The first version serves as soon as its learner has published it.");
  const [begin, end] = [items[0].since.at, clock()];
  const whole = Math.max(end - begin, 1e-9);
  const place = (t) => (100 * (t - begin)) / whole;
  const words = (one) => `version ${one.version}, ${clockText(one.since.at)} – ${one.until ? clockText(one.until.at) : "now"}`;
  const parts = items.map((one) =>
    h(
      "a",
      {
        class: `served-part tone-${1 + ((one.version - 1) % 8)}`,
        href: `#/model/${encodeURIComponent(model)}/versions?version=${one.version}`,
        title: words(one),
        "aria-label": words(one),
        style: {
          left: `${place(one.since.at)}%`,
          width: `${Math.max(0.3, place(one.until?.at ?? end) - place(one.since.at))}%`,
        },
      },
      `v${one.version}`,
    ),
  );
  const columns = [
    { label: "Version", class: "nowrap", head: true, cell: (one) => versionLink(model, one.version) },
    { label: "Since", cell: (one) => when(one.since.at) },
    { label: "Until", cell: (one) => (one.until ? when(one.until.at) : "now") },
    { label: "For", align: "end", cell: (one) => span((one.until?.at ?? end) - one.since.at) },
    { label: "By", cell: (one) => one.by },
    {
      label: "Why",
      class: "text",
      class: "text",
      cell: (one) => [
        one.why,
        one.case ? [" (", h("a", { href: `#/case/${encodeURIComponent(one.case)}` }, `case ${one.case}`), ")"] : null,
      ],
    },
  ];
  return [
    h("div", { class: "served", role: "group", "aria-label": "What served when", "data-testid": "chart-served" }, parts),
    h("div", { class: "served-ends", "aria-hidden": "true" }, when(begin), h("span", null, "now")),
    table(columns, [...items].reverse(), "What served when, newest first"),
  ];
}

/** How many versions there are, how many are kept, and what those take in the store, in words. */
export function counted(items) {
  const kept = items.filter((doc) => doc.kept);
  const bytes = kept.flatMap((doc) => Object.values(doc.blobs ?? {})).reduce((sum, blob) => sum + (blob.bytes ?? 0), 0);
  const size = bytes ? ` (${number(bytes / 1e6)} MB)` : "";
  return `${items.length} ${items.length === 1 ? "version" : "versions"}, ${kept.length} kept${size}`;
}

/** Whether the store has a version, or when it was dropped. */
function isKept(doc) {
  if (doc.kept) return "yes";
  return doc.dropped ? ["dropped ", since(doc.dropped)] : "no";
}

/** All versions in a row each, newest first; two can be chosen to be compared. */
export function list(model, items, chosen, choose) {
  const pick = (doc) =>
    h("input", {
      type: "checkbox",
      "aria-label": `Compare version ${doc.version}`,
      "data-testid": `compare-${doc.version}`,
      checked: chosen.includes(doc.version),
      onchange: (event) => choose(doc.version, event.target.checked),
    });
  const columns = [
    { label: "Compare", cell: pick },
    { label: "Version", class: "nowrap", head: true, cell: (doc) => versionLink(model, doc.version) },
    { label: "Fate", cell: fate },
    {
      label: "Parent",
      align: "end",
      cell: (doc) => (doc.parent === null ? "–" : versionLink(model, doc.parent, `v${doc.parent}`)),
    },
    { label: "Made", class: "nowrap", cell: (doc) => since(doc.created) },
    { label: "Fitted on", align: "end", cell: (doc) => (doc.learned === null ? "–" : `${number(doc.learned)} events`) },
    { label: "Evidence", align: "end", cell: (doc) => (doc.trial ? number(doc.trial.e) : "–") },
    {
      label: "Loss in its trial",
      align: "end",
      cell: (doc) =>
        doc.trial?.champion_loss === undefined || doc.trial?.champion_loss === null
          ? "–"
          : `${number(doc.trial.champion_loss)} → ${number(doc.trial.challenger_loss)}`,
    },
    { label: "Kept", class: "nowrap", cell: isKept },
    {
      label: "Decided by, why",
      class: "text",
      cell: (doc) => [
        h("strong", null, doc.promoted?.by ?? doc.by),
        " ",
        h("span", { class: "muted" }, doc.promoted?.why ?? doc.why),
      ],
    },
  ];
  return table(columns, [...items].reverse(), "Versions, newest first", {
    row: (doc) => ({ "data-testid": `row-${doc.version}` }),
  });
}

/** One version in full. `doc`: of GET /v1/models/{model}/versions/{version}. */
export function inFull(doc) {
  const { promoted, trial } = doc;
  const scores = Object.entries(promoted?.scores ?? {});
  const caseLink = doc.case ? h("a", { href: `#/case/${encodeURIComponent(doc.case)}` }, doc.case) : null;
  return [
    facts([
      ["Fate", fate(doc)],
      ["Parent", doc.parent === null ? null : versionLink(doc.model, doc.parent)],
      ["Case", caseLink],
      ["Made", doc.created === null ? null : when(doc.created)],
      ["By", doc.by || null],
      ["Kept", isKept(doc)],
      ["Fitted on", doc.learned === null ? null : `${number(doc.learned)} events`],
      ["Passed over", doc.skipped ? `${number(doc.skipped)} events` : null],
      ["Fit took", doc.fit_s === null ? null : span(doc.fit_s)],
      ["Pipeline", doc.settings?.pipeline ?? null],
      ["Features", doc.features_in_all === null ? null : number(doc.features_in_all)],
      ["Imported from", doc.origin ? value(doc.origin) : null],
    ]),
    doc.why ? h("p", null, doc.why) : null,
    doc.dropped && !doc.kept
      ? h(
          "p",
          { class: "notice" },
          "Its bytes were dropped, since newer versions are kept (retrain.keep_versions) and nothing needed it: it cannot be " +
            "promoted again or exported. What is known of it stays.",
        )
      : null,
    Object.keys(doc.unusable ?? {}).length
      ? h(
          "p",
          { class: "notice bad" },
          `Its kept model cannot be used: ${Object.entries(doc.unusable)
            .map(([shard, why]) => `shard ${shard}: ${why}`)
            .join("; ")}`,
        )
      : null,
    trial && (trial.events || !trial.ended)
      ? [
          h("h3", null, "Trial"),
          facts([
            [
              "Evidence",
              trial.e === null || trial.e === undefined
                ? null
                : `${number(trial.e)}${trial.threshold ? ` of ${number(trial.threshold)}` : ""}`,
            ],
            ["Events", told(trial.events)],
            ["Loss of the champion", told(trial.champion_loss)],
            ["Its own loss", told(trial.challenger_loss)],
            ["Mean difference", told(trial.mean_difference)],
            ["Interval", trial.interval ? `${number(trial.interval[0])} to ${number(trial.interval[1])}` : null],
            ["Ended", trial.ended ? plain(trial.ended) : "not yet"],
          ]),
        ]
      : null,
    promoted
      ? [
          h("h3", null, "Promotion"),
          facts([
            ["When", when(promoted.at)],
            ["By", promoted.by],
            [
              "Instead of",
              promoted.instead_of === null || promoted.instead_of === undefined
                ? null
                : versionLink(doc.model, promoted.instead_of),
            ],
            ["Labelled events by then", number(promoted.n)],
            ...scores.flatMap(([shard, one]) =>
              metrics(one).map(([name, score]) => [scores.length > 1 ? `${name}, shard ${shard}` : name, score]),
            ),
          ]),
          h("p", null, promoted.why),
        ]
      : null,
    h("h3", null, "Decisions about it"),
    table(
      [
        { label: "When", head: true, cell: (one) => when(one.at) },
        { label: "Decision", cell: (one) => plain(one.kind) },
        { label: "By", cell: (one) => one.by },
        { label: "Why", class: "text", cell: (one) => one.why },
        {
          label: "Record",
          cell: (one) =>
            h(
              "a",
              {
                href: `#/audit?${new URLSearchParams({ model: doc.model, open: String(one.control) })}`,
                "aria-label": `${plain(one.kind)} in the audit`,
              },
              `#${one.control}`,
            ),
        },
      ],
      doc.decisions,
      "Decisions about this version",
    ),
    models(doc),
    h(
      "details",
      { class: "more" },
      h("summary", null, "Everything that is known of it"),
      h(
        "pre",
        { class: "pre", tabindex: 0, role: "region", "aria-label": `Version ${doc.version} in full` },
        JSON.stringify(doc, null, 2),
      ),
    ),
  ];
}

/** A number as a fact: null where it is not known. */
function told(x) {
  return x === null || x === undefined ? null : number(x);
}

function metrics(scores) {
  const window = scores?.window ?? scores ?? {};
  return METRICS.filter((name) => typeof window[name] === "number")
    .slice(0, 4)
    .map((name) => [plain(name), name === "accuracy" || name === "roc_auc" ? percent(window[name]) : number(window[name])]);
}

function models(doc) {
  const known = Object.keys(doc.serving ?? {}).length
    ? ["As it serves now", doc.serving]
    : Object.keys(doc.fitted ?? {}).length
      ? ["As it was fitted", doc.fitted]
      : null;
  if (!known) return null;
  const shards = Object.entries(known[1]);
  return [
    h("h3", null, known[0]),
    shards.map(([shard, one]) =>
      facts([
        ["Shard", shards.length > 1 ? shard : null],
        ...Object.entries(one)
          .filter(([, x]) => typeof x !== "object" || x === null)
          .slice(0, 12)
          .map(([name, x]) => [plain(name), value(x)]),
      ]),
    ),
  ];
}

/** What differs between two versions. `doc`: {a, b, differences: [{part, what, a, b}]}. */
export function difference(doc) {
  if (!doc.differences.length) return h("p", null, `Nothing that is known of versions ${doc.a} and ${doc.b} differs.`);
  const columns = [
    { label: "Part", cell: (one) => plain(one.part) },
    { label: "What", head: true, cell: (one) => one.what },
    { label: `Version ${doc.a}`, align: "end", cell: (one) => h("span", { class: "wrap" }, value(one.a)) },
    { label: `Version ${doc.b}`, align: "end", cell: (one) => h("span", { class: "wrap" }, value(one.b)) },
    {
      label: "Change",
      align: "end",
      cell: (one) => (typeof one.a === "number" && typeof one.b === "number" ? number(one.b - one.a) : ""),
    },
  ];
  return table(columns, doc.differences, `What differs between versions ${doc.a} and ${doc.b}`);
}
