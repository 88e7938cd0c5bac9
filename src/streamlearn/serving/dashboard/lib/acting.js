// What a person may ask of a model, in words: whether it makes sense now and why not, and what it will do to this very model.
// Pure; lib/actions.js shows it. `model` is the document of GET /v1/models/{model}.

import { clock, clockText, number, percent, span } from "./time.js";

const FITTING = ["confirmed", "retraining"];
const TRYING = ["trial", "canary"];
const QUIET = ["steady", "watch", "held"];
const SETTLING = ["closing", "rolling_back"];
const PHASES = {
  steady: "nothing is under way",
  case: "a drift case is open and being confirmed",
  confirmed: "a drift was confirmed",
  retraining: "a retrain is under way",
  trial: "a version is on trial",
  canary: "a version answers for a share of the traffic",
  watch: "the last promotion is being watched",
  closing: "a case is being closed",
  rolling_back: "a rollback is under way",
  held: "the model is held",
};

/** How long a silence may last: [seconds, words]. */
export const SILENCES = [
  [1800, "30 minutes"],
  [3600, "1 hour"],
  [7200, "2 hours"],
  [28800, "8 hours"],
  [86400, "1 day"],
  [604800, "7 days"],
];

/** What resuming may do with what came while the model was held. */
export const MODES = [
  ["skip", "Skip it", "What came while it was held is never learned, not by a later retrain either."],
  ["learn", "Learn it now", "What came while it was held is learned now, in order."],
  [
    "repair",
    "Forget it, to be sent again",
    "What came while it was held is forgotten, so that mended events may be sent again under the same ids.",
  ],
];

/** The actions as they are shown, in order: {name, label, danger, off(model) → why not or "", says(model) → sentences}. */
export const ACTIONS = [
  {
    name: "retrain",
    label: "Retrain",
    send: "Retrain",
    off(model) {
      const { state, case: open, kept } = told(model);
      if (state === "confirmed" && kept) return "";
      return !open && QUIET.includes(state) ? "" : busy(model, "a retrain can begin when that has ended, or was cancelled");
    },
    says(model) {
      const { kept } = told(model);
      return [
        kept
          ? "Fits a new version although the retraining policies say that it is not worth its cost."
          : `Opens a case by hand and fits a new version beside version ${model.version}, ` +
            "from the last confirmed change on, or from where the model begins.",
        `Traffic sees nothing of it: version ${model.version} goes on answering and learning. ` +
          "When the fit is done, both are tried on the same events; the new one is promoted when the evidence speaks for it.",
      ];
    },
  },
  {
    name: "cancel",
    label: "Cancel case",
    send: "Cancel the case",
    off(model) {
      const { state, case: open } = told(model);
      const may = open && (FITTING.includes(state) || TRYING.includes(state) || state === "held");
      return may ? "" : `There is neither a retrain nor a trial to cancel: ${phase(model)}.`;
    },
    says(model) {
      const { state, case: open, shadow, canary } = told(model);
      const what = TRYING.includes(state)
        ? `the trial of version ${shadow}, which is dropped`
        : "the retraining; what it has fitted so far is thrown away";
      return [
        `Ends ${what}. Case ${open} is closed.`,
        canary
          ? `Version ${shadow} answers for ${percent(canary.share)} of the traffic now; ` +
            `from then on version ${model.version} answers for all of it.`
          : `Traffic sees no change: version ${model.version} goes on answering.`,
      ];
    },
  },
  {
    name: "promote",
    label: "Promote",
    send: "Promote",
    choose: "version",
    off(model) {
      const { state, case: open } = told(model);
      if (TRYING.includes(state)) return "";
      if (!open && QUIET.includes(state)) return "";
      return busy(model, "only a version on trial can be promoted, or, when nothing is under way, a kept one");
    },
    says(model, { version } = {}) {
      const { state, shadow } = told(model);
      if (TRYING.includes(state)) {
        return [
          `Ends the trial now and lets version ${shadow} answer all traffic in place of version ${model.version}, ` +
            "whatever the evidence says so far.",
          `Version ${model.version} goes on learning in its shadow for a while, so that it can be rolled back to.`,
        ];
      }
      const which = version ? `version ${version}` : "the version that you choose";
      return [
        `Takes ${which} as it was fitted and brings it up to date with the log; ` +
          `then it answers all traffic in place of version ${model.version}, without a trial. It is known under a new number.`,
        `Version ${model.version} goes on answering until then, and can be rolled back to.`,
      ];
    },
  },
  {
    name: "rollback",
    label: "Roll back",
    send: "Roll back",
    danger: true,
    off(model) {
      const { state, previous } = told(model);
      if (TRYING.includes(state) || SETTLING.includes(state))
        return busy(model, "roll back when that has ended; a trial can be cancelled");
      return previous === null || previous === undefined
        ? `Version ${model.version ?? 1} has no champion before it to go back to.`
        : "";
    },
    says(model) {
      const { previous, case: open } = told(model);
      return [
        `Version ${previous} answers all traffic again, in place of version ${model.version}.`,
        open
          ? `Case ${open} ends with that.`
          : `Version ${model.version} answers and learns no more; while it is kept, it can be promoted again.`,
      ];
    },
  },
  {
    name: "hold",
    label: "Hold",
    send: "Hold the model",
    danger: true,
    off: (model) => (told(model).held === null || told(model).broken ? "" : `It is held already: ${told(model).held}`),
    says(model) {
      const { held } = told(model);
      if (held !== null)
        return [
          "It is held since its input is broken, and would go on by itself once that has healed.",
          "From now on it stays held until a person resumes it.",
        ];
      return [
        `Version ${model.version} goes on answering and reads what comes, but learns nothing from it until someone resumes it.`,
        "Predictions go stale meanwhile, and no retrain begins by itself.",
      ];
    },
  },
  {
    name: "resume",
    label: "Resume",
    send: "Resume learning",
    choose: "mode",
    off: (model) => (told(model).held === null ? "It is not held." : ""),
    says: (model) => [`Version ${model.version} learns again from now on. It was held: ${told(model).held}.`],
  },
  {
    name: "silence",
    label: "Silence",
    send: "Silence",
    choose: "silence",
    off: () => "",
    says(model) {
      const until = silenced(model);
      return [
        "Nobody is notified of this model's cases, promotions, rollbacks and holds for so long. " +
          "Decisions go on as ever, and the audit trail records all of them.",
        ...(until ? [`It is silenced until ${clockText(until)} already; what you choose replaces that.`] : []),
      ];
    },
  },
];

