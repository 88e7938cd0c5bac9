"""The rules of acceptance: every reason code that the door can give, each by an event that earns it; and the partitioner."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.errors import EventError
from streamlearn.events import (
    MAX_DEPTH,
    REASONS,
    Event,
    Limits,
    Prediction,
    ShownItem,
    check_event,
    decode_event,
    decode_posted,
    decode_prediction,
    default_key,
    encode,
    fingerprint,
    is_item_record,
    murmur2,
    new_id,
    parse_time,
    partition_of,
    split_body,
    unit_of,
)

NOW = 1_767_225_600.0  # 2026-01-01
LIMITS = Limits(max_features=5, max_string=10)


def accept(data: bytes) -> Event:
    """What the door does with one event."""
    event = decode_event(data)
    check_event(event, LIMITS, NOW)
    return event


def refused(data: bytes) -> tuple[str, str]:
    with pytest.raises(EventError) as caught:
        accept(data)
    assert caught.value.reason in REASONS
    assert caught.value.detail
    assert str(caught.value) == f"{caught.value.field}: {caught.value.detail} [{caught.value.reason}]"
    return caught.value.reason, caught.value.field


def reason_of(call: Callable[[], object]) -> str | None:
    """The reason for which `call` refuses, None when it does not; any other exception fails the test."""
    try:
        call()
    except EventError as error:
        return error.reason
    return None


# -- accepted


def test_a_whole_event() -> None:
    event = accept(b'{"stream":"s","id":"a","ts":1,"key":"k","x":{"n":1,"f":-0.5,"s":"t","b":true,"z":null},"y":false}')
    assert event == Event("s", "a", 1, "k", {"n": 1, "f": -0.5, "s": "t", "b": True, "z": None}, False)
    assert event.x is not None
    assert [type(value) for value in event.x.values()] == [int, float, str, bool, type(None)]


@pytest.mark.parametrize(
    "data",
    [
        b'{"stream":"s","x":{}}',
        b'{"stream":"s","id":"a","y":0}',
        b'{"stream":"s","user":"u","item":"i","action":"view"}',
        b'{"stream":"s","items":["a",{"item":"b","price":1.5}]}',
        b'{"stream":"s","id":"i","user":"u","items":[{"item":"a","position":3,"propensity":1.0},{"item":"a"}],"x":{"page":"home"}}',
        b'{"stream":"s","item":"i","action":"$set","x":{"name":"I","available":false,"price":null}}',
        b'{"stream":"s","item":"i","action":"$set","x":{"available":null}}',
        b'{"stream":"s","user":"u","action":"$set","x":{"plan":"free","available":"some day"}}',
        b'{"stream":"s","user":"u","action":"$delete"}',
        b'{"stream":"s","x":{"a":9223372036854775807,"b":-9223372036854775808}}',
        b'{"stream":"s","x":{"a":1e308,"b":5e-324,"c":1e-999}}',
        b'{"stream":"s","x":{"a":1},"a field of tomorrow":[1,2]}',
        '{"stream":"s","x":{"straße":"日本"}}'.encode(),
        b' {"stream":"s","x":{}} \n',
    ],
)
def test_what_goes_in(data: bytes) -> None:
    assert accept(data).stream == "s"


@pytest.mark.parametrize(
    ("data", "unknown"),
    [
        (b'{"stream":"s","id":"a","x":{"Y":1}}', None),
        (b'{"stream":"s","id":"a","x":{},"Y":1,"z":2}', "Y"),
        (b'{"stream":"s","id":"a","x":{},"a `b`":1}', "a `b`"),
    ],
)
def test_what_is_posted_is_read_like_any_event_and_a_strange_field_is_named(data: bytes, unknown: str | None) -> None:
    event, named = decode_posted(data)
    assert named == unknown
    assert encode(event) == encode(decode_event(data))


@pytest.mark.parametrize("data", [b"{", b"\xff", b'{"Y":1}', b'{"Y":1,"stream":3}', b'{"stream":"s","Y":NaN}'])
def test_what_is_no_event_is_refused_alike_when_posted(data: bytes) -> None:
    with pytest.raises(EventError) as plain:
        decode_event(data)
    with pytest.raises(EventError) as posted:
        decode_posted(data)
    assert str(posted.value) == str(plain.value)


def test_encode_leaves_out_what_is_not_set() -> None:
    assert encode(Event("s", "a", x={"f": 1.0})) == b'{"stream":"s","id":"a","x":{"f":1.0}}'


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        max_size=5,
    )
)
def test_features_come_back_with_their_types(x: dict[str, Any]) -> None:
    back = decode_event(encode(Event("s", x=x))).x
    assert back == x
    assert back is not None
    assert [type(back[name]) for name in x] == [type(value) for value in x.values()]


# -- refused, reason by reason

DOOR: dict[str, list[tuple[bytes, str]]] = {
    "malformed": [
        (b"", "$"),
        (b"hello", "$"),
        (b'{"stream":"s"', "$"),
        (b'{"stream":"s"} x', "$"),
        (b"{'stream':'s'}", "$"),
        (b'{"stream":"s","id":"\xff"}', "$"),
        (b'{"stream":"s","x":{"\xc3\x28":1}}', "$"),
        (b'{"stream":"s","id":"\\ud800"}', "$"),
        (b'\xef\xbb\xbf{"stream":"s"}', "$"),
        (b"\xff\xfe{\x00", "$"),
    ],
    "shape": [
        (b"null", "$"),
        (b"[]", "$"),
        (b"{}", "stream"),
        (b'{"stream":1,"x":{}}', "stream"),
        (b'{"stream":"s","x":[1]}', "x"),
        (b'{"stream":"s","x":{"fine":1,"bad":[1]}}', "x.bad"),
        (b'{"stream":"s","x":{"fine":1,"bad":{"c":1}}}', "x.bad"),
        (b'{"stream":"s","y":{}}', "y"),
        (b'{"stream":"s","ts":true,"x":{}}', "ts"),
        (b'{"stream":"s","id":7,"x":{}}', "id"),
        (b'{"stream":"s","id":"","x":{}}', "id"),
        (b'{"stream":"s","key":"","x":{}}', "key"),
        (b'{"stream":"s","y":1}', "id"),
        (b'{"stream":"s","item":"i"}', "action"),
        (b'{"stream":"s","action":"click"}', "item"),
        (b'{"stream":"s","action":"$update","item":"i","x":{}}', "action"),
        (b'{"stream":"s","action":"$set","x":{}}', "item"),
        (b'{"stream":"s","action":"$set","item":"i","user":"u","x":{}}', "item"),
        (b'{"stream":"s","action":"$set","item":"i"}', "x"),
        (b'{"stream":"s","action":"$set","item":"i","x":{"available":"no"}}', "x.available"),
        (b'{"stream":"s","items":[]}', "items"),
        (b'{"stream":"s","items":[1]}', "items[0]"),
        (b'{"stream":"s","items":["a",""]}', "items[1]"),
        (b'{"stream":"s","items":["a",{"id":"b"}]}', "items[1]"),
        (b'{"stream":"s","items":[{"item":"a","propensity":0}]}', "items[0].propensity"),
        (b'{"stream":"s","items":[{"item":"a","propensity":1.1}]}', "items[0].propensity"),
        (b'{"stream":"s","items":[{"item":"a","position":-1}]}', "items[0].position"),
    ],
    "too_many_items": [(b'{"stream":"s","items":[' + b'"a",' * 1000 + b'"a"]}', "items")],
    "too_deep": [
        (b'{"stream":"s","items":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "$"),
        (b'{"stream":"s","x":{},"other":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, "$"),
        (b'{"stream":"s","items":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "items"),
        (b'{"stream":"s","items":[{"item":"a","more":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}]}", "items"),
        (b'{"stream":"s","items":[' + b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"]}", "items"),
    ],
    "empty": [(b'{"stream":"s"}', "x"), (b'{"stream":"s","id":"a","y":null,"user":"u"}', "x")],
    "too_many_features": [(b'{"stream":"s","x":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}}', "x")],
    "too_long": [
        (b'{"stream":"s","id":"elevenchars","x":{}}', "id"),
        (b'{"stream":"s","x":{"a":"elevenchars"}}', "x.a"),
        (b'{"stream":"s","x":{"elevenchars":1}}', "x"),
        (b'{"stream":"s","id":"a","y":"elevenchars"}', "y"),
        (b'{"stream":"s","action":"elevenchars"}', "action"),
        (b'{"stream":"s","items":["elevenchars"]}', "items[0]"),
    ],
    "not_finite": [
        (b'{"stream":"s","x":{"a":1,"b":NaN}}', "x.b"),
        (b'{"stream":"s","x":{"a":Infinity}}', "x.a"),
        (b'{"stream":"s","x":{"a":-Infinity}}', "x.a"),
        (b'{"stream":"s","x":{"a":1e999}}', "x.a"),
        (b'{"stream":"s","x":{"a":-1e999}}', "x.a"),
        (b'{"stream":"s","id":"a","y":1e999}', "y"),
        (b'{"stream":"s","id":"a","y":NaN}', "y"),
        (b'{"stream":"s","ts":1e999,"x":{}}', "ts"),
        (b'{"stream":"s","x":{"a":' + b"9" * 5000 + b"}}", "x[...]"),
    ],
    "out_of_range": [
        (b'{"stream":"s","x":{"a":18446744073709551616}}', "x.a"),
        (b'{"stream":"s","x":{"a":9223372036854775808}}', "x.a"),
        (b'{"stream":"s","x":{"a":-9223372036854775809}}', "x.a"),
        (b'{"stream":"s","id":"a","y":18446744073709551616}', "y"),
        (b'{"stream":"s","x":{"a":' + b"9" * 400 + b"}}", "x.a"),
    ],
    "time": [
        (b'{"stream":"s","ts":"yesterday","x":{}}', "ts"),
        (b'{"stream":"s","ts":"","x":{}}', "ts"),
        (b'{"stream":"s","ts":"12:00","x":{}}', "ts"),
        (b'{"stream":"s","ts":"2026-13-01T00:00:00Z","x":{}}', "ts"),
        (b'{"stream":"s","ts":-1e300,"x":{}}', "ts"),
    ],
    "future": [
        (b'{"stream":"s","ts":"2099-01-01T00:00:00Z","x":{}}', "ts"),
        (b'{"stream":"s","ts":1767225600000,"x":{}}', "ts"),
        (b'{"stream":"s","ts":1e300,"x":{}}', "ts"),
    ],
}


@pytest.mark.parametrize(("reason", "data", "field"), [(reason, *case) for reason, cases in DOOR.items() for case in cases])
def test_what_is_refused_and_why(reason: str, data: bytes, field: str) -> None:
    assert refused(data) == (reason, field)


def test_the_reasons_above_are_all_that_the_rules_here_can_give() -> None:
    """The others need the configuration, the learner or a signature."""
    elsewhere = {
        "unknown_stream",
        "too_large",
        "misrouted",
        "feature_type",
        "unknown_label",
        "orphan",
        "late",
        "correction",
        "bad_signature",
        "unlearnable",
        "not_finite_prediction",
    }
    assert set(DOOR) | elsewhere == set(REASONS)
    assert set(DOOR).isdisjoint(elsewhere)


def test_just_within_the_limits() -> None:
    accept(b'{"stream":"s","id":"ten_chars_","x":{"a":1,"b":1,"c":1,"d":1,"ten_chars_":"ten_chars_"}}')
    accept(b'{"stream":"s","items":[{"item":"a","more":' + b"[" * (MAX_DEPTH - 3) + b"]" * (MAX_DEPTH - 3) + b"}]}")
    accept(b'{"stream":"s","items":[' + b'"a",' * 999 + b'"a"]}')
    accept(b'{"stream":"s","ts":%d,"x":{}}' % (NOW + LIMITS.max_ahead_s))


@pytest.mark.parametrize(
    ("data", "key", "everywhere"),
    [
        (b'{"stream":"s","id":"a","x":{}}', "a", False),
        (b'{"stream":"s","id":"a","user":"u","x":{},"y":1}', "a", False),  # its label, by id alone, must find it
        (b'{"stream":"s","id":"a","user":"u","item":"i","action":"click"}', "u", False),
        (b'{"stream":"s","id":"a","item":"i","action":"click"}', "a", False),
        (b'{"stream":"s","id":"a","user":"u","items":["i"]}', "u", False),
        (b'{"stream":"s","user":"u","action":"$delete"}', "u", False),
        (b'{"stream":"s","item":"i","action":"$delete"}', None, True),
    ],
)
def test_where_an_event_without_a_key_belongs(data: bytes, key: str | None, everywhere: bool) -> None:
    event = accept(data)
    assert (default_key(event), is_item_record(event)) == (key, everywhere)


def test_a_slate_survives_its_record() -> None:
    slate = [ShownItem("a", 1, 0.95, 1.5, "covisit", [0.5, -1.0]), ShownItem("b", 2)]
    prediction = Prediction("s", "i", "m", 3, x={"page": "home"}, user="u", items=slate)
    assert decode_prediction(encode(prediction)) == prediction
    assert b'"y"' not in encode(prediction)


def test_nan_that_did_not_come_as_json() -> None:
    """The learner holds records to the same rules, and a program may hand over an Event that it made itself."""
    for value in (math.nan, math.inf, -math.inf):
        for event in (Event("s", "a", x={"f": value}), Event("s", "a", y=value), Event("s", "a", x={}, ts=value)):
            with pytest.raises(EventError) as caught:
                check_event(event, LIMITS, NOW)
            assert caught.value.reason == "not_finite"


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_noise_is_refused_in_our_own_words(data: bytes) -> None:
    assert reason_of(lambda: accept(data)) in {None, *REASONS}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["stream", "id", "ts", "key", "x", "y", "user", "item", "action", "items", "more"])


@given(st.dictionaries(fields, json_values, max_size=6))
def test_any_json_is_accepted_or_refused_in_our_own_words(tree: dict[str, Any]) -> None:
    data = json.dumps(tree).encode()
    reason = reason_of(lambda: accept(data))
    assert reason in {None, *REASONS}
    if reason is None:
        assert all(not isinstance(value, float) or math.isfinite(value) for value in (accept(data).x or {}).values())


# -- predictions


def test_a_logged_prediction() -> None:
    prediction = Prediction("s", "a", "m", 3, True, {"true": 0.9, "false": 0.1}, x={"f": 1})
    assert decode_prediction(encode(prediction)) == prediction


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"{", "malformed"), (b'{"stream":"s"}', "shape"), (b"\xff", "malformed"), (b'{"stream":NaN}', "not_finite")],
)
def test_a_bad_prediction(data: bytes, reason: str) -> None:
    with pytest.raises(EventError) as caught:
        decode_prediction(data)
    assert caught.value.reason == reason


# -- time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00Z", NOW),
        ("2026-01-01t00:00:00z", NOW),
        ("2026-01-01 00:00:00Z", NOW),
        ("2026-01-01T00:00:00+00:00", NOW),
        ("2026-01-01T02:00:00+02:00", NOW),
        ("2025-12-31T18:30:00-05:30", NOW),
        ("2026-01-01T00:00:00.25Z", NOW + 0.25),
        ("2026-01-01T00:00:00.123456789Z", NOW + 0.123456),
        ("2026-01-01T00:00:00", NOW),
        ("2026-01-01", NOW),
        ("1969-12-31T23:59:59Z", -1.0),
    ],
)
def test_rfc_3339(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-6)


def test_unix_seconds() -> None:
    assert parse_time(12) == 12.0
    assert type(parse_time(12)) is float
    assert parse_time(1.5) == 1.5
    assert parse_time(-86_400) == -86_400.0


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))
def test_text_and_seconds_agree(moment: datetime) -> None:
    exact = moment.replace(tzinfo=UTC)
    assert parse_time(exact.isoformat()) == parse_time(exact.timestamp()) == exact.timestamp()


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_an_event_error(text: str) -> None:
    assert reason_of(lambda: math.isfinite(parse_time(text))) in {None, "time"}


# -- request bodies


def split(body: bytes, ndjson: bool = False) -> list[tuple[int, Any]]:
    return [(i, (raw.reason, raw.field) if isinstance(raw, EventError) else bytes(raw)) for i, raw in split_body(body, ndjson)]


def test_one_object_is_one_event() -> None:
    assert split(b' {"stream":"s"}') == [(0, b' {"stream":"s"}')]
    assert split(b"not json") == [(0, b"not json")]


def test_an_array() -> None:
    assert split(b'[{"a":1}, {"b":2},3]') == [(0, b'{"a":1}'), (1, b'{"b":2}'), (2, b"3")]
    assert split(b" []") == []


def test_ndjson_skips_blank_lines_and_numbers_the_rest() -> None:
    assert split(b'{"a":1}\r\n\n   \n{"b":\n[1]', ndjson=True) == [(0, b'{"a":1}\r'), (1, b'{"b":'), (2, b"[1]")]
    assert split(b"", ndjson=True) == []
    assert decode_event(split(b'{"stream":"s"}\r\n', ndjson=True)[0][1]).stream == "s"


def test_an_array_in_which_python_wrote_nan() -> None:
    body = b'[{"x":{"a":NaN}}, {"x":{"a":1, "big":18446744073709551616}}, {"items":[1,[2,-Infinity]]}, {"y":1e999}, NaN]'
    assert split(body) == [
        (0, ("not_finite", "x.a")),
        (1, b'{"x":{"a":1,"big":18446744073709551616}}'),
        (2, ("not_finite", "items.1.1")),
        (3, ("not_finite", "y")),
        (4, ("not_finite", "$")),
    ]


def test_an_array_with_nan_and_half_a_surrogate() -> None:
    assert split(b'[{"b":NaN},{"a":"\\ud800"},{"c":1}]') == [
        (0, ("not_finite", "b")),
        (1, ("malformed", "$")),
        (2, b'{"c":1}'),
    ]


@pytest.mark.parametrize("depth", [300, 900, 960, 980, 2000, 5000])
def test_an_array_with_nan_and_deep_nesting(depth: int) -> None:
    """Wherever Python's own limit falls, the answer is in our words."""
    body = b"[NaN," + b"[" * depth + b"]" * depth + b"]"
    reason = reason_of(lambda: split(body))
    assert reason in {None, "too_deep", "not_finite"}
    if reason is None:
        (_, first), (_, second) = split(body)
        assert first == ("not_finite", "$")
        assert second in {("too_deep", "$"), b"[" * depth + b"]" * depth}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[", "malformed"),
        (b'[{"a":1}', "malformed"),
        (b"[1]]", "malformed"),
        (b"[" * 100_000, "too_deep"),
        (b'[{"a":NaN}', "not_finite"),
        (b"[\xff]", "malformed"),
    ],
)
def test_a_body_in_which_no_event_can_be_told_from_the_next(body: bytes, reason: str) -> None:
    with pytest.raises(EventError) as caught:
        split(body)
    assert caught.value.reason == reason


