"""What the roles tell each other through the log: signals, commands, decisions, dead letters; and the status document.

Learners send *signals* (`_signals`), each numbered by its shard, so that a repeat after a crash is recognised. Control
records *decisions* (`_control`), and asks learners by signed *commands* in each partition of a model's stream; a command's
`seq` is the control-log offset of the decision behind it, so that a repeat is recognised too. People ask through `Request`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .buckets import Buckets
from .errors import BadSignature
from .keys import KeyRing
from .lineage import Backfill

LEFT_OUT: Final = "features_left_out"  # counts events taken without a feature that had another type than the champion's
RESUME_MODES: Final = ("skip", "learn", "repair")
LONGEST_SILENCE_S: Final = 30 * 86_400.0


class Signal(msgspec.Struct, omit_defaults=True):
    """A learner's word to control. `seq` counts up by one for each (model, shard); `n` is the labelled events so far.

    kind        data
    alarm       detector, change_offset (log offset of the first event after the estimated change), change_n, ref_n, ref_mean
    window      tag ("fresh" after an alarm, "recovery" after a promotion), loss ("binary" | "bounded"),
                ref {n, sum, blocks?, bins?}, fresh {n, sum, blocks?, bins?}, from_n, to_n; blocks: means of consecutive
                losses, bins: how many lie in each twentieth of [0, 1]; of a fresh one also look [losses at the look before,
                now, in all]: it is told at each of `drift.confirm.look_sizes`
    batch       n, loss: the mean loss of so many labelled events of the serving version (`retrain.batch`); with
                `retrain.sample` also sample [(loss, features), ...] of some of them
    applied     verb, seq_of (the command's seq), version (now champion), shadow (version or null), offset; when a hold ended
                with it, held ([from, to): offsets) and mode ("skip" unless a resume said otherwise); when another champion
                serves with it, knew {features, types {name: type}}: the former one's, see `learning.summary.known_features`
    refused     verb, seq_of, reason ("gap" | "unknown_version" | "not_in_trial" | ...), detail
    block       trial (seq of its Try or Promote command), block (number from 0), n, champion (loss sum), challenger (loss sum);
                while a canary is on also canary {step (seq of its command), champion, challenger}, see `learning.canary`;
                when the trial asks for them, metrics {name: [n, champion, challenger]}, slices {feature: {value: the same}}
    rehearsal   trial, blocks [(n, champion, challenger)]: paired losses from before the trial, as experience
    held        reason, offset
    shadow_failed  version, reason: its pipeline raised, so the shadow was let go
    """

    model: str
    shard: int
    seq: int
    kind: str
    version: int
    offset: int
    n: int
    ts: float
    data: dict[str, Any] = {}


class Command(msgspec.Struct, omit_defaults=True):
    """What control asks of a model's shards.

    verb        arguments
    try         version, trained_to (offset per shard), spec (the FitSpec as JSON, to make the version again if it is lost)
    detach      -                      drop the shadow (it is parked, for a rollback, when it was champion before)
    canary      version, share, salt   the shadow answers for that share of the keys, see `events.unit_of`
    promote     version                the shadow becomes champion, the old champion its shadow
    rollback    version                the champion before the last promotion, which is this version, serves again
    hold        reason                 read, predict and score, but do not learn
    resume      mode                   learn again; what was held is skipped and recorded ("skip", the default), learned now
                                       ("learn"), or forgotten, so that its events can be sent again ("repair"). With `accepts`
                                       the champion goes on without the features that have come to have another type
    reset       confirmed (bool)       start the detectors afresh; if confirmed, forget the reference before the change.
                                       With the reason "rebuilt" it comes from a learner that made its state again by replay
    """

    seq: int
    model: str
    verb: str
    version: int | None = None
    trained_to: dict[str, int] = {}
    spec: dict[str, Any] = {}
    confirmed: bool = False
    reason: str = ""
    mode: str = "skip"
    accepts: bool = False
    share: float = 0.0
    salt: str = ""


class _Signed(msgspec.Struct):
    body: str
    key: str
    mac: str


def sign_command(command: Command, keys: KeyRing) -> bytes:
    """The signed record of a command."""
    body = msgspec.json.encode(command)
    key, mac = keys.sign(body)
    return msgspec.json.encode(_Signed(body.decode(), key, mac))


def open_command(data: bytes, keys: KeyRing) -> Command:
    """The command in a record. Raises BadSignature for one that is not ours or is damaged."""
    try:
        signed = msgspec.json.decode(data, type=_Signed)
        keys.verify(signed.body.encode(), signed.key, signed.mac)
        return msgspec.json.decode(signed.body, type=Command)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSignature(f"not a signed command: {error}") from None


def signer_of(data: bytes) -> str:
    """The id of the key that is said to have signed a command's record; nothing is verified. Raises BadSignature."""
    try:
        return msgspec.json.decode(data, type=_Signed).key
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSignature(f"not a signed command: {error}") from None


class DeadLetter(msgspec.Struct, omit_defaults=True):
    """What could not be learned. `raw` is the record's value, base64; (model, shard, offset, reason) names it."""

    model: str
    stream: str
    shard: int
    offset: int
    ts: float
    reason: str
    detail: str
    key: str
    raw: bytes


class Claim(msgspec.Struct, tag="claim", tag_field="type"):
    """A learner takes a shard; the record's own offset is its generation.

    `recipe`: what it would make version 1 of, see `lineage`: the first claim's counts. `first`: the first retained offset.
    """

    model: str
    shard: int
    holder: str
    at: float
    recipe: dict[str, Any] = {}
    first: int = 0


class Request(msgspec.Struct, tag="request", tag_field="type", omit_defaults=True):
    """A person or an application asks control for something.

    `action`: retrain, cancel, promote, rollback, hold, resume (with `mode`), rewind (with `to`, places in the log, and `skip`,
    ranges of it, both as `retrain.rewind` reads them), import (with `data`, see `control.imports.Offer`), silence (with
    `for_s`, seconds; 0 ends it).
    """

    id: str
    model: str
    action: str
    by: str
    at: float
    reason: str = ""
    version: int | None = None
    mode: str = "skip"
    to: list[str] = []
    skip: list[str] = []
    data: dict[str, Any] = {}
    for_s: float | None = None


class Decision(msgspec.Struct, tag="decision", tag_field="type", omit_defaults=True):
    """One step of control's state machine: what was decided, why, by which numbers. `case` joins the steps of one story.

    `kind`: registered, case_opened, confirmed, rejected, expired, retrain_started, retrain_kept (by the policies;
    `final` when the case ends with it), retrain_asked (for all that), retrained, retrain_failed, trial_started,
    canary_started, trial_won, trial_lost, promoted, recovered, not_recovered, rollback_started, rollback_failed, rolled_back,
    detached, held, resumed, range_skipped, imported, version_dropped (its bytes: it was old, see `control.dropping`),
    request_refused; feature_drift (once for a feature and episode), broken_input (the case ends, no retrain), detectors_reset
    (after broken input has healed), rebuilt (a learner of another build has read everything again: its detectors are reset),
    silenced (no notices of the model before `until`, null for an end of the silence). `held` and `resumed` by "diagnosis" are
    control's.

    `case_opened` has the case's kind in `numbers["kind"]`: drift, manual, changed (the recipe), contract (features came, went
    or changed their type: `changes` [{feature, what, was, is}], `since`, `starts` by shard), rewind, restore.

    `signal`: the newest offset of `_signals` that had been read. `numbers` also hold what is to be done:
    `command` (sent with this record's offset as its seq), `then` (commands after it), `request` (the offset it settles).
    """

    model: str
    kind: str
    at: float
    case: str = ""
    version: int | None = None
    n: int = 0
    offset: int = 0
    signal: int = -1
    by: str = "control"
    why: str = ""
    numbers: dict[str, Any] = {}


class Notified(msgspec.Struct, tag="notified", tag_field="type", omit_defaults=True):
    """What a target of notifications was told of a model, up to the control-log offset `upto`.

    `outcome`: started (a new target; what came before `upto` is not told, whatever the model), delivered, undelivered (given up
    after so many `attempts`, with the last `error`), resent or dismissed (a person has dealt with the undelivered one whose
    record is at offset `of`). `counts`: notices by kind; `notices`: the offsets of those that were told one by one.
    """

    model: str
    target: str
    outcome: str
    at: float
    upto: int
    counts: dict[str, int] = {}
    notices: list[int] = []
    attempts: int = 0
    error: str = ""
    of: int = -1
    by: str = "control"


class KeyMade(msgspec.Struct, tag="key_made", tag_field="type", omit_defaults=True):
    """An API key was made. Of its secret only `digest` is kept, SHA-256 of `salt` and secret, both hexadecimal.

    `key` is its id, `expires` Unix seconds, `rate` the requests a second that it may make, in the place of the settings'.
    """

    key: str
    name: str
    scopes: list[str]
    salt: str
    digest: str
    by: str
    at: float
    expires: float | None = None
    rate: float | None = None


class KeyRevoked(msgspec.Struct, tag="key_revoked", tag_field="type", omit_defaults=True):
    """The API key with the id `key` opens nothing any more."""

    key: str
    name: str
    by: str
    at: float
    reason: str = ""


class Refused(msgspec.Struct, tag="refused", tag_field="type", omit_defaults=True):
    """Actions, or attempts to sign in, that were refused `count` times from `since` to `at`.

    `by`: the caller, "unknown" without a valid key. `reason` is the kind of the problem, `models` and `origins` (addresses) the
    first few that were concerned.
    """

    by: str
    action: str
    reason: str
    at: float
    since: float
    count: int = 1
    models: list[str] = []
    origins: list[str] = []


ModelRecord = Claim | Request | Decision
AccessRecord = KeyMade | KeyRevoked | Refused
ControlRecord = ModelRecord | AccessRecord | Notified
_control_decoder: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(ControlRecord)


def decode_control(data: bytes) -> ControlRecord:
    """The record in a control-log value. Raises msgspec.DecodeError."""
    record: ControlRecord = _control_decoder.decode(data)
    return record


def audit_id(offset: int) -> str:
    """The id of the audit document of a control-log offset; ids sort as offsets do."""
    return f"{offset:020d}"


class Status(msgspec.Struct, omit_defaults=True):
    """What a shard says of itself about once a second; `position` is the next offset to read, `end` the log's end then.

    `backfill`: it has still to read what was there when it began. `withheld`: why it does not publish yet. `log_lost_s`: for
    how long it has not been able to read the log; `end` is then as it was known last. `lag_s`: how old the newest record was
    when it was read, while there are more to read. `drift`: how near each detector is to an alarm, see `drift.statistics`;
    none while a case is judged.

    What only grows while the learner has the shard, and is 0 when another begins (Prometheus's kind of counter): `counted`, the
    changes of `counters`, with "learned" and "alarms"; `failures` of the log and the store by which; and the histograms
    `learn_s` (of each record, as the mean of its batch), `fresh_s` (of each record, from appended to learned, but for a
    backfill's) and `pauses_s` (of the loop, by what was written).
    """

    model: str
    shard: int
    generation: int
    version: int
    shadow: int | None
    position: int
    end: int
    log: str
    at: float
    n: int
    clock: float | None
    held: str | None
    counters: dict[str, int]
    pending: int
    early: int
    scores: dict[str, Any]
    shadow_scores: dict[str, Any] = {}
    delay: dict[str, float] = {}
    rate: float = 0.0
    freshness_ms: dict[str, float] = {}
    pause_ms: dict[str, float] = {}
    checkpoint_at: float | None = None
    outcomes: dict[str, list[float]] = {}
    backfill: Backfill | None = None
    withheld: str = ""
    log_lost_s: float | None = None
    lag_s: float | None = None
    checkpoint_bytes: int | None = None
    drift: dict[str, float] = {}
    counted: dict[str, int] = {}
    failures: dict[str, int] = {}
    learn_s: Buckets | None = None
    fresh_s: Buckets | None = None
    pauses_s: dict[str, Buckets] = {}
