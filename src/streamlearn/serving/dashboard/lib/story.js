// The parts of a case's story up to its decision, each from its part of the `story` of GET /v1/cases/{case}.

import { againstLevel, pair, toLimit } from "./bars.js";
import { psiWords } from "./heat.js";
import { h } from "./dom.js";
import { number, percent, when } from "./time.js";
import { facts, table } from "./views.js";

export const KINDS = {
  drift: "Drift",
  manual: "Asked for by hand",
  policy: "Begun by a policy",
  changed: "The recipe changed",
  contract: "The features changed",
  rewind: "Rewind",
  restore: "A kept version restored",
};
export const ENDS = {
  rejected: ["quiet", "Dismissed", "The alarm was not confirmed on fresh labels: no drift."],
  expired: ["quiet", "Expired", "Too few fresh labels came in time to judge it."],
  survived: ["good", "Survived", "The drift is real, but the model has adapted to it by itself."],
  broken_input: ["bad", "Broken input", "The input is broken, which no retrain mends."],
  retrain_failed: ["bad", "Retrain failed", "The new version could not be fitted."],
  retrain_kept: ["quiet", "Model kept", "The policies keep the model as it is: a retrain is not worth its cost."],
  trial_lost: ["quiet", "Trial lost", "The new version was not better, and was dropped."],
  promoted: ["good", "Promoted", "The new version serves; it is being watched."],
  recovered: ["good", "Recovered", "The new version serves, and its loss is no longer too high."],
  not_recovered: ["bad", "Not recovered", "The new version serves, but the loss stays higher than before."],
  rolled_back: ["bad", "Rolled back", "The version before serves again."],
  replaced: ["quiet", "Replaced", "Another case took its place."],
};
const DIAGNOSES = {
  schema_break: "Broken schema: features came as another type or not at all, or records cannot be learned",
  null_jump: "Missing values: a feature is missing much more often than it was",
  label_rate: "Label rate: labels come for another share of the questions",
  label_delay: "Label delay: labels come after another time",
  feature_drift: "Feature drift: the features have moved, so the model is asked about what it did not learn from",
  concept_drift: "Concept drift: the same features mean something else now",
};
const TESTS = {
  fisher: "Fisher's exact test on the shares of wrong predictions",
  permutation: "a permutation test on the mean losses",
};

/** Values by shard as text: the only shard's value, or each with its shard. */
export function byShard(values, say = number) {
  const all = Object.entries(values ?? {});
  return all.length === 0
    ? null
    : all.length === 1
      ? say(all[0][1])
      : all.map(([shard, value]) => `shard ${shard}: ${say(value)}`).join(", ");
}

/** A probability as text, with its three first digits: 0.0125, 0.0004, 1.1e-71. */
export function chance(p) {
  return p !== null && p !== undefined && p >= 1e-4 ? String(Number(p.toPrecision(3))) : number(p);
}

/** A code name as words. */
export function plain(name) {
  return String(name ?? "").replaceAll("_", " ");
}

/** How the case began. */
export function opening(story) {
  const { opened, alarm } = story;
  const begun =
    opened && !alarm
      ? [
          h("p", { class: "lead" }, opened.why),
          facts([
            ["Asked for by", opened.by],
            ["Labelled events by then", number(opened.n)],
          ]),
          opened.changes?.length ? changes(opened.changes) : null,
        ]
      : null;
  if (!alarm) return begun;
  return [
    h(
      "p",
      { class: "lead" },
      h("strong", null, alarm.detectors.map(plain).join(" and ")),
      alarm.detectors.length > 1 ? " raise the alarm: " : " raises the alarm: ",
      opened?.why ?? "",
    ),
    facts([
      ["Shard", alarm.shard],
      ["Labelled events by then", number(alarm.n)],
      ["The change, as estimated", alarm.change_n === null ? null : `after ${number(alarm.change_n)} events`],
      ["Its offset in the log", number(alarm.change_offset)],
      ["Mean loss before", alarm.ref_mean === null ? null : number(alarm.ref_mean)],
      ["Mean loss since", alarm.recent_mean === null ? null : number(alarm.recent_mean)],
    ]),
    alarm.further_in_all
      ? h(
          "details",
          { class: "more" },
          h("summary", null, `Further alarms while the case was open: ${number(alarm.further_in_all)}`),
          table(
            [
              { label: "Detectors", head: true, cell: (one) => one.detectors.map(plain).join(", ") },
              { label: "When", cell: (one) => when(one.at) },
              { label: "Shard", cell: (one) => one.shard },
              { label: "Events", align: "end", cell: (one) => number(one.n) },
              { label: "Change at offset", align: "end", cell: (one) => number(one.change_offset) },
            ],
            alarm.further,
            "Further alarms",
          ),
        )
      : null,
  ];
}