def test_bad_utf8_in_one_event_harms_that_one_alone() -> None:
    (_, first), (_, second) = split(b'[{"stream":"s","id":"\xff","x":{}},{"stream":"s","x":{}}]')
    assert refused(first) == ("malformed", "$")
    assert accept(second).stream == "s"


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=5)), max_size=5))
def test_an_array_and_its_lines_are_the_same_events(trees: list[dict[str, Any]]) -> None:
    array = [msgspec.json.decode(raw) for _, raw in split(json.dumps(trees).encode())]
    lines = [msgspec.json.decode(raw) for _, raw in split("\n".join(map(json.dumps, trees)).encode(), ndjson=True)]
    assert array == lines == trees


# -- keys to partitions


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_kafka(key: bytes, signed: int) -> None:
    """The vectors of Kafka's own test of org.apache.kafka.common.utils.Utils.murmur2, which returns a signed integer."""
    assert murmur2(key) == signed & 0xFFFFFFFF
    assert partition_of(key, 7) == (signed & 0x7FFFFFFF) % 7


@given(st.binary(max_size=60), st.integers(1, 1024))
def test_every_key_has_one_partition(key: bytes, partitions: int) -> None:
    assert 0 <= murmur2(key) < 2**32
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == partition_of(key, partitions)


def test_keys_spread_over_the_partitions() -> None:
    counts = [0] * 8
    for n in range(8000):
        counts[partition_of(b"user-%d" % n, 8)] += 1
    assert min(counts) > 800
    assert max(counts) < 1200


