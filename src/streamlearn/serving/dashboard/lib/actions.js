// The buttons by which a person acts on a model, and the dialog that asks once and says what will happen. See lib/acting.js for
// the words. What was asked is followed up to control's answer in the audit trail.

import { ACTIONS, MODES, onTrial, outcome, SILENCES, silenced, versionWords } from "./acting.js";
import { get, post } from "./api.js";
import { h, replace, say } from "./dom.js";
import { live } from "./live.js";
import { clockText } from "./time.js";

const SCOPE = "operate";
const LOOKS = 40;
const LOOK_MS = 1500;

/**
 * The actions for a model, an element. `model`: the document of GET /v1/models/{model}; `session`: of GET /v1/session.
 * The element has update(model), to be called when the model has changed, and end(), when it is no longer shown.
 */
export function actionBar(model, session) {
  let now = model;
  const asked = new Map(); // offset in the control log -> [action, its line]
  const outcomes = h("div", { class: "action-outcomes", role: "status", "aria-live": "polite" });
  const reason = h("p", { class: "action-reason muted", role: "status" });
  const buttons = h("div", { class: "action-buttons" });
  const bar = h("section", { class: "actions", "aria-label": `Actions on ${model.name}`, "data-testid": "actions" });
  const stop = [];

  if (!session?.scopes?.includes(SCOPE)) {
    bar.append(
      h(
        "p",
        { class: "muted", "data-testid": "actions-missing" },
        `To act on ${model.name} (retrain, promote, roll back, hold, …), sign in with a key that has the scope “${SCOPE}”.`,
      ),
    );
    bar.update = () => {};
    bar.end = () => {};
    return bar;
  }

  const made = ACTIONS.map((action) => {
    const id = `why-${action.name}-${Math.random().toString(36).slice(2, 8)}`;
    const why = h("span", { class: "sr", id });
    const button = h(
      "button",
      {
        type: "button",
        class: action.danger ? "danger" : null,
        "data-testid": `action-${action.name}`,
        "aria-describedby": id,
        "aria-haspopup": "dialog",
        onclick: () => press(action, button),
      },
      action.label,
    );
    buttons.append(button, why);
    return { action, button, why };
  });
  bar.append(buttons, reason, outcomes);

  function press(action, button) {
    const off = action.off(now);
    say(reason, off ? `${action.label}: ${off}` : "");
    if (!off)
      ask(
        action,
        now,
        (answer) => follow(action, answer),
        () => button.focus(),
      );
  }

  function update(next) {
    now = next;
    for (const { action, button, why } of made) {
      const off = action.off(now);
      if (off) button.setAttribute("aria-disabled", "true");
      else button.removeAttribute("aria-disabled");
      button.title = off || action.says(now)[0];
      say(why, off || "");
      if (action.name === "silence")
        say(button, silenced(now) ? `Silenced until ${clockText(silenced(now), "short")}` : action.label);
    }
  }

  function follow(action, answer) {
    const state = h("span", null, "Control will see it; waiting for its decision …");
    const line = h(
      "p",
      { class: "action-outcome", "data-testid": "action-outcome", "data-state": "asked" },
      h("strong", null, `${action.label} asked for. `),
      state,
      " ",
      auditLink(answer.model, answer.offset, "The request in the audit"),
    );
    outcomes.prepend(line);
    asked.set(answer.offset, [action, line]);
    look(answer, 0);
  }

  /** The live stream tells the outcome as it happens; where it is not there, the audit is asked. */
  function look(answer, looks) {
    const timer = setTimeout(async () => {
      if (!asked.has(answer.offset)) return;
      try {
        const { items } = await get("/v1/audit", { model: answer.model, order: "desc", limit: 50 });
        items.forEach(settle);
      } catch {
        // it is asked again
      }
      if (!asked.has(answer.offset)) return;
      if (looks < LOOKS) return look(answer, looks + 1);
      const [action, line] = asked.get(answer.offset);
      replace(
        line,
        h("strong", null, `${action.label} asked for. `),
        "Control has not answered yet: is its process running? ",
        auditLink(answer.model, answer.offset, "The request in the audit"),
      );
    }, LOOK_MS);
    stop.push(() => clearTimeout(timer));
  }

  function settle(record) {
    const offset = record.numbers?.request;
    if (record.type !== "decision" || !asked.has(offset)) return;
    const [action, line] = asked.get(offset);
    asked.delete(offset);
    const [tone, words] = outcome(record);
    line.dataset.state = tone === "good" ? "done" : "refused";
    line.classList.add(tone);
    replace(
      line,
      h("strong", null, `${action.label}: `),
      words,
      " ",
      record.case ? [h("a", { href: `#/case/${encodeURIComponent(record.case)}` }, `Case ${record.case}`), " · "] : null,
      auditLink(record.model, record.control, "In the audit"),
    );
  }

  stop.push(live.on("decision", settle));
  bar.update = update;
  bar.end = () => stop.forEach((one) => one());
  update(model);
  return bar;
}

function auditLink(model, offset, words) {
  return h("a", { href: `#/audit?${new URLSearchParams({ model, open: String(offset) })}` }, words);
}

