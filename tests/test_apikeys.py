"""API keys: how one is made, written down, found again, revoked; and that damaged or foreign ones open nothing."""

from __future__ import annotations

import hmac
import random
from typing import Any

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from streamlearn import apikeys
from streamlearn.apikeys import ALL, SCOPES, KeyBook, check_scopes, given, key_record, make
from streamlearn.errors import ConfigError
from streamlearn.events import encode
from streamlearn.records import Decision, KeyMade, KeyRevoked, Refused, decode_control

NOW = 1_767_225_600.0


def revoked(made: KeyMade) -> KeyRevoked:
    return KeyRevoked(made.key, made.name, "ada", NOW)


def test_a_made_key_is_found_by_what_its_holder_was_given_and_the_record_does_not_hold_it() -> None:
    book = KeyBook()
    token, made = make("shop", ["read", "write"], "ada", NOW)
    assert book.find(token.encode(), NOW) is None
    assert book.take(made)
    found = book.find(token.encode(), NOW)
    assert found is not None
    assert (found.name, found.scopes, found.id) == ("shop", {"read", "write"}, made.key)
    assert made.scopes == ["write", "read"]
    assert token.removeprefix(f"slk_{made.key}_").encode() not in encode(made)
    assert token != make("shop", ["read"], "ada", NOW)[0]


def test_the_same_secret_is_kept_differently_each_time() -> None:
    _, first = make("a", ["read"], "ada", NOW)
    _, second = make("a", ["read"], "ada", NOW)
    assert first.salt != second.salt
    assert (len(bytes.fromhex(first.salt)), len(bytes.fromhex(first.digest))) == (16, 32)


def test_any_altered_character_closes() -> None:
    book = KeyBook()
    token, made = make("shop", ["read"], "ada", NOW)
    book.take(made)
    for at in range(len(token)):
        other = token[:at] + ("x" if token[at] != "x" else "y") + token[at + 1 :]
        assert book.find(other.encode(), NOW) is None, other
    for other in (token + "x", token[:-1], " " + token, token.upper(), made.key, f"slk_{made.key}_", made.digest):
        assert book.find(other.encode(), NOW) is None, other


def test_one_key_does_not_open_as_another() -> None:
    book = KeyBook()
    (first, one), (second, two) = make("a", ["read"], "ada", NOW), make("b", ["write"], "ada", NOW)
    book.take(one)
    book.take(two)
    crossed = f"slk_{one.key}_{second.split('_', 2)[2]}"
    assert book.find(crossed.encode(), NOW) is None
    assert {key.name for key in book.valid(NOW)} == {"a", "b"}
    assert book.find(first.encode(), NOW) != book.find(second.encode(), NOW)


def test_a_revoked_key_opens_nothing_and_stays_so_in_whatever_order_the_records_come() -> None:
    token, made = make("shop", ["read"], "ada", NOW)
    for records in ([made, revoked(made)], [revoked(made), made], [made, revoked(made), made]):
        book = KeyBook()
        for record in records:
            book.take(record)
        assert book.find(token.encode(), NOW) is None
        assert book.by_id(made.key, NOW) is None
        assert book.valid(NOW) == []
        assert book.required, "to revoke the last key must not open the service to everybody"


def test_the_first_record_of_an_id_holds() -> None:
    token, made = make("shop", ["read"], "ada", NOW)
    _, other = make("thief", ["operate"], "eve", NOW)
    other.key = made.key
    book = KeyBook()
    assert book.take(made)
    assert not book.take(other)
    found = book.find(token.encode(), NOW)
    assert found is not None
    assert found.scopes == {"read"}


def test_a_key_ends_with_its_time() -> None:
    book = KeyBook()
    token, made = make("shop", ["read"], "ada", NOW, expires=NOW + 60)
    book.take(made)
    assert book.find(token.encode(), NOW + 59.9) is not None
    assert book.find(token.encode(), NOW + 60) is None
    assert book.by_id(made.key, NOW + 60) is None
    assert book.required


