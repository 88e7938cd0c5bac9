// Signing in with an API key. The key is sent once and kept nowhere in the browser: the service answers with a cookie.

import { h, say } from "../lib/dom.js";
import { pageHead } from "../lib/views.js";

export async function mount(root, params, ctx) {
  const key = h("input", {
    id: "key",
    name: "key",
    type: "password",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
    "aria-describedby": "key-help key-error",
  });
  const error = h("p", { id: "key-error", class: "error", role: "alert", "data-testid": "signin-error" });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");

  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    say(error, "");
    try {
      await ctx.api.signIn(key.value);
      key.value = "";
      ctx.done();
    } catch (problem) {
      say(
        error,
        problem.status === 401 ? "This key is not known, or it was revoked. Copy it again, all of it." : problem.message,
      );
      key.setAttribute("aria-invalid", "true");
      key.focus();
    } finally {
      button.disabled = false;
    }
  }

  root.append(
    h(
      "div",
      { class: "signin panel" },
      pageHead("Sign in"),
      h(
        "p",
        null,
        "This service asks for an API key. One with the scope “read” sees everything; one with “operate” may act as well.",
      ),
      h(
        "form",
        { onsubmit: submit },
        h("label", { for: "key" }, "API key"),
        key,
        h(
          "p",
          { id: "key-help", class: "muted" },
          "It is kept by the service in a cookie that scripts cannot read. Keys are made with: streamlearn keys",
        ),
        error,
        button,
      ),
    ),
  );
  key.focus();
  return () => {};
}
