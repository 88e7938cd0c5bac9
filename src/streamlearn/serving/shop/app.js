// The page: who looks, what is recommended to them, what they clicked, and what goes with that. One click is an event that the
// model learns; what it then recommends is shown as soon as it has.

import * as api from "../dashboard/lib/api.js";
import { h, replace, say } from "../dashboard/lib/dom.js";
import { empty, loading } from "../dashboard/lib/views.js";
import { card, titles } from "./cards.js";
import { act, afterwards, alike, described, recommend, search, settings } from "./service.js";
import { clicked, disliked, known, somebodyNew, visitor } from "./visitor.js";
import { titleOf } from "./words.js";

const RECENT = 5; // clicks whose companions explain a card
const SIMILAR = 8;
const TYPED_MS = 200;
const AGAIN_MS = 1000;

const state = { shop: null, who: visitor(), slate: null, before: null, likes: new Map(), chosen: null, busy: false };
let turn = 0; // of what is asked: an answer that was overtaken is not shown

const who = h("span", { class: "who", "data-testid": "who" });
const own = h("button", { type: "button", class: "plain", hidden: true, onclick: () => become(visitor()) }, "Be yourself again");
const told = h("p", { class: "told", role: "status", "data-testid": "told" });
const forYou = h("h2", { tabindex: -1, id: "for-you" }, "For you");
const slate = h("div", { "data-testid": "slate" });
const clicks = h("div");
const similar = h("section", { class: "panel", "aria-labelledby": "similar", hidden: true, "data-testid": "similar" });
const results = h("div", { "data-testid": "results" });

function lookAs() {
  const id = h("input", { type: "text", name: "user", "aria-label": "A user's id", placeholder: "user id", maxlength: 128,
    autocomplete: "off", required: true });
  const asked = (event) => {
    event.preventDefault();
    if (id.value.trim()) become(known(id.value.trim()));
    id.value = "";
  };
  return h("form", { class: "look-as", onsubmit: asked }, id, h("button", { type: "submit" }, "Look as this user"));
}

function searchField() {
  let waiting = 0;
  let latest = 0;
  const text = h("input", { type: "search", id: "search", maxlength: 100, autocomplete: "off", placeholder: "a title" });
  const look = async () => {
    const mine = ++latest;
    const wanted = text.value.trim();
    if (!wanted) return replace(results);
    try {
      const items = await search(wanted);
      if (mine !== latest) return;
      const pick = (item) => {
        text.value = "";
        latest += 1;
        replace(results);
        forYou.focus();
        click(item);
      };
      const count = items.length ? `${items.length} found: click one` : `Nothing is called “${wanted}”`;
      replace(results, h("p", { class: "muted", role: "status" }, count), titles(items, pick, "found"));
    } catch (error) {
      if (mine === latest) replace(results, h("p", { class: "error", role: "alert" }, `Not searched: ${error.message}`));
    }
  };
  text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, TYPED_MS);
  });
  const asked = (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    look();
  };
  return h("form", { class: "search", role: "search", onsubmit: asked }, h("label", { for: "search" }, "Find something else"), text);
}

/** The page's frame, once. */
function build() {
  replace(
    document.getElementById("header"),
    h("a", { class: "brand", href: "shop" }, "A shop of recommendations"),
    h("nav", { "aria-label": "Elsewhere" }, h("a", { href: "./" }, "Dashboard")),
    h(
      "div",
      { class: "header-end" },
      who,
      own,
      h("button", { type: "button", onclick: () => become(somebodyNew()), "data-testid": "anew" }, "Start over as somebody new"),
      lookAs(),
    ),
  );
  replace(
    document.getElementById("main"),
    h("h1", { class: "sr" }, "A shop of recommendations"),
    h(
      "div",
      { class: "shop" },
      h("section", { class: "shelf", "aria-labelledby": "for-you" }, h("div", { class: "shelf-head" }, forYou, told), slate),
      h(
        "div",
        { class: "side" },
        h("section", { class: "panel", "aria-label": "Search" }, searchField(), results),
        h(
          "section",
          { class: "panel", "aria-labelledby": "clicks" },
          h("div", { class: "panel-head" }, h("h2", { id: "clicks" }, "Your last clicks")),
          clicks,
        ),
        similar,
      ),
    ),
  );
}

/** Go on as this visitor. */
function become(next) {
  Object.assign(state, { who: next, slate: null, before: null, likes: new Map(), chosen: null });
  say(told, "");
  similar.hidden = true;
  showWho();
  showClicks();
  start();
}

function showWho() {
  replace(who, state.who.known ? "You look as user " : "You are ", h("strong", null, state.who.id));
  own.hidden = !state.who.known;
}

