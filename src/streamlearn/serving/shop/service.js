// What the page asks the service. Everything but /shop/… is its public API.

import * as api from "../dashboard/lib/api.js";
import { randomId } from "./visitor.js";

const POLL_MS = 150;
const PATIENCE_MS = 2000;
const SHOWN = 12;
const ALIKE = 100; // items that count as going with a clicked one

/** The model's name, its stream, and the actions of a click and of a dislike (null: there is none). */
export function settings() {
  return api.get("/shop/settings");
}

/** Twelve items for the visitor, explained; the slate is logged under its `id` with `log`. */
export function recommend(shop, who, id = randomId(), log = true) {
  const question = { user: who.id, k: SHOWN, explain: true, fields: true, deny: who.denied, id, log };
  return api.post(`/v1/recommend/${shop.model}`, question);
}

/** Post that the visitor acted on an item, shown in the `slate` or not (null); by partition, where the log then ended. */
export async function act(shop, who, item, action, slate) {
  const event = { stream: shop.stream, user: who.id, item, action, id: slate ?? randomId() };
  const answer = await api.post("/v1/events", event);
  return answer.positions[shop.stream] ?? {};
}

/**
 * Ask until an answer comes from a model that has learned all before `ends`, or for two seconds. {slate, learned, ms}: the last
 * answer, logged; whether it knows; and how long that took. Those before are not logged: nobody has seen them.
 */
export async function afterwards(shop, who, ends, began = performance.now()) {
  const id = randomId();
  for (;;) {
    const slate = await recommend(shop, who, id, false);
    const learned = slate.position.offset >= (ends[slate.position.partition] ?? 0);
    const ms = performance.now() - began;
    if (learned || ms > PATIENCE_MS) return { slate: await recommend(shop, who, id), learned, ms };
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** The items that go with one, the most alike first: [{item, score}]. */
export async function alike(shop, item) {
  return (await api.get(`/v1/similar/${shop.model}/${encodeURIComponent(item)}`, { k: ALIKE })).items;
}

/** What is known of items, in the order of their ids; without those that are not offered any more. */
export async function described(shop, ids) {
  if (!ids.length) return [];
  const question = { items: ids, k: ids.length, seen: false, fields: true, log: false };
  const answer = await api.post(`/v1/rank/${shop.model}`, question);
  const known = new Map(answer.items.map((one) => [one.item, one]));
  return ids.filter((id) => known.has(id)).map((id) => known.get(id));
}

/** Items by words of their title. */
export async function search(text) {
  return (await api.get("/shop/items", { q: text })).items;
}
