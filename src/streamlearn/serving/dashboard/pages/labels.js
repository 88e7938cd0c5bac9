// How a model's labels come: after how long, what waits for them, what became of them, and what could not be learned.

import { toLimit } from "../lib/bars.js";
import { timeChart } from "../lib/charts.js";
import { h, replace, say } from "../lib/dom.js";
import { refresher } from "../lib/fresh.js";
import { plain } from "../lib/story.js";
import { number, percent, span, when } from "../lib/time.js";
import { empty, facts, failure, loading, modelTabs, pageHead, panel, table } from "../lib/views.js";

const FRESH_MS = 5000;

export async function mount(root, params, ctx) {
  const { model } = params;
  ctx.title(`Labels of ${model}`);
  const path = `/v1/models/${encodeURIComponent(model)}/labels`;
  const said = h("span", { class: "muted" });
  const problem = h("div");
  const body = h("div", { class: "page" });
  replace(root, pageHead(`Labels of ${model}`, said, modelTabs(model, "labels")), problem, body);
  replace(body, loading("Loading the labels"));
  const [wait, became, dead, newest] = [h("div", { class: "stack" }), h("div"), h("div"), h("div")];
  const curve = h("div");
  let drawn = null;
  let shown = {};

  async function load() {
    try {
      show(await ctx.api.get(path));
      replace(problem);
    } catch (error) {
      if (shown.body) replace(problem, failure(error, load));
      else replace(body, failure(error, load));
    }
  }

  function show(doc) {
    if (!shown.body) {
      replace(
        body,
        h(
          "div",
          { class: "grid" },
          panel(doc.slates ? "Slates" : "Waiting for their label", { "data-testid": "labels-waiting" }, null, wait, curve),
          panel("What became of them", { "data-testid": "labels-outcomes" }, null, became),
        ),
        panel("Dead letters by reason", { "data-testid": "labels-dead" }, null, dead),
        panel("Newest dead letters", { "data-testid": "labels-newest" }, null, newest),
      );
      shown.body = true;
    }
    say(said, doc.dead.total ? `${number(doc.dead.total)} events could not be learned` : "every event could be learned");
    draw("wait", wait, [doc.waiting, doc.early, doc.limits, doc.delay, doc.shards, doc.slates], () => waiting(doc));
    draw("curve", h("div"), doc.slates?.curve, () => drawCurve(doc.slates));
    draw("became", became, [doc.outcomes, doc.explain], () => outcomes(doc));
    draw("dead", dead, [doc.dead, doc.explain], () => reasons(doc));
    draw("newest", newest, doc.newest, () => letters(doc));
  }

  function draw(name, place, data, make) {
    const now = JSON.stringify(data);
    if (shown[name] === now) return;
    shown[name] = now;
    replace(place, make());
  }

  function drawCurve(slates) {
    if (!slates?.curve.length) return null;
    const series = [{ label: "of all clicks", values: slates.curve.map(([, share]) => share), color: 1, format: percent }];
    const at = slates.curve.map(([seconds]) => seconds);
    if (drawn) drawn.set({ at, series });
    else
      drawn = timeChart(curve, {
        what: "delays",
        title: "How late clicks come",
        unit: "share of all that come within the window",
        x: "number",
        xLabel: "seconds after the slate",
        at,
        series,
        zero: true,
      });
    return null;
  }

  await load();
  const off = ctx.live.on(`model:${model}`, refresher(load, FRESH_MS));
  return () => {
    off();
    drawn?.destroy();
  };
}

function slatesPart({ waiting, limits, slates }) {
  return [
    toLimit(
      waiting,
      limits.max_pending,
      `${number(waiting)} of at most ${number(limits.max_pending)} slates wait for clicks; at the limit the oldest make room`,
      waiting > 0.8 * limits.max_pending ? "over" : "",
    ),
    facts([
      ["Slates judged", number(slates.shown)],
      ["With a click", slates.click_rate === null ? null : percent(slates.click_rate)],
      ["Mean reward", slates.reward === null ? null : number(slates.reward)],
      ["A click is awaited for", span(slates.window_s)],
      ["Half of the clicks come within", slates.p50_s === null ? null : span(slates.p50_s)],
      ["90 % within", slates.p90_s === null ? null : span(slates.p90_s)],
      ["99 % within", slates.p99_s === null ? null : span(slates.p99_s)],
    ]),
    slates.curve.length ? null : h("p", { class: "muted" }, "No slate's time is over yet, so there is no delay to tell."),
  ];
}

