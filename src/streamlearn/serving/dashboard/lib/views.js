// What every page is made of: states of loading, emptiness and failure; badges; tables; panels.

import { ApiError } from "./api.js";
import { h, s } from "./dom.js";

/** What stands for a part of the page while it is fetched. */
export function loading(what = "Loading") {
  return h(
    "p",
    { class: "state-box loading", role: "status", "data-testid": "loading" },
    h("span", { class: "spinner", "aria-hidden": "true" }),
    `${what}…`,
  );
}

/** There is nothing, and what to do so that there will be. `whatToDo`: text or nodes. */
export function empty(what, whatToDo) {
  return h(
    "div",
    { class: "state-box", "data-testid": "empty" },
    h("p", { class: "state-title" }, what),
    h("p", null, whatToDo),
  );
}

/** Something failed: what, why, and what to do; `retry` is called by its button, if given. */
export function failure(error, retry) {
  const known = error instanceof ApiError;
  const title = known ? error.problem.title || "The service refused" : "This page failed";
  const detail = known ? error.problem.detail : String(error?.message ?? error);
  return h(
    "div",
    { class: "state-box failed", role: "alert", "data-testid": "failure" },
    h("p", { class: "state-title" }, title),
    h("p", null, detail),
    h("p", { class: "muted" }, advice(known ? error.status : -1, error)),
    retry ? h("button", { type: "button", onclick: retry }, "Try again") : null,
  );
}

function advice(status, error) {
  if (status === 0)
    return "Is streamlearn serve running? What was on the page stays; it is fetched again when the service is back.";
  const scope = error.problem?.scope ? ` “${error.problem.scope}”` : "";
  if (status === 403) return `Sign in with a key that has the scope${scope}.`;
  if (status === 404) return "It may never have been, or its name may have changed: the Fleet page lists what there is.";
  if (status === 429) return "Too many requests: wait a moment, then try again.";
  if (status === 503) return "The service is there, but what it needs is not. See /readyz for what is missing.";
  return "Try again; if it stays, the service's log has the reason.";
}

// state -> [words, tone, glyph]; a state is told by words and shape, its colour only helps.
const STATES = {
  healthy: ["Healthy", "good", "circle"],
  steady: ["Healthy", "good", "circle"],
  starting: ["Starting", "quiet", "dashes"],
  case: ["Case open", "warn", "triangle"],
  confirmed: ["Drift confirmed", "warn", "triangle"],
  retraining: ["Retraining", "busy", "diamond"],
  trial: ["Trial", "busy", "halves"],
  canary: ["Canary", "busy", "quarter"],
  watch: ["Watching", "quiet", "ring"],
  closing: ["Closing", "quiet", "ring"],
  rolling_back: ["Rolling back", "warn", "back"],
  held: ["Held", "bad", "bars"],
  degraded: ["Degraded", "bad", "cross"],
  open: ["Open", "warn", "triangle"],
  closed: ["Closed", "quiet", "circle"],
};
const GLYPHS = {
  circle: "M6 1.2a4.8 4.8 0 1 0 0 9.6a4.8 4.8 0 1 0 0-9.6z",
  ring: "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10zm0 2.6a2.4 2.4 0 1 1 0 4.8a2.4 2.4 0 1 1 0-4.8z",
  triangle: "M6 .8L11.6 10.8H.4z",
  diamond: "M6 .4L11.6 6L6 11.6L.4 6z",
  halves: "M.8 1.2H5.2V10.8H.8zM6.8 3.6H11.2V10.8H6.8z",
  quarter: "M6 1a5 5 0 1 0 5 5H6z",
  bars: "M1.6 1H4.8V11H1.6zM7.2 1H10.4V11H7.2z",
  cross: "M2.6 .8L6 4.2L9.4 .8L11.2 2.6L7.8 6L11.2 9.4L9.4 11.2L6 7.8L2.6 11.2L.8 9.4L4.2 6L.8 2.6z",
  dashes: "M1 5H3.4V7.4H1zM4.8 5H7.2V7.4H4.8zM8.6 5H11V7.4H8.6z",
  back: "M5.4 .8V3.6H11.2V8.4H5.4V11.2L.4 6z",
};

/** A small sign of the given shape, for the eye alone. */
export function glyph(name) {
  return s(
    "svg",
    { class: "glyph", viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" },
    s("path", { d: GLYPHS[name], "fill-rule": "evenodd" }),
  );
}

/** A state in words, shape and colour; one that is not known by its own name. `words` stands in for the usual ones. */
export function badge(state, words = null) {
  const [usual, tone, shape] = STATES[state] ?? [String(state || "unknown").replaceAll("_", " "), "quiet", "circle"];
  return h("span", { class: `badge ${tone}`, "data-testid": "state", "data-state": state }, glyph(shape), words ?? usual);
}

/**
 * A table that scrolls by itself when it is too wide. `columns`: [{label, cell(row) → node or text, align: "end", class, head}],
 * `head: true` for the cell that names the row. `options`: row(row) → its <tr>’s attributes; visible: the caption is seen.
 */
export function table(columns, rows, caption, options = {}) {
  const head = h(
    "tr",
    null,
    columns.map((one) => h("th", { scope: "col", class: classes(one) }, one.label)),
  );
  const body = rows.map((row) =>
    h(
      "tr",
      options.row?.(row),
      columns.map((one) => h(one.head ? "th" : "td", { scope: one.head ? "row" : null, class: classes(one) }, one.cell(row))),
    ),
  );
  return h(
    "div",
    { class: "table-scroll", role: "region", tabindex: 0, "aria-label": caption },
    h(
      "table",
      null,
      h("caption", { class: options.visible ? null : "sr" }, caption),
      h("thead", null, head),
      h("tbody", null, body),
    ),
  );
}

function classes(column) {
  return [column.align === "end" ? "end" : "", column.class ?? ""].filter(Boolean).join(" ") || null;
}

/** A part of a page with its heading. `props`: attributes, such as data-testid; `aside`: what stands beside the heading. */
export function panel(title, props, aside, ...children) {
  return h(
    "section",
    { ...props, class: `panel ${props?.class ?? ""}` },
    h("div", { class: "panel-head" }, h("h2", null, title), aside),
    children,
  );
}

/** Names and values, a description list. `items`: [[name, value]]; a null value leaves the item out. */
export function facts(items) {
  return h(
    "dl",
    { class: "facts" },
    items
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );
}

/** The head of a page: its title, which takes the focus on navigation, what is said beside it, and links to its parts. */
export function pageHead(title, beside, links = []) {
  return h(
    "div",
    { class: "page-head" },
    h("h1", { tabindex: -1 }, title),
    beside,
    links.length
      ? h(
          "nav",
          { "aria-label": "Parts of this page" },
          links.map(([label, href, current]) => h("a", { href, class: "tab", "aria-current": current ? "page" : null }, label)),
        )
      : null,
  );
}

/** The tabs of a model's pages. `current`: "model", "features", "versions" or "labels". */
export function modelTabs(name, current) {
  const root = `#/model/${encodeURIComponent(name)}`;
  return [
    ["Overview", root, current === "model"],
    ...["features", "versions", "labels"].map((part) => [
      part[0].toUpperCase() + part.slice(1),
      `${root}/${part}`,
      current === part,
    ]),
  ];
}