function changes(all) {
  return table(
    [
      { label: "Feature", head: true, cell: (one) => one.feature },
      {
        label: "What changed",
        cell: (one) => ({ appeared: "came", vanished: "no longer comes", type: "another type" })[one.what] ?? one.what,
      },
      { label: "Was", cell: (one) => one.was || "–" },
      { label: "Is", cell: (one) => one.is || "–" },
    ],
    all,
    "Features that are other ones",
    { visible: true },
  );
}

/** Both windows and their losses. */
export function windows({ windows: both, losses }) {
  if (!both) return null;
  const [before, after] = [both.before, both.after];
  const most = Math.max(before.mean ?? 0, after.mean ?? 0, 1e-9);
  const line = (name, side, i) =>
    h(
      "tr",
      null,
      h("th", { scope: "row" }, name),
      h("td", { class: "end" }, number(side.n)),
      h(
        "td",
        null,
        h(
          "span",
          { class: "hbar" },
          h("span", { class: `hbar-fill side-${i}`, style: { width: `${(100 * (side.mean ?? 0)) / most}%` } }),
          h("span", { class: "hbar-text" }, number(side.mean)),
        ),
      ),
    );
  return [
    h(
      "p",
      { class: "lead" },
      `Of the ${number(after.n)} fresh labelled events since the alarm the mean loss is ${number(after.mean)}; ` +
        `before the change it was ${number(before.mean)}, over ${number(before.n)} events.`,
    ),
    h(
      "div",
      { class: "table-scroll" },
      h(
        "table",
        { class: "hbars" },
        h("caption", { class: "sr" }, "The windows compared"),
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "col" }, "Window"),
            h("th", { scope: "col", class: "end" }, "Events"),
            h("th", { scope: "col" }, "Mean loss"),
          ),
        ),
        h("tbody", null, line("before the change", before, 0), line("since the alarm", after, 1)),
      ),
    ),
    losses
      ? pair(losses, {
          title: "Loss of each event",
          what: "losses",
          names: ["before the change", "since the alarm"],
          label: (value) =>
            value === "0" ? "0 (right)" : value === "1" ? "1 (wrong)" : typeof value === "number" ? number(value) : value,
        })
      : h("p", { class: "muted" }, "The distributions of the losses were not recorded for this case."),
  ];
}

/** The test and its p against the level. */
export function test({ test: told }) {
  if (!told) return null;
  const below = told.p !== null && told.level !== null && told.p <= told.level;
  const ended = !told.confirmed
    ? "not confirmed."
    : told.survived
      ? "a drift, but the model has adapted."
      : "confirmed, this is a drift.";
  const said =
    told.p === null
      ? told.why
      : `p = ${chance(told.p)}, ${below ? "below" : "above"} the level ${chance(told.level)}: ${ended}`;
  return [
    h("p", { class: "lead", "data-testid": "case-test" }, said),
    told.p === null || told.level === null ? null : againstLevel(told.p, told.level),
    facts([
      ["Test", TESTS[told.name] ?? (told.name ? plain(told.name) : null)],
      ["Alarm of this model", told.k === null ? null : `number ${number(told.k)}`],
      ["Error rate over all alarms", told.alpha],
      ["Share of the window seen", told.look === null ? null : percent(told.look)],
      ["Mean loss rose by", told.effect === null ? null : number(told.effect)],
      ["Least rise that harms", told.harm === null ? null : number(told.harm)],
      ["Lower bound since", told.lcb_after === null ? null : number(told.lcb_after)],
      ["Upper bound before", told.ucb_before === null ? null : number(told.ucb_before)],
    ]),
    h("p", { class: "muted" }, told.why),
    told.hindsight ? hindsight(told.hindsight) : null,
  ];
}

