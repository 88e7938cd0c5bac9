"""The codec: what goes in comes out, and no altered byte gets by."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.errors import BadSignature, CodecError, Corrupt, Unexpected
from streamlearn.events import Position
from streamlearn.keys import KeyRing
from streamlearn.store import codec
from streamlearn.store.codec import MAGIC, MAX_HEADER_BYTES, Header, encode, open_blob

KEYS = KeyRing({"k1": b"1" * 32, "k2": b"2" * 32})
PARTS = {"model": b"model bytes", "join": b"", "scores": bytes(range(256))}
POSITIONS = [Position("log-a", "clicks", 0, 17)]
ASKED: dict[str, Any] = {"kind": "checkpoint", "model": "m", "shard": 2}


def make(parts: dict[str, bytes] = PARTS, keys: KeyRing = KEYS, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "kind": "checkpoint",
        "model": "m",
        "version": 4,
        "shard": 2,
        "generation": 9,
        "positions": POSITIONS,
        "created": 1.5,
        "extra": {"n": 3},
    }
    return encode(parts=parts, keys=keys, **{**fields, **changes})


def sign_again(blob: bytes, **changes: Any) -> bytes:
    """The blob with its header changed and signed anew, as another streamlearn that has our keys would write it."""
    length = int.from_bytes(blob[8:12], "big")
    header = msgspec.json.decode(blob[12 : 12 + length])
    body = msgspec.json.encode({**header, **changes})
    signed = MAGIC + len(body).to_bytes(4, "big") + body
    key_id, mac = KEYS.sign(signed)
    name_length = int.from_bytes(blob[12 + length : 14 + length], "big")
    parts = blob[14 + length + name_length + 32 :]
    return signed + len(key_id).to_bytes(2, "big") + key_id.encode() + bytes.fromhex(mac) + parts


# -- what goes in comes out


def test_round_trip() -> None:
    sealed = open_blob(make(), KEYS, **ASKED, log="log-a", version=4)
    header = sealed.header
    assert (header.schema, header.kind, header.model, header.version) == (1, "checkpoint", "m", 4)
    assert (header.shard, header.generation, header.created, header.extra) == (2, 9, 1.5, {"n": 3})
    assert header.positions == POSITIONS
    assert header.python == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert header.river.count(".") >= 1
    assert {name: sealed.part(name) for name in header.parts} == sealed.all_parts() == PARTS
    assert isinstance(header, Header)


def test_the_same_content_gives_the_same_bytes() -> None:
    assert make() == make()


@given(
    st.dictionaries(st.text(max_size=8), st.binary(max_size=300), max_size=5),
    st.text(max_size=20),
    st.integers(0, 2**62),
    st.dictionaries(st.text(max_size=5), st.integers(-5, 5) | st.text(max_size=5) | st.none(), max_size=3),
)
def test_any_parts_round_trip(parts: dict[str, bytes], model: str, offset: int, extra: dict[str, Any]) -> None:
    blob = make(parts, model=model, positions=[Position("l", "s", 3, offset)], extra=extra)
    sealed = open_blob(blob, KEYS, kind="checkpoint", model=model, shard=2)
    assert {name: sealed.part(name) for name in sealed.header.parts} == parts
    assert sealed.header.positions[0].offset == offset
    assert sealed.header.extra == extra


def test_no_parts() -> None:
    sealed = open_blob(make({}), KEYS, **ASKED)
    assert sealed.header.parts == {}


def test_nothing_is_unpickled() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return sys.exit, ("unpickled",)

    data = pickle.dumps(Bomb())
    assert open_blob(make({"model": data}), KEYS, **ASKED).part("model") == data


def test_a_missing_part_is_named() -> None:
    with pytest.raises(Unexpected, match=r"no part 'watch'; it has \['join', 'model', 'scores'\]"):
        open_blob(make(), KEYS, **ASKED).part("watch")


# -- keys


def test_any_key_of_the_ring_verifies() -> None:
    old = make(keys=KeyRing({"k2": b"2" * 32}))
    assert open_blob(old, KEYS, **ASKED).part("model") == PARTS["model"]


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(BadSignature, match="'k9', which is not in the key ring"):
        open_blob(make(keys=KeyRing({"k9": b"9" * 32})), KEYS, **ASKED)


def test_another_key_of_the_same_name_is_refused() -> None:
    with pytest.raises(BadSignature, match="does not match"):
        open_blob(make(keys=KeyRing({"k1": b"x" * 32})), KEYS, **ASKED)


# -- not what was asked for


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"kind": "publication"}, "kind is 'checkpoint', asked for was 'publication'"),
        ({"model": "other"}, "model is 'm', asked for was 'other'"),
        ({"shard": 0}, "shard is 2, asked for was 0"),
        ({"version": 5}, "version is 4, asked for was 5"),
        ({"log": "log-b"}, "log is 'log-a', asked for was 'log-b'"),
    ],
)
def test_sound_bytes_of_something_else(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(Unexpected, match=words):
        open_blob(make(), KEYS, **{**ASKED, **asked})


def test_every_position_must_lie_in_the_log() -> None:
    blob = make(positions=[Position("log-a", "s", 0, 1), Position("log-b", "s", 1, 1)])
    with pytest.raises(Unexpected, match="log is 'log-b'"):
        open_blob(blob, KEYS, **ASKED, log="log-a")


def test_another_schema() -> None:
    with pytest.raises(Unexpected, match="schema 2; this streamlearn reads schema 1"):
        open_blob(sign_again(make(), schema=2, parts="of another shape"), KEYS, **ASKED)


@pytest.mark.parametrize(("field", "value"), [("river", "0.1.0"), ("river", "99.26.0"), ("python", "2.7")])
def test_another_river_or_python(field: str, value: str) -> None:
    with pytest.raises(Unexpected, match=f"its {field} is"):
        open_blob(sign_again(make(), **{field: value}), KEYS, **ASKED)


def test_another_patch_release_of_river_is_fine() -> None:
    major_minor = ".".join(codec.river_version().split(".")[:2])
    sealed = open_blob(sign_again(make(), river=f"{major_minor}.999"), KEYS, **ASKED)
    assert sealed.part("model") == PARTS["model"]


@pytest.mark.parametrize("changes", [{"schema": "one"}, {"parts": [1, 2]}, {"positions": None}, {"generation": "x"}])
def test_a_signed_header_of_a_wrong_shape(changes: dict[str, Any]) -> None:
    with pytest.raises(Corrupt):
        open_blob(sign_again(make(), **changes), KEYS, **ASKED)


# -- damage


def test_any_flipped_byte_is_found_where_it_matters() -> None:
    """Every byte in turn: in the frame and the header on opening, in a part when that part is taken, and only there."""
    blob = make()
    start = len(blob) - sum(map(len, PARTS.values()))
    for index in range(len(blob)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            bad = bytearray(blob)
            bad[index] ^= flip
            if index < start:
                with pytest.raises((Corrupt, BadSignature)):
                    open_blob(bytes(bad), KEYS, **ASKED)
                continue
            sealed = open_blob(bytes(bad), KEYS, **ASKED)
            hit = "model" if index < start + len(PARTS["model"]) else "scores"
            with pytest.raises(Corrupt, match=hit):
                sealed.part(hit)
            for name in PARTS.keys() - {hit}:
                assert sealed.part(name) == PARTS[name]


def test_any_cut_is_found_on_opening() -> None:
    blob = make()
    for length in range(len(blob)):
        with pytest.raises((Corrupt, BadSignature)):
            open_blob(blob[:length], KEYS, **ASKED)


@given(st.binary(min_size=1, max_size=50))
def test_any_extension_is_found_on_opening(tail: bytes) -> None:
    with pytest.raises(Corrupt, match="where the header announces"):
        open_blob(make() + tail, KEYS, **ASKED)


@given(st.data())
def test_any_edit_is_found(data: st.DataObject) -> None:
    """Cut a range out and put other bytes in its place: an error of the codec, or every byte that is handed out is right."""
    blob = make()
    start = data.draw(st.integers(0, len(blob)))
    end = data.draw(st.integers(start, len(blob)))
    bad = blob[:start] + data.draw(st.binary(max_size=60)) + blob[end:]
    taken = {}
    for name in PARTS:
        try:
            sealed = open_blob(bad, KEYS, **ASKED)
            taken[name] = sealed.part(name)
        except CodecError:
            continue
        assert taken[name] == PARTS[name]
        assert sealed.header.extra == {"n": 3}
    assert bad == blob or len(taken) < len(PARTS)


@given(st.binary(max_size=200))
def test_noise_is_never_taken(noise: bytes) -> None:
    for blob in (noise, MAGIC + noise, MAGIC + len(noise).to_bytes(4, "big") + noise):
        with pytest.raises((Corrupt, BadSignature)):
            open_blob(blob, KEYS, **ASKED)


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER_BYTES, MAX_HEADER_BYTES + 1, 2**32 - 1])
def test_absurd_header_lengths(length: int) -> None:
    blob = make()
    with pytest.raises((Corrupt, BadSignature)):
        open_blob(blob[:8] + length.to_bytes(4, "big") + blob[12:], KEYS, **ASKED)


def test_a_header_that_grew_too_large_is_refused_when_written() -> None:
    with pytest.raises(ValueError, match="put what is large into a part"):
        make(extra={"huge": "x" * (MAX_HEADER_BYTES + 1)})


def test_parts_of_one_blob_do_not_fit_another() -> None:
    """Splicing: the header of one checkpoint with the parts of another of the same lengths."""
    old, new = make({"model": b"old"}), make({"model": b"new"})
    with pytest.raises(Corrupt):
        open_blob(new[:-3] + old[-3:], KEYS, **ASKED).part("model")
