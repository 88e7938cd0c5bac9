// A model on one time axis: metric, loss, traffic and freshness, and all that happened to it.

import { actionBar } from "../lib/actions.js";
import { chartGroup, timeChart } from "../lib/charts.js";
import { h, replace, say } from "../lib/dom.js";
import { markStrip, markWords } from "../lib/marks.js";
import { baselineName, chartsOf, metricsOf, metricText, words } from "../lib/model_charts.js";
import { pastOf, RANGES } from "../lib/past.js";
import { clock, clockText, number, onTimeZone, since, span, when } from "../lib/time.js";
import { badge, empty, facts, failure, loading, modelTabs, pageHead, panel, table } from "../lib/views.js";

const ORDER = ["metric", "loss", "trial", "traffic", "freshness"];
const SHORTEST_S = 10; // a zoom
const MARKS_S = 10; // between two looks at the marks while nothing was decided

export async function mount(root, params, ctx) {
  const name = params.model;
  ctx.title(name);
  replace(root, pageHead(name, null, modelTabs(name, "model")), loading("Loading the model"));
  let doc = await ctx.api.get(`/v1/models/${encodeURIComponent(name)}`);
  const past = pastOf(name);
  let range = rangeOf(params);
  const backTo = [];
  let marks = [];
  let marksAt = 0;
  let metric = null;
  let busy = null; // what aborts the load under way
  let ended = false;

  const state = h("span", { class: "badges" });
  const reasons = h("div");
  const figures = h("section", { class: "panel", "aria-label": "Figures now", "data-testid": "figures" });
  const acts = actionBar(doc, ctx.session);
  const cases = h("div");
  const stage = h("div", { class: "charts-stage" });
  const problem = h("div");
  const cursor = h("p", { class: "cursor-time", "data-testid": "cursor-time" });
  const buttons = Object.keys(RANGES).map((key) =>
    h("button", { type: "button", "data-range": key, onclick: () => choose({ key }) }, key),
  );
  const back = h("button", { type: "button", class: "plain", "data-testid": "zoom-back", onclick: goBack }, "← Back");
  const select = h("select", { "aria-label": "Metric", "data-testid": "metric", onchange: () => pick(select.value) });
  const group = chartGroup(showCursor);
  const charts = new Map();
  const strip = markStrip(stage, link);

  replace(
    root,
    pageHead(name, state, modelTabs(name, "model")),
    reasons,
    figures,
    acts,
    h(
      "section",
      { class: "panel charts", "aria-label": "History", "data-testid": "charts" },
      h(
        "div",
        { class: "charts-head" },
        h("h2", { class: "sr" }, "History"),
        h("div", { class: "segmented", role: "group", "aria-label": "Time shown" }, buttons),
        back,
        select,
        cursor,
      ),
      problem,
      stage,
    ),
    cases,
  );

  function points() {
    return Math.max(120, Math.min(900, Math.floor(stage.clientWidth || 600)));
  }

  function bounds() {
    return range.key ? [clock() - RANGES[range.key], clock()] : [range.from, range.until];
  }

  /** Read all of a range and show it. */
  async function load() {
    busy?.abort();
    busy = new AbortController();
    const mine = busy;
    const [from, until] = bounds();
    stage.setAttribute("aria-busy", "true");
    try {
      await Promise.all([past.load(from, until, points(), mine.signal), readMarks(from, until)]);
      const begun = past.view().begun;
      if (!range.asked && begun > clock() - RANGES["5m"]) {
        range = { key: "5m", asked: true }; // a young model: an hour would squeeze all of it into the right edge
        return load();
      }
      replace(problem);
      paint();
    } catch (error) {
      if (error.name !== "AbortError" && !ended) replace(problem, failure(error, load));
    } finally {
      if (mine === busy) stage.removeAttribute("aria-busy");
    }
  }

  async function readMarks(from, until) {
    marksAt = clock();
    const found = await ctx.api.get(`/v1/models/${encodeURIComponent(name)}/marks`, {
      since: from.toFixed(3),
      until: until.toFixed(3),
    });
    marks = found.marks;
    replace(cases, caseList(marks));
  }

  function paint() {
    if (ended) return;
    const view = past.view();
    const all = metricsOf(view, doc.task);
    metric ??= all[0];
    if (select.children.length !== all.length)
      replace(
        select,
        all.map((one) => h("option", { value: one, selected: one === metric }, words(one))),
      );
    select.hidden = all.length < 2;
    const shown = bounds();
    const wanted = chartsOf(view, metric, doc.task);
    for (const what of ORDER) {
      const options = wanted[what];
      if (!options) {
        charts.get(what)?.destroy();
        charts.delete(what);
        continue;
      }
      const more = { marks, range: shown, rightAxis: true };
      if (charts.has(what)) charts.get(what).set({ ...options, ...more });
      else charts.set(what, placed(what, { ...options, ...more, what, group, onZoom: zoom }));
    }
    strip.set(marks, shown);
    const none = view.empty;
    stage.classList.toggle("nothing", none);
    if (none) replace(problem, empty("Nothing recorded in this time", hint()));
    else if (problem.querySelector("[data-testid=empty]")) replace(problem);
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.range === range.key));
    back.hidden = backTo.length === 0;
    showCursor(group.x);
  }

  function placed(what, options) {
    const chart = timeChart(stage, options);
    const after = ORDER.slice(ORDER.indexOf(what) + 1)
      .map((one) => charts.get(one)?.element)
      .find(Boolean);
    if (after) stage.insertBefore(chart.element, after);
    return chart;
  }

  function hint() {
    return doc.n
      ? "Choose a longer time; the history begins when control first ran with it."
      : "Post events with labels: what is learned shows here within seconds.";
  }

  function pick(chosen) {
    metric = chosen;
    paint();
  }

  function choose(next) {
    backTo.push(range);
    show(next);
  }

  function zoom(from, until) {
    const middle = (from + until) / 2;
    const half = Math.max(SHORTEST_S, until - from) / 2;
    choose({ from: middle - half, until: middle + half });
  }

  function goBack() {
    if (backTo.length) show(backTo.pop());
    if (backTo.length === 0) buttons.find((one) => one.dataset.range === range.key)?.focus();
  }

  function show(next) {
    range = next;
    const query = next.key ? `range=${next.key}` : `from=${next.from.toFixed(0)}&until=${next.until.toFixed(0)}`;
    history.replaceState(null, "", `#/model/${encodeURIComponent(name)}?${query}`);
    load();
  }

  function showCursor(x) {
    const [from, until] = bounds();
    const ends = range.key ? "now" : clockText(until);
    say(cursor, x === null ? `${clockText(from)} – ${ends}` : clockText(x));
  }

  function showModel() {
    replace(state, badge(doc.state || "starting"));
    replace(
      reasons,
      doc.degraded
        ? h(
            "div",
            { class: "notice", role: "status" },
            doc.degraded.map((text) => h("p", null, text)),
          )
        : null,
    );
    replace(figures, figuresNow(doc));
    acts.update(doc);
  }

  async function hear(next) {
    doc = next;
    showModel();
    if (!range.key) return;
    past.hear(doc, RANGES[range.key]);
    try {
      await past.more(RANGES[range.key], points());
      if (clock() - marksAt > MARKS_S) await readMarks(...bounds());
    } catch {
      return; // the header says that the service is away; what is shown stays
    }
    paint();
  }

  const stop = [
    ctx.live.on(`model:${name}`, hear),
    ctx.live.on("decision", (decision) => {
      if (decision.model === name) marksAt = 0;
    }),
    onTimeZone(() => showCursor(group.x)),
    acts.end,
  ];
  showModel();
  await load();

  return () => {
    ended = true;
    busy?.abort();
    for (const end of stop) end();
    for (const chart of charts.values()) chart.destroy();
  };
}

