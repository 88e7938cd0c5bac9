// How items look: cards of recommendations, and short lists.

import { h, hidden } from "../dashboard/lib/dom.js";
import { genresOf, reasons, sourceWords, titleOf } from "./words.js";

/** A card. `seen`: {clicks, likes, before} for its words; `on`: {click(item), dislike(item) or null}. */
export function card(item, seen, on) {
  const title = titleOf(item);
  const why = reasons(item, seen.clicks, seen.likes);
  const fresh = seen.before !== null && !seen.before.has(item.item);
  return h(
    "li",
    { class: fresh ? "card fresh" : "card", "data-testid": "card", "data-item": item.item },
    h(
      "div",
      { class: "card-head" },
      h("span", { class: "place", "aria-hidden": "true" }, item.position),
      h("span", { class: "badge", title: "The source of candidates that named it first", "data-testid": "source" },
        sourceWords(item.source)),
      fresh ? h("span", { class: "badge good", "data-testid": "fresh" }, "New") : null,
    ),
    h(
      "button",
      { class: "card-title", type: "button", onclick: () => on.click(item), "data-testid": "pick" },
      h("strong", null, title),
      h("span", { class: "muted" }, about(item)),
      hidden(`, place ${item.position}: click it`),
    ),
    why.length
      ? h("ul", { class: "why", "aria-label": `Why ${title} is here`, "data-testid": "why" }, why.map(reason))
      : null,
    h(
      "div",
      { class: "card-foot" },
      h(
        "details",
        null,
        h("summary", null, "Numbers", hidden(` of ${title}`)),
        h(
          "dl",
          { class: "numbers", "data-testid": "numbers" },
          number("Score", item.score.toFixed(4)),
          number("Propensity", item.propensity.toFixed(4)),
          (item.why ?? []).map((one) => number(one.feature, signed(one.contribution))),
        ),
      ),
      on.dislike
        ? h(
            "button",
            { class: "plain", type: "button", onclick: () => on.dislike(item), "data-testid": "dislike" },
            "Not for me",
            hidden(`: ${title}`),
          )
        : null,
    ),
  );
}

/** A list of items by their titles; those that can be clicked are buttons. */
export function titles(items, click, testid) {
  return h(
    "ul",
    { class: "titles", "data-testid": testid },
    items.map((item) =>
      h(
        "li",
        null,
        click
          ? h("button", { class: "row", type: "button", onclick: () => click(item), "data-item": item.item }, named(item))
          : h("span", { class: "row", "data-item": item.item }, named(item)),
      ),
    ),
  );
}

function named(item) {
  return [h("span", null, titleOf(item)), h("span", { class: "muted" }, about(item))];
}

function about(item) {
  return [item.fields?.year, genresOf(item).join(", ")].filter(Boolean).join(" · ");
}

function reason({ kind, words, value }) {
  const up = value > 0;
  return h(
    "li",
    { "data-kind": kind },
    h("span", { class: up ? "up" : "down", "aria-hidden": "true" }, up ? "▲" : "▼"),
    hidden(up ? "raised by: " : "lowered by: "),
    words,
  );
}

function number(name, value) {
  return h("div", null, h("dt", null, name), h("dd", null, value));
}

function signed(value) {
  return (value > 0 ? "+" : "") + value.toFixed(3);
}