function showClicks() {
  const list = state.who.clicks;
  const nothing = state.who.known ? "None on this page yet." : "None yet: click what you like.";
  replace(clicks, list.length ? titles(list, null, "clicks") : h("p", { class: "muted" }, nothing));
}

function showSlate() {
  const { slate: now, who: person, before, likes, shop } = state;
  if (!now.items.length) {
    replace(slate, empty("There is nothing to show", "No item was described to the model yet, or none is available."));
    return;
  }
  const seen = { clicks: person.clicks, likes, before };
  const on = { click, dislike: shop.dislike ? (item) => answer(item, shop.dislike) : null };
  const hadFocus = slate.contains(document.activeElement);
  replace(slate, h("ol", { class: "cards-grid" }, now.items.map((item) => card(item, seen, on))));
  if (hadFocus) forYou.focus();
}

function click(item) {
  return answer(item, state.shop.click);
}

/** The visitor acts on an item: post it, then show what is recommended once it is learned. */
async function answer(item, action) {
  const mine = ++turn;
  const liked = action === state.shop.click;
  const began = performance.now();
  const shown = state.slate?.items.some((one) => one.item === item.item) ? state.slate.id : null;
  const { item: id, fields } = item;
  busy(true);
  say(told, `${titleOf(item)}: ${liked ? "clicked" : "not for you"}; learning…`);
  try {
    const ends = await act(state.shop, state.who, id, action, shown);
    state.who = liked ? clicked(state.who, { item: id, fields }) : disliked(state.who, id);
    showClicks();
    const found = await afterwards(state.shop, state.who, ends, began);
    if (mine !== turn) return;
    await Promise.all([liked ? goesWith(id) : null, liked ? showSimilar(item, mine) : null]);
    if (mine !== turn) return;
    state.before = new Set(state.slate?.items.map((one) => one.item) ?? []);
    state.slate = found.slate;
    showSlate();
    const late = `not learned within ${Math.round(found.ms)} ms yet: the learner is behind, or stands still`;
    say(told, found.learned ? `${titleOf(item)}: learned in ${Math.round(found.ms)} ms` : `${titleOf(item)}: ${late}`);
  } catch (error) {
    if (mine !== turn) return;
    say(told, "");
    failed(error, () => answer(item, action));
  } finally {
    if (mine === turn) busy(false);
  }
}

/** Learn which items go with a clicked one, for the words of cards. */
async function goesWith(item) {
  if (!state.likes.has(item)) state.likes.set(item, new Set((await alike(state.shop, item)).map((one) => one.item)));
}

async function showSimilar(item, mine) {
  const found = await alike(state.shop, item.item);
  const items = await described(state.shop, found.slice(0, SIMILAR).map((one) => one.item));
  if (mine !== turn) return;
  similar.hidden = false;
  const heading = h("div", { class: "panel-head" }, h("h2", { id: "similar" }, `Similar to ${titleOf(item)}`));
  const list = items.length ? titles(items, click, "alike") : h("p", { class: "muted" }, "Nothing that is known of yet.");
  replace(similar, heading, list);
}

function busy(is) {
  if (is) slate.setAttribute("aria-busy", "true");
  else slate.removeAttribute("aria-busy");
}

/** What went wrong; what is on the shelf stays below. */
function failed(error, retry) {
  const again = () => {
    box.remove();
    retry();
  };
  const title = error.problem?.title ?? "This page failed";
  const box = h("div", { class: "state-box failed", role: "alert", "data-testid": "failure" },
    h("p", { class: "state-title" }, title), h("p", null, error.message),
    h("button", { type: "button", onclick: again }, "Try again"));
  for (const old of slate.querySelectorAll("[data-testid=failure]")) old.remove();
  if (state.slate === null) replace(slate, box);
  else slate.prepend(box);
}

/** The first recommendations; asked again by itself while the model has not learned anything. */
async function start() {
  const mine = ++turn;
  busy(false);
  if (state.slate === null) replace(slate, loading("Asking what to show"));
  try {
    const session = await api.session();
    if (!session.signed_in) {
      replace(slate, empty("Sign in first", h("span", null, "This service asks for a key: ", h("a", { href: "./" }, "sign in"),
        " on the dashboard with one that may predict and write, then come back.")));
      return;
    }
    state.shop ??= await settings();
    const found = await recommend(state.shop, state.who);
    await Promise.all(state.who.clicks.slice(0, RECENT).map((one) => goesWith(one.item)));
    if (mine !== turn) return;
    state.slate = found;
    showSlate();
  } catch (error) {
    if (mine !== turn) return;
    if (error.problem?.type?.endsWith("/not-learned")) {
      replace(slate, empty("Nothing learned yet", "The model has not met its first events. This page looks again by itself."));
      setTimeout(() => mine === turn && start(), AGAIN_MS);
    } else failed(error, start);
  }
}

build();
become(state.who);