def test_keys_of_the_environment_are_found_by_the_secret_alone() -> None:
    book = KeyBook([given("app", "s3cret-s3cret-s3cret"), given("ops", "another-one-another", frozenset({"operate"}))])
    found = book.find(b"another-one-another", NOW)
    assert found is not None
    assert (found.name, found.scopes) == ("ops", {"operate"})
    assert book.by_id("env:app", NOW) == given("app", "s3cret-s3cret-s3cret")
    assert book.find(b"", NOW) is None
    assert book.find(b"s3cret-s3cret-s3cres", NOW) is None
    assert book.required
    assert not KeyBook().required


def test_a_record_with_a_digest_that_is_none_opens_nothing() -> None:
    book = KeyBook()
    token, made = make("shop", ["read"], "ada", NOW)
    made.salt = "not hexadecimal"
    assert not book.take(made)
    assert book.find(token.encode(), NOW) is None


@hypothesis_given(st.binary(max_size=120))
def test_whatever_is_sent_is_no_key(data: bytes) -> None:
    book = KeyBook([given("app", "0123456789abcdef")])
    book.take(make("shop", ["read"], "ada", NOW)[1])
    found = book.find(data, NOW)
    assert (found is not None) == (data == b"0123456789abcdef")


def test_each_comparison_is_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def watched(a: Any, b: Any) -> bool:
        compared.append((len(a), len(b)))
        return compare(a, b)

    compare = hmac.compare_digest
    monkeypatch.setattr(apikeys.hmac, "compare_digest", watched)
    book = KeyBook([given("app", "0123456789abcdef"), given("ops", "fedcba9876543210")])
    token, made = make("shop", ["read"], "ada", NOW)
    book.take(made)
    assert book.find(token.encode(), NOW) is not None
    assert compared == [(32, 32)], "one digest, however many keys there are"
    compared.clear()
    assert book.find(b"0123456789abcdef", NOW) is not None
    assert compared == [(32, 32), (32, 32)], "each key of the environment, also after one fits"


def test_only_records_of_keys_are_taken_from_the_control_log() -> None:
    _, made = make("shop", ["read"], "ada", NOW, rate=3.0)
    assert key_record(encode(made)) == made
    assert key_record(encode(revoked(made))) == revoked(made)
    assert key_record(encode(Refused("unknown", "hold", "unauthorized", NOW, NOW, 3, ["delay"]))) is None
    assert key_record(encode(Decision("delay", "held", NOW, why='about "key_made"'))) is None
    assert key_record(b'{"type":"key_made"}') is None
    assert key_record(b'"key_') is None


@hypothesis_given(st.integers(0, 2**32))
def test_records_of_access_go_through_the_control_log_unchanged(seed: int) -> None:
    rng = random.Random(seed)
    names = ["delay", "ctr", 'a"b', "<b>"]
    records = [
        make(rng.choice(names), rng.sample(SCOPES, rng.randint(1, 4)), rng.choice(names), NOW, rng.choice([None, NOW + 1]))[1],
        KeyRevoked("0a1b2c3d4e5f", rng.choice(names), "ada", NOW, rng.choice(names)),
        Refused("key app", "hold", "scope", NOW, NOW - 5, rng.randint(1, 9), rng.sample(names, 2), ["10.0.0.1"]),
    ]
    for record in records:
        assert decode_control(encode(record)) == record


def test_scopes_are_those_that_there_are() -> None:
    assert check_scopes(["read", "read"], "--scope") == {"read"}
    assert check_scopes(SCOPES, "--scope") == ALL
    with pytest.raises(ConfigError, match=r"--scope: there is no scope 'admin'. Write some of write, predict, read, operate"):
        check_scopes(["read", "admin"], "--scope")
    with pytest.raises(ConfigError, match="names no scope"):
        check_scopes([], "--scope")
