// The shell: header, routes, sign-in, themes. A page is a module of pages/ that mounts itself into <main>.

import * as api from "./lib/api.js";
import { h, replace, say } from "./lib/dom.js";
import { live } from "./lib/live.js";
import { clock, clockText, keepTime, onTimeZone, setTimeZone, span, timeZone } from "./lib/time.js";
import { failure, loading } from "./lib/views.js";

const ROUTES = [
  [/^\/?$/, "fleet", []],
  [/^\/model\/([^/]+)$/, "model", ["model"]],
  [/^\/model\/([^/]+)\/features$/, "features", ["model"]],
  [/^\/model\/([^/]+)\/versions$/, "versions", ["model"]],
  [/^\/model\/([^/]+)\/labels$/, "labels", ["model"]],
  [/^\/case\/([^/]+)$/, "case", ["case"]],
  [/^\/audit$/, "audit", []],
];
const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };

const main = document.getElementById("main");
let unmount = null;
let turn = 0; // of navigation: a page that was left before it was there is not shown
let first = true;
let signingIn = false;

function route() {
  const [path, query] = location.hash.replace(/^#/, "").split("?");
  for (const [pattern, page, names] of ROUTES) {
    const found = pattern.exec(path);
    if (found) {
      const params = Object.fromEntries(names.map((name, i) => [name, decoded(found[i + 1])]));
      return { page, params: { ...Object.fromEntries(new URLSearchParams(query ?? "")), ...params } };
    }
  }
  return { page: null, params: { path } };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function navigate() {
  const mine = ++turn;
  const { page, params } = route();
  await leave();
  signingIn = false;
  const root = h("div", { class: "page", "data-testid": `page-${page ?? "none"}` }, loading());
  replace(main, root);
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const session = await api.session();
    showWho(session);
    if (mine !== turn) return;
    if (!session.signed_in) {
      await askForKey();
      return;
    }
    if (page === null) throw new Error(`There is no page “${params.path}”. Go back to the Fleet.`);
    const module = await import(`./pages/${page}.js`);
    const ctx = { api, live, session, go, title };
    const ended = await module.mount(root, params, ctx);
    if (mine === turn) unmount = ended;
    else ended?.();
  } catch (error) {
    if (mine !== turn || signingIn) return;
    replace(root, failure(error, navigate));
    title("Failed");
  }
  if (mine === turn) arrive();
}

async function leave() {
  const end = unmount;
  unmount = null;
  await end?.();
}

/** Give the focus to the new page's heading, so that the keyboard and a screen reader begin there; not at the first paint. */
function arrive() {
  if (!first) (main.querySelector("h1") ?? main).focus({ preventScroll: true });
  if (!first) scrollTo(0, 0);
  first = false;
}

function go(hash) {
  if (location.hash === hash) navigate();
  else location.hash = hash;
}

function title(text) {
  document.title = text ? `${text} · streamlearn` : "streamlearn";
}

async function askForKey() {
  signingIn = true;
  live.stop();
  await leave();
  const module = await import("./pages/signin.js");
  const root = h("div", { class: "page", "data-testid": "page-signin" });
  replace(main, root);
  title("Sign in");
  await module.mount(root, {}, { api, live, go, title, done: signedIn });
}

function signedIn() {
  signingIn = false;
  live.restart();
  navigate();
}

api.onRefused(() => {
  if (signingIn) return;
  turn += 1;
  askForKey();
});

// ---- header -------------------------------------------------------------------------------------------------------------

const who = h("span", { class: "who", "data-testid": "who" });
const liveText = h("span");
const liveAge = h("span", { "aria-hidden": "true" });
const liveBox = h(
  "span",
  { class: "live", role: "status", "data-testid": "live-state" },
  h("span", { class: "dot", "aria-hidden": "true" }),
  liveText,
  liveAge,
);

function showLive(status) {
  const words = { connecting: "Connecting", live: "Live", stale: `Stale since ${clockText(status.since, "short")}` };
  liveBox.dataset.state = status.state;
  say(liveText, words[status.state]);
  showAge();
}

function showAge() {
  const { state, since } = live.status;
  say(liveAge, state === "stale" ? ` (${span(clock() - since)})` : "");
}

function showWho(session) {
  const signOut = async () => {
    await api.signOut();
    navigate();
  };
  replace(
    who,
    !session.keys_required
      ? h("span", { title: "Only this machine can reach the service, so it asks for no key" }, "no key needed")
      : null,
    session.keys_required && session.signed_in
      ? [
          h("span", { title: `May: ${session.scopes.join(", ")}` }, session.name),
          h("button", { type: "button", class: "plain", onclick: signOut }, "Sign out"),
        ]
      : null,
  );
}

function zoneSwitch() {
  const button = h("button", {
    type: "button",
    class: "plain",
    "data-testid": "zone",
    onclick: () => setTimeZone(timeZone() === "utc" ? "local" : "utc"),
  });
  const show = () => {
    say(button, timeZone() === "utc" ? "UTC" : "Local");
    button.setAttribute("aria-label", timeZone() === "utc" ? "Times are in UTC; show local time" : "Times are local; show UTC");
    showLive(live.status);
  };
  onTimeZone(show);
  show();
  return button;
}

function themeSwitch() {
  const chosen = localStorage.getItem("streamlearn.theme");
  const select = h(
    "select",
    { "aria-label": "Theme", "data-testid": "theme", onchange: () => setTheme(select.value) },
    Object.entries(THEMES).map(([value, words]) => h("option", { value, selected: value === chosen }, words)),
  );
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    document.dispatchEvent(new Event("streamlearn:theme")),
  );
  return select;
}

function setTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("streamlearn.theme", theme);
  document.dispatchEvent(new Event("streamlearn:theme"));
}

setTheme(localStorage.getItem("streamlearn.theme") ?? "auto");
replace(
  document.getElementById("header"),
  h(
    "a",
    { class: "brand", href: "#/" },
    h("img", { src: "dashboard/favicon.svg", alt: "", width: 22, height: 22 }),
    "streamlearn",
  ),
  h(
    "nav",
    { "aria-label": "Main" },
    h("a", { href: "#/", "data-page": "fleet" }, "Fleet"),
    h("a", { href: "#/audit", "data-page": "audit" }, "Audit"),
  ),
  h("div", { class: "header-end" }, liveBox, zoneSwitch(), themeSwitch(), who),
);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the route
  main.focus();
});
live.watch(showLive);
setInterval(showAge, 1000);
keepTime();
addEventListener("hashchange", navigate);
navigate();
