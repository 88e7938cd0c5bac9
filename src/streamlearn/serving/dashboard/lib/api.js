// Requests to the service that served this page, and who is signed in. Paths are relative: a proxy may add a prefix.

const SCOPES = ["write", "predict", "read", "operate"];
let known = null;
let refused = () => {};

/** What the service answered instead: `status` (0: it could not be reached) and `problem`, its problem document. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || "the service did not answer");
    this.name = "ApiError";
    this.status = status;
    this.problem = problem;
  }
}

/** Call `fn` when the service asks for a key. */
export function onRefused(fn) {
  refused = fn;
}

/** The document at `path`; `params` with null are left out, `signal` aborts it. Throws ApiError. */
export function get(path, params = {}, signal = undefined) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== null && value !== undefined));
  return ask(query.size ? `${path}?${query}` : path, { signal });
}

/** Send `body` as JSON; the answer. Throws ApiError. */
export function post(path, body = {}) {
  return ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/** Who is signed in, see GET /v1/session; asked once, and again with `afresh`. A service without it needs no keys. */
export async function session(afresh = false) {
  if (known === null || afresh) {
    try {
      known = await ask("/v1/session", {});
    } catch (error) {
      if (error.status !== 404) throw error;
      known = { signed_in: true, name: null, scopes: SCOPES, csrf: null, keys_required: false, expires: null };
    }
  }
  return known;
}

/** Sign in with an API key; the session, or ApiError 401. */
export async function signIn(key) {
  known = await post("/v1/session", { key });
  return known;
}

/** End the session; the document of nobody. */
export async function signOut() {
  await ask("/v1/session", { method: "DELETE" });
  return session(true);
}

/** The URL of a path of the service, wherever this page was served from. */
export function url(path) {
  return new URL(path.replace(/^\//, ""), document.baseURI).href;
}

async function ask(path, options) {
  const headers = new Headers(options.headers);
  headers.set("Accept", "application/json");
  if (options.method && known?.csrf) headers.set("X-CSRF-Token", known.csrf);
  let response;
  try {
    response = await fetch(url(path), { ...options, headers, credentials: "same-origin", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { title: "The service cannot be reached", detail: "no answer from " + location.host });
  }
  const text = await response.text();
  const body = parsed(text);
  if (response.ok) return body;
  const problem = body && typeof body === "object" ? body : { title: response.statusText, detail: text.slice(0, 300) };
  if (response.status === 401 && !path.startsWith("/v1/session")) refused();
  throw new ApiError(response.status, problem);
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
