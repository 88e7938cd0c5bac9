// The audit trail, newest first: searched, filtered and paged; what is asked stands in the address, so that it can be shared.

import { h, replace, say } from "../lib/dom.js";
import { plain } from "../lib/story.js";
import { number, when } from "../lib/time.js";
import { empty, failure, loading, pageHead } from "../lib/views.js";

const PAGE = 50;
const FIELDS = ["q", "model", "type", "kind", "by", "since", "until"];
const TYPES = [
  ["", "Anything"],
  ["decision", "Decisions"],
  ["request", "Requests"],
  ["claim", "Claims of learners"],
  ["key_made", "Keys made"],
  ["key_revoked", "Keys revoked"],
  ["refused", "Refusals"],
  ["notified", "Notices sent"],
];
const KINDS = [
  "case_opened",
  "confirmed",
  "rejected",
  "expired",
  "retrain_started",
  "retrain_kept",
  "retrain_asked",
  "retrained",
  "retrain_failed",
  "trial_started",
  "canary_started",
  "trial_won",
  "trial_lost",
  "promoted",
  "recovered",
  "not_recovered",
  "rollback_started",
  "rollback_failed",
  "rolled_back",
  "detached",
  "held",
  "resumed",
  "range_skipped",
  "imported",
  "version_dropped",
  "request_refused",
  "feature_drift",
  "broken_input",
  "detectors_reset",
  "rebuilt",
  "registered",
  "silenced",
];

export async function mount(root, params, ctx) {
  ctx.title("Audit");
  const asked = Object.fromEntries(FIELDS.map((name) => [name, params[name] ?? ""]));
  const open = params.open ?? "";
  let newest = null; // the control offset of the newest entry shown

  const inputs = {};
  const field = (name, label, input) => {
    inputs[name] = input;
    return h("label", { class: "field" }, h("span", null, label), input);
  };
  const text = (name, placeholder, type = "text") =>
    h("input", { type, name, value: asked[name], placeholder, "data-testid": `audit-${name}`, autocomplete: "off" });
  const select = (name, all) =>
    h(
      "select",
      { name, "data-testid": `audit-${name}`, onchange: submit },
      all.map(([value, words]) => h("option", { value, selected: value === asked[name] }, words)),
    );
  const kinds = [
    ["", "Any kind"],
    ...[...new Set([...KINDS, ...(asked.kind ? [asked.kind] : [])])].sort().map((kind) => [kind, plain(kind)]),
  ];
  const clear = h(
    "button",
    { type: "button", class: "plain", "data-testid": "audit-clear", onclick: () => ctx.go("#/audit") },
    "Clear",
  );
  const form = h(
    "form",
    { class: "filters panel", role: "search", "aria-label": "Search the audit trail", onsubmit: submit },
    field("q", "Search", text("q", "words, a case, a reason …", "search")),
    field("model", "Model", text("model", "any")),
    field("type", "Record", select("type", TYPES)),
    field("kind", "Kind", select("kind", kinds)),
    field("by", "By", text("by", "anyone")),
    field("since", "Since, UTC", text("since", "2026-01-31 14:00")),
    field("until", "Until, UTC", text("until", "now")),
    h("button", { type: "submit", class: "primary", "data-testid": "audit-search" }, "Search"),
    FIELDS.some((name) => asked[name]) || open ? clear : null,
  );
  const count = h("span", { class: "muted", role: "status" });
  const news = h("div");
  const list = h("div", { class: "entries" });
  const more = h("div");
  replace(root, pageHead("Audit", count), form, news, h("section", { class: "panel" }, list, more));

  function submit(event) {
    event.preventDefault();
    const query = new URLSearchParams(FIELDS.map((name) => [name, inputs[name].value.trim()]).filter(([, value]) => value));
    ctx.go(`#/audit${query.size ? `?${query}` : ""}`);
  }

  function query(after = null) {
    const found = { order: "desc", limit: PAGE, after };
    for (const name of FIELDS)
      if (asked[name]) found[name] = name === "since" || name === "until" ? moment(asked[name]) : asked[name];
    return found;
  }

  async function load(after = null) {
    replace(more, loading("Reading the audit trail"));
    try {
      const page = await ctx.api.get("/v1/audit", query(after));
      show(page, after);
    } catch (error) {
      replace(
        more,
        failure(error, () => load(after)),
      );
    }
  }

  function show(page, after) {
    if (after === null) newest = page.items[0]?.control ?? -1;
    list.append(...page.items.map((doc) => entry(doc, String(doc.control) === open)));
    replace(
      more,
      page.next
        ? h("button", { type: "button", "data-testid": "audit-more", onclick: () => load(page.next) }, "Older entries")
        : null,
    );
    if (list.children.length === 0)
      replace(
        more,
        FIELDS.some((name) => asked[name])
          ? empty("Nothing matches", "Use fewer or other words, or clear the filters.")
          : empty("Nothing has been decided yet", "Every decision and every request will stand here as soon as a model runs."),
      );
    const shown = list.children.length;
    const all = page.total > shown ? ` of ${number(page.total)}` : "";
    say(count, shown ? `${number(shown)}${all} ${shown === 1 ? "entry" : "entries"}, newest first` : "");
  }

  async function pinned() {
    if (!open || [...list.children].some((one) => one.dataset.control === open)) return;
    try {
      const { items } = await ctx.api.get("/v1/audit", {
        order: "asc",
        limit: 1,
        ...(Number(open) > 0 ? { after: String(Number(open) - 1).padStart(20, "0") } : {}),
      });
      if (items[0] && String(items[0].control) === open) list.prepend(entry(items[0], true));
    } catch {
      say(count, `Entry #${open} could not be found.`);
    }
  }

  await load();
  await pinned();
  list.querySelector("details[open]")?.scrollIntoView({ block: "center" });

  let fresh = 0;
  return ctx.live.on("decision", (doc) => {
    if (newest !== null && doc.control <= newest) return;
    if (asked.until || !fits(doc, asked)) return;
    if (!asked.q && !asked.since) {
      newest = doc.control;
      list.prepend(entry(doc, false));
      if (list.children.length === 1) replace(more);
      return;
    }
    fresh += 1;
    replace(
      news,
      h(
        "p",
        { class: "notice" },
        `${fresh} newer ${fresh === 1 ? "entry" : "entries"} since this search. `,
        h("button", { type: "button", onclick: () => ctx.go(location.hash || "#/audit") }, "Search again"),
      ),
    );
  });
}