/** Ask once, in a dialog; `done(answer)` when the service took it. */
async function ask(action, model, done, closed) {
  const chosen = {};
  const what = h("div", { class: "dialog-says" });
  const extra = h("div");
  const error = h("p", { class: "error", role: "alert" });
  const reason = h("textarea", { rows: 2, maxlength: 1000, name: "reason", "data-testid": "action-reason" });
  const cancel = h(
    "button",
    { type: "button", autofocus: true, "data-testid": "action-cancel-dialog", onclick: () => dialog.close() },
    "Cancel",
  );
  const send = h(
    "button",
    { type: "submit", class: action.danger ? "danger" : "primary", "data-testid": "action-confirm" },
    action.send,
  );
  const titleId = "action-title";
  const form = h(
    "form",
    { method: "dialog", onsubmit: submit },
    h("h2", { id: titleId }, `${action.send}: ${model.name}?`),
    what,
    extra,
    h("label", { class: "field" }, h("span", null, "Reason, for the audit trail"), reason),
    error,
    h("div", { class: "dialog-end" }, cancel, send),
  );
  const dialog = h(
    "dialog",
    {
      class: "action-dialog",
      "aria-labelledby": titleId,
      "aria-describedby": "action-says",
      "data-testid": "action-dialog",
      onclose: () => {
        dialog.remove();
        closed();
      },
    },
    form,
  );
  what.id = "action-says";

  function tell() {
    replace(
      what,
      action.says(model, chosen).map((sentence) => h("p", null, sentence)),
    );
  }

  async function submit(event) {
    event.preventDefault();
    send.disabled = true;
    say(error, "");
    try {
      const body = { reason: reason.value.trim(), ...(await chosenBody(action, model, chosen)) };
      const answer = await post(`/v1/models/${encodeURIComponent(model.name)}/${action.name}`, body);
      dialog.close();
      done(answer);
    } catch (failed) {
      say(
        error,
        `${failed.problem?.title ?? "It was not sent"}: ${failed.message}. Nothing was asked for; change it, or try again.`,
      );
      send.disabled = false;
    }
  }

  tell();
  document.body.append(dialog);
  dialog.showModal();
  cancel.focus();
  if (action.choose === "mode") extra.append(modes(chosen));
  if (action.choose === "silence") extra.append(silences(model, chosen));
  if (action.choose === "version" && onTrial(model) === null) await versions(model, chosen, extra, send, tell);
}

async function chosenBody(action, model, chosen) {
  if (action.name === "promote") return { version: onTrial(model) ?? chosen.version };
  if (action.name === "rollback") return { version: model.control.previous };
  if (action.name === "resume") return { mode: chosen.mode };
  if (action.name === "silence") return { for_s: chosen.for_s };
  return {};
}

function modes(chosen) {
  chosen.mode = MODES[0][0];
  return choices("What becomes of what came meanwhile?", "mode", MODES, (value) => (chosen.mode = value));
}

function silences(model, chosen) {
  const all = SILENCES.map(([seconds, words]) => [String(seconds), words]);
  if (silenced(model)) all.push(["0", "Not at all: end the silence now"]);
  chosen.for_s = 7200;
  const select = h(
    "select",
    { "data-testid": "action-for", onchange: () => (chosen.for_s = Number(select.value)) },
    all.map(([value, words]) => h("option", { value, selected: value === "7200" }, words)),
  );
  return h("label", { class: "field" }, h("span", null, "For how long"), select);
}

function choices(title, name, all, choose) {
  const one = ([value, words, detail], i) =>
    h(
      "label",
      { class: "choice" },
      h("input", { type: "radio", name, value, checked: i === 0, onchange: () => choose(value) }),
      h("span", null, h("strong", null, words), h("span", { class: "choice-detail" }, detail)),
    );
  return h("fieldset", { class: "choices" }, h("legend", null, title), all.map(one));
}

/** Let a person choose among the kept versions, newest first. */
async function versions(model, chosen, place, send, tell) {
  send.disabled = true;
  replace(place, h("p", { class: "muted" }, "Looking for the versions that are kept …"));
  try {
    const { items } = await get(`/v1/models/${encodeURIComponent(model.name)}/versions`);
    const fitted = new Set(model.control.fitted ?? []);
    const kept = items.filter((doc) => doc.kept && doc.version !== model.version && fitted.has(doc.version)).reverse();
    if (kept.length === 0) {
      replace(
        place,
        h(
          "p",
          { class: "notice" },
          "No other fitted version is kept, so there is none to promote. " +
            "Retrain makes one; roll back brings the last champion back.",
        ),
      );
      return;
    }
    const choose = () => {
      chosen.version = Number(select.value);
      tell();
    };
    const select = h(
      "select",
      { "data-testid": "action-version", onchange: choose },
      kept.map((doc) => h("option", { value: doc.version }, versionWords(doc))),
    );
    replace(place, h("label", { class: "field" }, h("span", null, "Version to promote"), select));
    choose();
    send.disabled = false;
  } catch (failed) {
    replace(
      place,
      h("p", { class: "error", role: "alert" }, `The versions could not be read: ${failed.message}. Close this and try again.`),
    );
  }
}
