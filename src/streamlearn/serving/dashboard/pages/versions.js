// A model's versions: where each came from, how it did, what served when, who decided and why, and what differs between two.

import { h, replace, say } from "../lib/dom.js";
import { refresher } from "../lib/fresh.js";
import { counted, difference, inFull, lineage, list, served } from "../lib/versions.js";
import { empty, failure, loading, modelTabs, pageHead, panel } from "../lib/views.js";

const FRESH_MS = 15000;

export async function mount(root, params, ctx) {
  const { model } = params;
  ctx.title(`Versions of ${model}`);
  const path = `/v1/models/${encodeURIComponent(model)}`;
  let chosen = (params.compare ?? "").split(",").filter(Boolean).map(Number).filter(Number.isInteger).slice(0, 2);
  let shown = "";
  let items = [];

  const said = h("span", { class: "muted" });
  const problem = h("div");
  const [strip, tree, all, compared, one] = [
    h("div", { class: "stack" }),
    h("div"),
    h("div"),
    h("div", { "aria-live": "polite" }),
    h("div", { class: "stack" }),
  ];
  const onePanel = panel(
    "Version",
    { "data-testid": "version-one", hidden: true },
    h("button", { type: "button", class: "plain", onclick: close }, "Close"),
    one,
  );
  const comparing = panel("What differs", { "data-testid": "version-diff" }, null, compared);
  const body = h("div", { class: "page" });
  replace(root, pageHead(`Versions of ${model}`, said, modelTabs(model, "versions")), problem, onePanel, body);
  replace(body, loading("Loading the versions"));

  function address(more) {
    const query = new URLSearchParams({
      ...(params.version ? { version: params.version } : {}),
      ...(chosen.length ? { compare: chosen.join(",") } : {}),
      ...more,
    });
    return `#/model/${encodeURIComponent(model)}/versions${query.size ? `?${query}` : ""}`;
  }

  function close() {
    delete params.version;
    onePanel.hidden = true;
    history.replaceState(null, "", address({}));
    root.querySelector("h1").focus();
  }

  function choose(version, on) {
    chosen = on ? [...chosen, version].slice(-2) : chosen.filter((other) => other !== version);
    for (const box of all.querySelectorAll("input[type=checkbox]"))
      box.checked = chosen.includes(Number(box.dataset.testid.slice("compare-".length)));
    history.replaceState(null, "", address({}));
    compare();
  }

  async function compare() {
    if (chosen.length < 2) {
      replace(
        compared,
        h(
          "p",
          { class: "muted" },
          items.length < 2
            ? "There is only one version, so there is nothing to compare."
            : `Choose ${chosen.length ? "one more version" : "two versions"} in the table to compare them.`,
        ),
      );
      return;
    }
    const [a, b] = [...chosen].sort((x, y) => x - y);
    replace(compared, loading("Comparing"));
    try {
      replace(compared, difference(await ctx.api.get(`${path}/versions/${a}/diff`, { with: b })));
    } catch (error) {
      replace(compared, failure(error, compare));
    }
  }

  async function load() {
    try {
      const [versions, history] = await Promise.all([
        ctx.api.get(`${path}/versions`),
        ctx.api.get(`${path}/history`, { series: "" }),
      ]);
      show(versions.items, history.items);
      replace(problem);
    } catch (error) {
      replace(shown ? problem : body, failure(error, load));
    }
  }

  function show(versions, stretches) {
    const now = JSON.stringify([versions, stretches]);
    if (now === shown) return;
    if (!shown)
      replace(
        body,
        panel("What served when", { "data-testid": "version-served" }, null, strip),
        panel("All versions", { "data-testid": "version-list" }, null, all),
        comparing,
        panel("Lineage", { "data-testid": "version-lineage" }, null, tree),
      );
    shown = now;
    items = versions;
    say(said, counted(versions));
    replace(strip, served(model, stretches));
    replace(
      all,
      versions.length
        ? list(model, versions, chosen, choose)
        : empty(
            "No versions yet",
            "The first is made as soon as a learner has claimed the model's shards: is streamlearn learn running?",
          ),
    );
    replace(tree, versions.length ? lineage(model, versions) : null);
    if (!compared.hasChildNodes() || chosen.length < 2) compare();
  }

  async function showOne() {
    onePanel.hidden = false;
    say(onePanel.querySelector("h2"), `Version ${params.version}`);
    replace(one, loading(`Loading version ${params.version}`));
    try {
      replace(one, inFull(await ctx.api.get(`${path}/versions/${encodeURIComponent(params.version)}`)));
    } catch (error) {
      replace(one, failure(error, showOne));
    }
  }

  await Promise.all([load(), params.version ? showOne() : null]);
  const off = ctx.live.on(`model:${model}`, refresher(load, FRESH_MS));
  return off;
}
