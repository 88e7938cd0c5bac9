// Every model in a row, worst first.

import { h, replace, s, say } from "../lib/dom.js";
import { metricText, words } from "../lib/model_charts.js";
import { number, since, span } from "../lib/time.js";
import { badge, empty, loading, pageHead, table } from "../lib/views.js";

const SPARK = { width: 150, height: 34 };

export async function mount(root, params, ctx) {
  ctx.title("Fleet");
  const count = h("span", { class: "muted" });
  const notices = h("div");
  const body = h("div");
  replace(root, pageHead("Fleet", count), notices, body);
  replace(body, loading("Loading the models"));
  let shown = null;

  function show(fleet) {
    shown = fleet;
    const focused = document.activeElement?.closest?.("tr")?.dataset.testid;
    const scroll = body.querySelector(".table-scroll")?.scrollLeft ?? 0;
    say(count, inWords(fleet.models));
    replace(notices, warnings(fleet));
    replace(
      body,
      fleet.models.length
        ? rows(fleet.models, ctx)
        : empty("No models yet", "Declare one in the configuration under [models.NAME], then start streamlearn serve again."),
    );
    body.querySelector(".table-scroll")?.scrollTo(scroll, 0);
    if (focused) body.querySelector(`[data-testid="${CSS.escape(focused)}"] a`)?.focus({ preventScroll: true });
  }

  show(await ctx.api.get("/v1/fleet"));
  return ctx.live.on("fleet", (fleet) => fleet.at >= shown.at && show(fleet));
}

function warnings(fleet) {
  const { control, store } = fleet;
  const out = [];
  if (store.down_s !== null)
    out.push(`The store has been out of reach for ${span(store.down_s)}: predictions go on, what is shown here stands still.`);
  if (control.silent_s !== null)
    out.push(`Control has not reported for ${span(control.silent_s)}: nobody judges drift or answers requests. Is it running?`);
  return out.map((text) => h("p", { class: "notice bad", role: "alert" }, text));
}

function inWords(models) {
  const well = models.filter((model) => model.state === "healthy").length;
  return `${models.length} ${models.length === 1 ? "model" : "models"}, ${well} healthy`;
}

function rows(models, ctx) {
  const columns = [
    {
      label: "Model",
      head: true,
      cell: (m) => [h("a", { href: link(m) }, m.name), h("span", { class: "sub" }, `${m.stream} · ${m.task}`)],
    },
    { label: "State", cell: (m) => [badge(m.state), m.silenced_until ? h("span", { class: "sub" }, "silenced") : null] },
    { label: "Windowed metric, last hour", class: "wide", cell: metric },
    { label: "Events/s", align: "end", cell: (m) => labelled("Events/s", number(m.rate)) },
    { label: "Lag", align: "end", cell: (m) => labelled("Lag", number(m.lag)) },
    { label: "Freshness", align: "end", cell: (m) => labelled("Freshness", span(m.freshness_s)) },
    {
      label: "Version",
      align: "end",
      cell: version,
    },
    {
      label: "Why",
      class: "wide why",
      cell: (m) => (m.reasons.length ? h("span", { class: "sub" }, m.reasons.join("; ")) : null),
    },
  ];
  const found = table(columns, models, "Models, those that need attention first", {
    row: (m) => ({ "data-testid": `row-${m.name}`, onclick: (event) => event.target.closest("a") || ctx.go(link(m)) }),
  });
  return h("section", { class: "panel fleet-table cards" }, found);
}

function version(m) {
  return labelled("Version", m.version === null ? "–" : [`v${m.version}`, h("span", { class: "sub" }, since(m.version_since))]);
}

function labelled(name, value) {
  return h("span", { "data-label": name }, value);
}

function link(model) {
  return `#/model/${encodeURIComponent(model.name)}`;
}

function metric(m) {
  if (m.value === null) return h("span", { class: "muted" }, "no label learned yet");
  const baselines = Object.entries(m.baselines).map(([name, value]) =>
    h("div", null, `${words(name)} ${metricText(m.metric, value)}`),
  );
  return h(
    "div",
    { class: "metric" },
    h(
      "div",
      null,
      h("span", { class: "metric-value" }, metricText(m.metric, m.value)),
      h("span", { class: "sub" }, words(m.metric)),
    ),
    spark(m),
    h("div", { class: "baselines" }, baselines),
  );
}

function spark(m) {
  const { at, value } = m.spark;
  if (at.length < 2) return h("span", { class: "spark" });
  const lines = [value, ...Object.values(m.baseline_spark)];
  const all = lines.flat().filter((one) => one !== null);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const x = (t) => (SPARK.width * (t - at[0])) / (at.at(-1) - at[0] || 1);
  const y = (v) => 2 + (SPARK.height - 4) * (1 - (v - low) / (high - low || 1));
  const drawn = (line) =>
    line
      .map((v, i) =>
        v === null ? "" : `${i === 0 || line[i - 1] === null ? "M" : "L"}${x(at[i]).toFixed(1)} ${y(v).toFixed(1)}`,
      )
      .join("");
  const text = `${words(m.metric)} over the last hour: from ${metricText(
    m.metric,
    value.find((v) => v !== null),
  )} to ${metricText(m.metric, m.value)}`;
  return s(
    "svg",
    { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, role: "img", "aria-label": text },
    Object.values(m.baseline_spark).map((line) => s("path", { class: "base", d: drawn(line) })),
    s("path", { d: drawn(value) }),
    value.at(-1) === null ? null : s("circle", { class: "last", cx: x(at.at(-1)), cy: y(value.at(-1)), r: 2.2 }),
  );
}
