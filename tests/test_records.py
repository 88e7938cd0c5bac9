"""What the roles say to each other: signed commands that cannot be altered, and control records that keep their type."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.errors import BadSignature
from streamlearn.keys import KeyRing
from streamlearn.records import (
    Claim,
    Command,
    ControlRecord,
    DeadLetter,
    Decision,
    Request,
    Signal,
    Status,
    decode_control,
    open_command,
    sign_command,
)

KEYS = KeyRing({"k1": b"1" * 32, "k2": b"2" * 32})
TRY = Command(7, "m", "try", version=3, trained_to={"0": 120}, spec={"epochs": 2, "seed": None})


# -- commands


@pytest.mark.parametrize(
    "command",
    [
        TRY,
        Command(8, "m", "promote", version=3),
        Command(9, "m", "hold", reason="upstream ist kaputt: “nulls”"),
        Command(10, "m", "resume", mode="skip"),
        Command(11, "m", "reset", confirmed=True),
        Command(12, "m", "rollback"),
    ],
)
def test_what_is_signed_opens(command: Command) -> None:
    assert open_command(sign_command(command, KEYS), KEYS) == command


def test_any_key_of_the_ring_opens() -> None:
    assert open_command(sign_command(TRY, KeyRing({"k2": b"2" * 32})), KEYS) == TRY


@pytest.mark.parametrize("ring", [KeyRing({"k1": b"x" * 32}), KeyRing({"k9": b"1" * 32})])
def test_a_stranger_s_command_does_not(ring: KeyRing) -> None:
    with pytest.raises(BadSignature):
        open_command(sign_command(TRY, ring), KEYS)


def test_no_altered_byte_gets_by() -> None:
    """Every byte in turn, also those of the JSON around the body: refused, or the very same command."""
    data = sign_command(TRY, KEYS)
    refused = 0
    for index in range(len(data)):
        for flip in (0x01, 0x02, 0x20, 0x80, 0xFF):
            bad = bytearray(data)
            bad[index] ^= flip
            try:
                assert open_command(bytes(bad), KEYS) == TRY
            except BadSignature:
                refused += 1
    assert refused > 4 * len(data)


def test_no_cut_gets_by() -> None:
    data = sign_command(TRY, KEYS)
    for length in range(len(data)):
        with pytest.raises(BadSignature):
            open_command(data[:length], KEYS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"\xff",
        b'{"body":"{}","key":"k1","mac":"00"}',
        '{"body":"{}","key":"k1","mac":"é"}'.encode(),
        b'{"body":"{}","key":"k1","mac":"\xff"}',
        b'{"body":1,"key":"k1","mac":"00"}',
        b'{"more":' + b"[" * 100_000,
    ],
)
def test_what_is_no_command_is_a_bad_signature(data: bytes) -> None:
    with pytest.raises(BadSignature):
        open_command(data, KEYS)


@given(st.binary(max_size=100))
def test_noise_is_a_bad_signature(data: bytes) -> None:
    with pytest.raises(BadSignature):
        open_command(data, KEYS)


@pytest.mark.parametrize("body", ["", "null", "{}", '{"seq":"x","model":"m","verb":"v"}', "[" * 100_000])
def test_a_signed_body_that_is_no_command(body: str) -> None:
    key, mac = KEYS.sign(body.encode())
    data = msgspec.json.encode({"body": body, "key": key, "mac": mac})
    with pytest.raises(BadSignature, match="not a signed command"):
        open_command(data, KEYS)


@given(
    st.builds(
        Command,
        seq=st.integers(0, 2**53),
        model=st.text(max_size=10),
        verb=st.sampled_from(["try", "detach", "promote"]),
        version=st.none() | st.integers(0, 1000),
        trained_to=st.dictionaries(st.text("0123456789", min_size=1, max_size=4), st.integers(0, 2**53), max_size=3),
        reason=st.text(max_size=20),
    )
)
def test_any_command_round_trips(command: Command) -> None:
    assert open_command(sign_command(command, KEYS), KEYS) == command


# -- the control log


@pytest.mark.parametrize(
    "record",
    [
        Claim("m", 0, "host-1", 5.0),
        Request("r1", "m", "retrain", "ana", 6.0, reason="monthly", version=2),
        Decision("m", "confirmed", 7.0, case="c1", version=2, n=900, offset=1200, signal=3, why="p", numbers={"p": 0.001}),
        Decision("m", "registered", 0.0),
    ],
)
def test_control_records_keep_their_type(record: ControlRecord) -> None:
    back = decode_control(msgspec.json.encode(record))
    assert type(back) is type(record)
    assert back == record


@pytest.mark.parametrize("data", [b"", b"{}", b'{"type":"unheard of"}', b'{"type":"claim"}', b"\xff"])
def test_what_is_no_control_record(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_control(data)


def test_fields_of_a_later_streamlearn_are_passed_over() -> None:
    data = b'{"type":"claim","model":"m","shard":0,"holder":"h","at":1.0,"colour":"red"}'
    assert decode_control(data) == Claim("m", 0, "h", 1.0)


# -- signals, dead letters, status


@pytest.mark.parametrize(
    "record",
    [
        Signal("m", 0, 4, "alarm", 1, 100, 90, 2.5, {"detector": "adwin", "change_offset": 80}),
        DeadLetter("m", "s", 0, 17, 1.5, "malformed", "not JSON", "key", b"\x00\xff raw bytes"),
        Status("m", 0, 3, 1, None, 50, 60, "log-a", 9.0, 40, None, None, {"learned": 40}, 2, 0, {"n": 40}),
    ],
)
def test_documents_round_trip(record: Any) -> None:
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record


def test_the_raw_bytes_of_a_dead_letter_are_base64() -> None:
    letter = DeadLetter("m", "s", 0, 17, 1.5, "malformed", "d", "k", b"\x00\xff")
    assert msgspec.json.decode(msgspec.json.encode(letter))["raw"] == "AP8="