def test_fingerprint_is_the_same_everywhere() -> None:
    assert fingerprint("123456789") == 0xCBF43926  # the check value of CRC-32
    assert len({fingerprint(str(n)) for n in range(1000)}) == 1000


def test_new_ids_differ() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(id) == 32 for id in ids)


def test_a_keys_unit_is_the_same_everywhere_and_for_ever() -> None:
    assert unit_of("m@2", "ada") == 0.49621200109730557
    assert unit_of("", "") == 0.4304816492364817
    assert unit_of("m@2", "Zoë \ud800") == unit_of("m@2", "Zoë \ud800")  # half a surrogate pair is a key like any other


@given(st.text(max_size=20), st.text(max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_who_is_in_at_a_share_is_in_at_every_larger_one(salt: str, key: str, one: float, other: float) -> None:
    unit = unit_of(salt, key)
    assert 0.0 <= unit < 1.0
    assert unit == unit_of(salt, key)
    low, high = sorted((one, other))
    assert not (unit < low) or unit < high


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_a_share_of_the_keys_is_about_that_share_in_every_partition(share: float) -> None:
    keys = [f"user-{n}" for n in range(20_000)]
    for partition in range(2):
        mine = [key for key in keys if partition_of(key.encode(), 2) == partition]
        found = sum(unit_of("delay@7", key) < share for key in mine) / len(mine)
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / len(mine))


def test_another_salt_draws_anew() -> None:
    keys = [f"user-{n}" for n in range(20_000)]
    both = sum(unit_of("m@2", key) < 0.25 and unit_of("m@3", key) < 0.25 for key in keys)
    assert abs(both / len(keys) - 0.0625) < 0.007
