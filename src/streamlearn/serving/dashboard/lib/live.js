// What happens at the service while one looks: one stream of server-sent events for all topics that are wanted.
// It reconnects by itself, resumes after the last decision that was seen, and says since when nothing was heard.

import { url } from "./api.js";
import { clock } from "./time.js";

const SILENCE_S = 25; // the service says something every ten seconds at least
const TRIES_S = [1, 2, 4, 8, 15];
const KINDS = ["fleet", "model", "case", "decision", "missed", "beat"];

const wanted = new Map(); // topic -> Set of functions
const last = new Map(); // topic -> its newest document
const watchers = new Set();
let source = null;
let opened = ""; // the topics of `source`
let status = { state: "connecting", since: clock() };
let heard = clock();
let after = null;
let tries = 0;
let timer = null;
let planned = false;

export const live = {
  /**
   * Call `fn` with the document of `topic` whenever it changes: "fleet", "model:NAME", "case:ID"; "decision": each record of
   * the audit trail; "missed": {from, until}, the decisions that could not be made up for. The returned function ends it.
   */
  on(topic, fn) {
    if (!wanted.has(topic)) wanted.set(topic, new Set());
    wanted.get(topic).add(fn);
    plan();
    return () => {
      wanted.get(topic)?.delete(fn);
      if (wanted.get(topic)?.size === 0) {
        wanted.delete(topic);
        last.delete(topic);
      }
      plan();
    };
  },
  /** The newest document of a topic that is listened to, or undefined. */
  newest: (topic) => last.get(topic),
  /** {state: "connecting" | "live" | "stale", since: Unix seconds}. */
  get status() {
    return status;
  },
  /** Call `fn` with the status now and whenever it changes; the returned function ends it. */
  watch(fn) {
    watchers.add(fn);
    fn(status);
    return () => watchers.delete(fn);
  },
  /** Connect afresh at once, for instance after signing in. */
  restart() {
    tries = 0;
    connect(true);
  },
  /** Hear nothing any more, until `restart` or a new topic. */
  stop() {
    drop();
    clearTimeout(timer);
  },
};

function topics() {
  return [...wanted.keys()]
    .filter((topic) => /^(fleet$|model:|case:)/.test(topic))
    .sort()
    .join(",");
}

function plan() {
  if (planned) return;
  planned = true;
  queueMicrotask(() => {
    planned = false;
    if (wanted.size === 0) live.stop();
    else if (source === null || topics() !== opened) connect(false);
  });
}

function connect(anew) {
  if (!anew && wanted.size === 0) return;
  drop();
  clearTimeout(timer);
  opened = topics();
  const query = new URLSearchParams({ topics: opened });
  if (after !== null) query.set("after", after);
  const mine = new EventSource(url(`/v1/live?${query}`));
  source = mine;
  if (status.state !== "stale") become("connecting");
  for (const kind of KINDS) mine.addEventListener(kind, (event) => mine === source && hear(kind, event));
  mine.onerror = () => mine === source && lost();
}

function hear(kind, event) {
  heard = clock();
  tries = 0;
  if (event.lastEventId) after = event.lastEventId;
  become("live");
  if (kind === "beat") return;
  const doc = JSON.parse(event.data);
  const topic = kind === "model" ? `model:${doc.name}` : kind === "case" ? `case:${doc.id}` : kind;
  if (kind !== "decision" && kind !== "missed") last.set(topic, doc);
  for (const fn of [...(wanted.get(topic) ?? [])]) fn(doc);
}

function lost() {
  drop();
  become("stale");
  const wait = TRIES_S[Math.min(tries, TRIES_S.length - 1)] * (0.75 + Math.random() / 2);
  tries += 1;
  clearTimeout(timer);
  timer = setTimeout(() => connect(false), wait * 1000);
}

function drop() {
  source?.close();
  source = null;
}

function become(state) {
  if (status.state === state) return;
  status = { state, since: state === "stale" ? heard : clock() };
  for (const fn of watchers) fn(status);
}

setInterval(() => {
  if (source !== null && status.state !== "stale" && clock() - heard > SILENCE_S && wanted.size) lost();
}, 1000);
addEventListener("online", () => status.state === "stale" && live.restart());