/** Until when the model is silenced, Unix seconds; null when it is not. */
export function silenced(model) {
  const until = model.control?.silenced_until;
  return until && until > clock() ? until : null;
}

/** The version on trial, or null when a kept one is to be chosen. */
export function onTrial(model) {
  const { state, shadow } = told(model);
  return TRYING.includes(state) ? shadow : null;
}

/** What is going on, in words. */
export function phase(model) {
  const { state, case: open } = told(model);
  return (PHASES[state] ?? `it is in state ${state || "unknown"}`) + (open ? ` (case ${open})` : "");
}

/** What became of a request, by the decision that settles it: [tone, words]. */
export function outcome(decision) {
  if (decision.kind === "request_refused") return ["bad", `Refused: ${decision.why}`];
  const kind = decision.kind.replaceAll("_", " ");
  return ["good", decision.why.startsWith(kind) ? `Done: ${decision.why}` : `Done: ${kind}; ${decision.why}`];
}

/** A version in a list of those that may be chosen. */
export function versionWords(doc) {
  const learned = doc.learned === null || doc.learned === undefined ? "" : `, fitted on ${number(doc.learned)} events`;
  const age = doc.created ? `, ${span(clock() - doc.created)} old` : "";
  const fate = doc.fate === "lost" ? "lost its trial" : String(doc.fate || "made").replaceAll("_", " ");
  return `version ${doc.version} (${fate}${learned}${age})`;
}

function busy(model, then) {
  return `Not now, since ${phase(model)}: ${then}.`;
}

function told(model) {
  const control = model.control ?? {};
  return {
    state: control.state ?? "",
    case: control.case ?? "",
    kept: control.kept ?? "",
    held: control.held ?? null,
    previous: control.previous ?? null,
    shadow: control.shadow ?? null,
    canary: control.canary ?? null,
    broken: control.features?.broken ?? null,
  };
}
