// Who looks at the shop: a visitor whose id the browser keeps, or a user who was named. No page but this one knows it.

const KEY = "streamlearn-shop-visitor";
const MOST = 12; // clicks that are remembered

/** A text of `n` random bytes, in hexadecimal digits; also where the page came without TLS. */
export function randomId(n = 8) {
  return Array.from(crypto.getRandomValues(new Uint8Array(n)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The visitor that the browser knows, else a new one: {id, clicks: [{item, fields}], denied: [id]}, the newest first. */
export function visitor() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    if (typeof kept?.id === "string" && Array.isArray(kept.clicks) && Array.isArray(kept.denied)) return kept;
  } catch {
    // what is kept cannot be read, or nothing may be kept here: a new one then
  }
  return keep({ id: `visitor-${randomId(4)}`, clicks: [], denied: [] });
}

/** Somebody whom nobody has seen before. */
export function somebodyNew() {
  return keep({ id: `visitor-${randomId(4)}`, clicks: [], denied: [] });
}

/** A user who is known by this id; nothing of them is kept in the browser. */
export function known(id) {
  return { id, clicks: [], denied: [], known: true };
}

/** The visitor with an item clicked. */
export function clicked(who, item) {
  const clicks = [item, ...who.clicks.filter((one) => one.item !== item.item)].slice(0, MOST);
  return keep({ ...who, clicks });
}

/** The visitor who wants an item no more. */
export function disliked(who, item) {
  const clicks = who.clicks.filter((one) => one.item !== item);
  return keep({ ...who, clicks, denied: [item, ...who.denied.filter((one) => one !== item)].slice(0, 100) });
}

function keep(who) {
  try {
    if (!who.known) localStorage.setItem(KEY, JSON.stringify(who));
  } catch {
    // the page works all the same, until it is left
  }
  return who;
}