function waiting(doc) {
  if (doc.slates) return slatesPart(doc);
  const { limits, delay } = doc;
  const events = delay?.events;
  const seconds = delay?.seconds;
  return [
    toLimit(
      doc.waiting,
      limits.max_pending,
      `${number(doc.waiting)} of at most ${number(limits.max_pending)} wait; at the limit the oldest make room`,
      doc.waiting > 0.8 * limits.max_pending ? "over" : "",
    ),
    facts([
      ["Labels that came first", number(doc.early)],
      ["A label is awaited for", span(limits.label_wait_s)],
      [
        "Then",
        limits.default_label === undefined
          ? null
          : limits.default_label === null
            ? "it is missed"
            : `${limits.default_label} is learned`,
      ],
    ]),
    events || seconds
      ? table(
          [
            { label: "Delay of the labels", head: true, cell: (one) => one[0] },
            { label: "in events", align: "end", cell: (one) => number(one[1]) },
            { label: "in time of the events", align: "end", cell: (one) => span(one[2]) },
          ],
          [
            ["half came within", events?.p50, seconds?.p50],
            ["90 % within", null, seconds?.p90],
            ["95 % within", events?.p95, null],
            ["99 % within", null, seconds?.p99],
          ].filter(([, a, b]) => (a ?? b ?? null) !== null),
          "How long labels took",
        )
      : h("p", { class: "muted" }, "No label has come yet, so there is no delay to tell."),
    doc.shards?.length > 1
      ? h(
          "details",
          { class: "more" },
          h("summary", null, "By shard"),
          table(
            [
              { label: "Shard", head: true, cell: (one) => one.shard },
              { label: "Waiting", align: "end", cell: (one) => number(one.waiting) },
              { label: "Early", align: "end", cell: (one) => number(one.early) },
              { label: "Learned", align: "end", cell: (one) => number(one.n) },
            ],
            doc.shards,
            "Labels by shard",
          ),
        )
      : null,
  ];
}

function outcomes(doc) {
  const rows = Object.entries(doc.outcomes);
  const all = Math.max(1, (doc.outcomes.joined ?? 0) + (doc.outcomes.missed ?? 0) + (doc.outcomes.defaulted ?? 0));
  const shares = new Set(doc.slates ? [] : ["joined", "missed", "defaulted"]);
  return table(
    [
      { label: "Outcome", head: true, cell: ([name]) => named(name, doc) },
      { label: "Count", align: "end", cell: ([, count]) => number(count) },
      { label: "Share", align: "end", cell: ([name, count]) => (shares.has(name) ? percent(count / all) : "") },
    ],
    rows,
    "What became of the labels, and of what waited for one",
    { row: ([name]) => ({ "data-testid": `outcome-${name}` }) },
  );
}

function named(name, doc) {
  return [plain(name), h("span", { class: "sub muted" }, doc.explain?.[name] ?? "")];
}

function reasons(doc) {
  const rows = Object.entries(doc.dead.reasons)
    .filter(([, count]) => count > 0)
    .sort((a, b) => b[1] - a[1]);
  if (!rows.length)
    return empty(
      "No dead letters",
      "Events that cannot be learned are put aside here with the reason, so that they can be mended and sent again.",
    );
  const most = rows[0][1];
  return table(
    [
      { label: "Reason", head: true, cell: ([name]) => named(name, doc) },
      {
        label: "Count",
        cell: ([, count]) =>
          h(
            "span",
            { class: "hbar" },
            h("span", { class: "hbar-fill side-1", style: { width: `${(100 * count) / most}%` } }),
            h("span", { class: "hbar-text" }, number(count)),
          ),
      },
    ],
    rows,
    "Dead letters by reason",
    { row: ([name]) => ({ "data-testid": `dead-${name}` }) },
  );
}

function letters(doc) {
  if (doc.newest === null)
    return h(
      "p",
      { class: "notice bad" },
      "The log cannot be read at the moment, so the letters cannot be shown; they are safe.",
    );
  if (!doc.newest.length) return h("p", { class: "muted" }, "None is kept.");
  const letter = (one) =>
    h(
      "li",
      { class: "entry letter" },
      h("span", { class: "muted" }, when(one.at)),
      h("span", { class: "entry-kind" }, plain(one.reason)),
      h(
        "span",
        { class: "wrap" },
        one.detail,
        h(
          "span",
          { class: "sub muted" },
          one.id === null ? "no id" : `id ${one.id}`,
          `, shard ${one.shard}, offset ${number(one.offset)}`,
        ),
      ),
    );
  return h("ul", { class: "entries" }, doc.newest.map(letter));
}