function rangeOf(params) {
  const [from, until] = [Number(params.from), Number(params.until)];
  if (until > from && from > 0) return { from, until };
  return { key: params.range in RANGES ? params.range : "1h", asked: params.range in RANGES };
}

function link(mark) {
  if (mark.case) return `#/case/${encodeURIComponent(mark.case)}`;
  return null;
}

function figuresNow(doc) {
  const metric = metricsOf({ names: [] }, doc.task)[0];
  const value = doc.scores?.window?.[metric];
  const ages = doc.shards.map((shard) => shard.age_s).filter((age) => age !== null);
  const baselines = Object.entries(doc.scores?.baselines ?? {}).map(([name, scores]) => [
    `${baselineName(name, doc.task)}, baseline`,
    metricText(metric, scores?.[`window_${metric}`] ?? null),
  ]);
  const canary = doc.control.canary;
  return facts([
    [`${words(metric)}, windowed`, value === undefined ? null : metricText(metric, value)],
    ...(value === undefined ? [] : baselines),
    ["Serves", doc.version === null ? "nothing yet" : `version ${doc.version}`],
    ["Canary", canary ? `version ${canary.version} for ${Math.round(canary.share * 100)} % of the keys` : null],
    ["In this state", doc.control.since ? since(doc.control.since) : null],
    ["Events/s", number(doc.rate)],
    ["Lag", number(doc.lag)],
    ["Served model's age", ages.length ? span(Math.max(...ages)) : "–"],
    ["Labels learned", number(doc.n)],
    ["Waiting for labels", number(doc.pending)],
    ["Dead letters", number(doc.dead)],
    ["Pipeline", doc.pipeline],
    ["Case", doc.case ? h("a", { href: `#/case/${encodeURIComponent(doc.case)}` }, doc.case) : null],
  ]);
}

function caseList(marks) {
  const found = marks.filter((mark) => mark.kind === "case" && mark.case).reverse();
  const columns = [
    { label: "Case", head: true, cell: (mark) => h("a", { href: link(mark) }, mark.case) },
    { label: "State", cell: (mark) => badge(mark.open ? "open" : "closed") },
    { label: "Opened", cell: (mark) => when(mark.at) },
    { label: "Lasted", align: "end", cell: (mark) => span((mark.open ? clock() : mark.until) - mark.at) },
    {
      label: "What",
      cell: (mark) => [mark.label || markWords(mark.kind), mark.detail ? h("span", { class: "sub" }, mark.detail) : null],
    },
  ];
  if (found.length === 0) return null;
  return panel(
    "Cases in this time",
    { "data-testid": "cases" },
    null,
    table(columns, found, "Drift cases in the time shown, newest first"),
  );
}
