// Why an item is where it is, in words. An explanation names ranking features and what each added to the item's score (before it
// was made a probability); features of one kind are taken together, and what is claimed of other items was looked up.

const SOURCES = {
  popular: "Popular",
  recent: "Trending",
  covisit: "Liked together",
  factors: "Your taste",
  content: "Alike",
  segment: "People like you",
  available: "In the shop",
  seen: "Clicked before",
};
// By kind: what raises the score, and what lowers it; a single text where the number alone does not say which way it went.
const PLAIN = {
  popular: ["popular", "its popularity"],
  recent: ["popular today", "how it does today"],
  covisit: ["goes with what you clicked", "what goes with your clicks"],
  next: ["often comes next after what you clicked", "what comes next after your clicks"],
  factors: ["suits a taste like yours", "a taste like yours"],
  content: ["like what you clicked", "how like your clicks it is"],
  segment: ["popular with people like you", "what people like you liked"],
  "item.count": "how many liked it",
  "item.age": "how new it is",
  "item.idle": "when it was last liked",
  "item.rising": "how it does today",
  "item.rising_slowly": "how it does this week",
  "item.heat": "how liked it is these days",
  "item.click_rate": "how often it is clicked when shown",
  "item.unseen": "whether anybody has liked it yet",
};
const KINDS = { cosine: "covisit", taste: "content" }; // other measures of the same
const MOST = 3;

/** A source of candidates in a word or two. */
export function sourceWords(source) {
  return SOURCES[source] ?? source;
}

/**
 * The at most three kinds of features that moved the score most: [{kind, words, value}]. `item` is the recommended one, `clicks`
 * those that were clicked, the newest first, `likes` a Map from each of these to the Set of the items that go with it.
 */
export function reasons(item, clicks, likes) {
  const sums = new Map();
  for (const { feature, contribution } of item.why ?? []) {
    const kind = kindOf(feature);
    sums.set(kind, (sums.get(kind) ?? 0) + contribution);
  }
  return [...sums]
    .filter(([, value]) => Math.abs(value) >= 0.005)
    .sort(([, a], [, b]) => Math.abs(b) - Math.abs(a))
    .slice(0, MOST)
    .map(([kind, value]) => ({ kind, value, words: said(kind, value, item, clicks, likes) }));
}

/** What a feature belongs to: its source of candidates, or what it counts of the item; crossed ones to the first. */
export function kindOf(feature) {
  const [name] = feature.split("*");
  const first = name.split(".")[0].replace(/_\d.*$/, "");
  const kind = KINDS[first] ?? first;
  if (kind in PLAIN) return kind;
  return name.startsWith("item.heat") ? "item.heat" : name;
}

/** Whether a kind of features has words of its own; else its name has to do. */
export function hasWords(kind) {
  return kind in PLAIN;
}

/** What an item is called. */
export function titleOf(item) {
  return String(item.fields?.title ?? item.item);
}

/** The genres of an item, as a list. */
export function genresOf(item) {
  return String(item.fields?.genres ?? "").split("|").filter(Boolean);
}

function said(kind, value, item, clicks, likes) {
  const plain = PLAIN[kind] ?? kind.replace(/[._]/g, " ");
  if (typeof plain === "string") return plain;
  if (value < 0) return plain[1];
  if (kind === "covisit") {
    const other = clicks.find((one) => likes.get(one.item)?.has(item.item));
    if (other) return `often liked together with ${titleOf(other)}`;
  }
  if (kind === "content") {
    const known = new Set(clicks.flatMap(genresOf));
    const shared = genresOf(item).filter((genre) => known.has(genre));
    if (shared.length) return `shares genres: ${shared.join(", ")}`;
  }
  return plain[0];
}