function hindsight(told) {
  if (told.p === undefined || told.p === null)
    return told.why ? h("p", { class: "muted" }, `The model as it was before the change was not asked: ${told.why}`) : null;
  return h(
    "p",
    null,
    `The model as it was before the change (checkpoint ${told.checkpoint}), asked the same: ` +
      `mean loss ${number(told.before)} before, ${number(told.after)} since, ` +
      `p = ${chance(told.p)} at level ${chance(told.level)}.`,
  );
}

/** What kind of change it is. */
export function diagnosis({ diagnosis: told }) {
  if (!told) return null;
  return [
    h("p", { class: "lead" }, h("strong", null, DIAGNOSES[told.kind] ?? plain(told.kind)), "."),
    h("p", null, told.why),
    told.features.length ? h("p", null, "Features named: ", told.features.join(", "), ".") : null,
    told.broken
      ? h(
          "p",
          { class: "notice bad" },
          "Input that is broken is not learned from: mend it at its source. No retrain would help.",
        )
      : null,
  ];
}

/** The features that moved, with their distributions. */
export function moved({ features }, model) {
  if (!features.length) return null;
  return [
    h(
      "div",
      { class: "grid features-moved" },
      features.map((one) =>
        h(
          "div",
          { class: "feature-card" },
          one.histogram ? pair(one.histogram, { title: one.name, what: `feature-${one.name}` }) : h("h3", null, one.name),
          featureFacts(one),
        ),
      ),
    ),
    h("p", null, h("a", { href: `#/model/${encodeURIComponent(model)}/features` }, "All features over time")),
  ];
}

/** A feature's numbers. */
export function featureFacts(one) {
  const rates = (pairOf) => (pairOf && (pairOf[0] || pairOf[1]) ? `${percent(pairOf[0])} → ${percent(pairOf[1])}` : null);
  return facts([
    ["PSI", one.psi === null ? null : `${number(one.psi)}, ${psiWords(one.psi)}`],
    ["p", one.p === null ? null : chance(one.p)],
    ["e-value", one.e === null ? null : number(one.e)],
    ["Test", one.test || null],
    ["Missing", rates(one.missing)],
    ["Other type", rates(one.other_type)],
    ["New values", one.unseen ? percent(one.unseen) : null],
    ["Outside the old range", one.outside ? `${percent(one.outside)}, in the outermost bars` : null],
    ["Flagged since", one.since || one.flagged_since ? when(one.since ?? one.flagged_since) : null],
  ]);
}

/** Who or what decided on a retrain, and its cost sum. */
export function decision({ decision: told }) {
  if (!told) return null;
  const summed = told.sum !== null && told.sum !== undefined && told.threshold !== null && told.threshold !== undefined;
  const unit = told.costs?.unit ?? "";
  return [
    h("p", { class: "lead" }, h("strong", null, told.retrain ? "Retrain. " : "No retrain. "), told.why),
    summed
      ? toLimit(
          told.sum,
          told.threshold,
          `Cost of keeping the model, by the policy ${plain(told.policy)}: ${number(told.sum)}${unit && ` ${unit}`}, ` +
            `${told.sum >= told.threshold ? "at or over" : "below"} the threshold ${number(told.threshold)}`,
          told.sum >= told.threshold ? "over" : "",
        )
      : null,
    facts([
      ["Policy", told.policy ? plain(told.policy) : null],
      ["Decided by", told.by],
      ["A retrain costs", told.costs?.retrain === undefined ? null : `${number(told.costs.retrain)} ${unit}`],
      ["A unit of loss costs", told.costs?.loss === undefined ? null : number(told.costs.loss)],
      ...Object.entries(told.numbers ?? {})
        .filter(([, value]) => typeof value === "number")
        .map(([name, value]) => [plain(name), number(value)]),
    ]),
    told.kept?.length
      ? h(
          "details",
          { class: "more" },
          h("summary", null, `The model was kept ${told.kept.length === 1 ? "once" : `${told.kept.length} times`} before`),
          table(
            [
              { label: "When", head: true, cell: (one) => when(one.at) },
              { label: "Why", class: "text", cell: (one) => one.why },
              {
                label: "Policies",
                cell: (one) =>
                  one.policies
                    .map((policy) => `${plain(policy.policy)}: ${number(policy.sum)} of ${number(policy.threshold)}`)
                    .join("; "),
              },
            ],
            told.kept,
            "When the policies kept the model",
          ),
        )
      : null,
  ];
}
