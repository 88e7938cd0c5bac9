"""Signing keys: what one signs another ring verifies or refuses, and where keys come from."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.errors import BadSignature, ConfigError
from streamlearn.keys import KeyRing, items, load_keys, secret_text

A, B = b"a" * 32, b"b" * 32


def test_what_is_signed_verifies() -> None:
    ring = KeyRing({"k1": A, "k2": B})
    key_id, mac = ring.sign(b"data")
    assert key_id == "k1"
    assert len(bytes.fromhex(mac)) == 32
    ring.verify(b"data", key_id, mac)


def test_the_mac_is_hmac_sha256() -> None:
    """RFC 4231, test case 1."""
    _, mac = KeyRing({"k": b"\x0b" * 20}).sign(b"Hi There")
    assert mac == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"


def test_a_key_that_was_retired_from_signing_still_verifies() -> None:
    KeyRing({"new": B, "old": A}).verify(b"data", *KeyRing({"old": A}).sign(b"data"))


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_other_data_is_refused(data: bytes, other: bytes) -> None:
    ring = KeyRing({"k1": A})
    key_id, mac = ring.sign(data)
    if other == data:
        ring.verify(other, key_id, mac)
        return
    with pytest.raises(BadSignature, match="does not match the content"):
        ring.verify(other, key_id, mac)


@given(st.text(max_size=70))
def test_any_other_mac_is_refused(mac: str) -> None:
    with pytest.raises(BadSignature):
        KeyRing({"k1": A}).verify(b"data", "k1", mac)


def test_a_mac_in_capitals_is_another_mac() -> None:
    ring = KeyRing({"k1": A})
    _, mac = ring.sign(b"data")
    with pytest.raises(BadSignature):
        ring.verify(b"data", "k1", mac.upper())


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(BadSignature, match=r"'k9', which is not in the key ring \['k1'\]"):
        KeyRing({"k1": A}).verify(b"data", "k9", "00")


def test_a_ring_needs_keys_of_some_length() -> None:
    with pytest.raises(ConfigError, match="holds no key"):
        KeyRing({})
    with pytest.raises(ConfigError, match="'short' has 15 bytes"):
        KeyRing({"ok": A, "short": b"x" * 15})
    KeyRing({"just": b"x" * 16})


# -- where keys come from


def test_from_the_environment(tmp_path: Path) -> None:
    ring = load_keys({"STREAMLEARN_KEYS": f" k1:{A.hex()} , k2:{B.hex()},"}, tmp_path / "unused")
    assert ring.sign(b"x") == KeyRing({"k1": A}).sign(b"x")
    ring.verify(b"x", *KeyRing({"k2": B}).sign(b"x"))
    assert not (tmp_path / "unused").exists()


def test_from_the_file_that_the_environment_names(tmp_path: Path) -> None:
    secret = tmp_path / "signing_keys"
    secret.write_text(f"k1:{A.hex()}\n  k2:{B.hex()},\n\n")
    ring = load_keys({"STREAMLEARN_KEYS_FILE": str(secret)}, tmp_path / "unused")
    assert ring.sign(b"x") == KeyRing({"k1": A}).sign(b"x")
    ring.verify(b"x", *KeyRing({"k2": B}).sign(b"x"))
    assert not (tmp_path / "unused").exists()


def test_an_empty_file_does_not_stand_for_a_key_made_on_first_use(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match="holds no key"):
        load_keys({"STREAMLEARN_KEYS_FILE": str(tmp_path / "empty")}, tmp_path / "unused")


def test_a_file_that_cannot_be_read_is_named_and_a_second_source_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, why in (("none", "No such file"), ("binary", "it is not text")):
        with pytest.raises(ConfigError, match=rf"{name} cannot be read \({why}.*Name a file that this user may read") as caught:
            secret_text({"X_FILE": str(tmp_path / name)}, "X")
        assert caught.value.key == "X_FILE"
    with pytest.raises(ConfigError, match=r"X_FILE: is set beside X\. Set one of the two"):
        secret_text({"X_FILE": "f", "X": "k"}, "X")


def test_a_secret_comes_from_either_place_or_from_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("secret\n")
    assert secret_text({"X": "secret"}, "X") == "secret"
    assert secret_text({"X_FILE": str(tmp_path / "file")}, "X") == "secret\n"
    assert secret_text({"Y": "secret"}, "X") is None
    assert list(items("a, b\n\n c ,\r\nd")) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no key"),
        (" , ", "holds no key"),
        ("k1:xyz", "'k1' is not hexadecimal"),
        ("k1:abc", "'k1' is not hexadecimal"),
        ("k1:ab", "'k1' has 1 bytes"),
        ("k1:", "'k1' has 0 bytes"),
        ("5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e7", "holds a key without an id"),
        (":5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e7", "holds a key without an id"),
    ],
)
def test_bad_text_is_explained_and_no_key_is_shown(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        load_keys({"STREAMLEARN_KEYS": text}, tmp_path / "unused")
    assert caught.value.key == "STREAMLEARN_KEYS"
    assert "5ec7e7" not in str(caught.value)


def test_a_file_is_made_once_and_read_ever_after(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret.key"
    first = load_keys({}, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("local:")
    load_keys({}, path).verify(b"x", *first.sign(b"x"))
    assert [each.name for each in path.parent.iterdir()] == ["secret.key"]


def test_two_files_hold_two_keys(tmp_path: Path) -> None:
    signed = load_keys({}, tmp_path / "one").sign(b"x")
    with pytest.raises(BadSignature):
        load_keys({}, tmp_path / "two").verify(b"x", *signed)


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.write_text(f"mine:{A.hex()}\n")
    assert load_keys({}, path).sign(b"x") == KeyRing({"mine": A}).sign(b"x")
    assert path.read_text() == f"mine:{A.hex()}\n"


def test_rings_that_start_at_once_agree(tmp_path: Path) -> None:
    """Threads share the process id that names the draft, so they take turns here; the file is made by one of them."""
    path, turn, rings = tmp_path / "secret.key", threading.Lock(), []

    def load() -> None:
        with turn:
            rings.append(load_keys({}, path))

    threads = [threading.Thread(target=load) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ring.sign(b"x") for ring in rings}) == 1