function fits(doc, asked) {
  return (
    (!asked.model || asked.model === doc.model) &&
    (!asked.type || asked.type === doc.type) &&
    (!asked.kind || asked.kind === (doc.kind ?? doc.action)) &&
    (doc.by ?? "").toLowerCase().includes(asked.by.toLowerCase())
  );
}

/** What was typed as a time, as the service reads it: spaces and a missing zone are forgiven. */
function moment(text) {
  const found = /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?))?$/.exec(text);
  if (!found) return text;
  const time = found[2] ?? "00:00:00";
  return `${found[1]}T${time.length === 5 ? `${time}:00` : time}Z`;
}

function entry(doc, open) {
  const what =
    doc.type === "decision" ? plain(doc.kind) : doc.type === "request" ? `asked: ${plain(doc.action)}` : plain(doc.type);
  const why = doc.why || doc.reason || (doc.type === "claim" ? `${doc.holder ?? "a learner"} takes shard ${doc.shard}` : "");
  const body = h("div", { class: "entry-body" });
  const details = h(
    "details",
    {
      class: "entry",
      "data-testid": "audit-entry",
      "data-control": String(doc.control),
      ontoggle: () => details.open && body.childElementCount === 0 && fill(body, doc),
    },
    h(
      "summary",
      null,
      h("span", { class: "muted" }, when(doc.at ?? null)),
      h("span", { class: "wrap" }, doc.model || "–"),
      h(
        "span",
        { class: "entry-kind" },
        what,
        doc.took_effect === false ? h("span", { class: "sub none" }, "without effect") : null,
      ),
      h(
        "span",
        { class: "entry-why" },
        why || h("span", { class: "none" }, "no reason given"),
        doc.by ? h("span", { class: "sub none" }, `by ${doc.by}`) : null,
      ),
    ),
    body,
  );
  if (open) details.open = true;
  return details;
}

function fill(body, doc) {
  const links = [
    doc.model ? h("a", { href: `#/model/${encodeURIComponent(doc.model)}` }, `Model ${doc.model}`) : null,
    doc.case ? h("a", { href: `#/case/${encodeURIComponent(doc.case)}` }, `Case ${doc.case}`) : null,
    h("a", { href: `#/audit?open=${doc.control}` }, `Link to entry #${doc.control}`),
  ].filter(Boolean);
  replace(
    body,
    h(
      "p",
      null,
      links.flatMap((link, i) => (i ? ["  ·  ", link] : [link])),
    ),
    h(
      "pre",
      { class: "pre", tabindex: 0, role: "region", "aria-label": `Entry ${doc.control} in full` },
      JSON.stringify(doc, null, 2),
    ),
  );
}
