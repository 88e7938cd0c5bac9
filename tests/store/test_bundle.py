"""A version as one file: what was written comes back, and nothing comes back that was not verified."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamlearn.errors import BadSignature, CodecError, ConfigError, Corrupt, Unexpected
from streamlearn.events import Position
from streamlearn.keys import KeyRing
from streamlearn.store import bundle, codec
from streamlearn.store.bundle import Manifest

KEYS = KeyRing({"k1": b"0123456789abcdef"})
OTHER = KeyRing({"k2": b"fedcba9876543210"})
SAME_NAME = KeyRing({"k1": b"fedcba9876543210"})


def blob(shard: int = 0, keys: KeyRing = KEYS, version: int = 3) -> bytes:
    return codec.encode(
        kind="version", model="m", version=version, shard=shard, generation=0, positions=[Position("log", "s", shard, 7)],
        created=1.0, parts={"model": b"model" * 50, "join": b"join"}, keys=keys,
    )  # fmt: skip


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "model": "m", "version": 3, "what": "fitted", "exported_at": 5.0, "made_with": {"river": "0.26"},
        "settings": {"task": "b"}, "document": {"fate": "champion"}, "blobs": {},
    }  # fmt: skip
    return Manifest(**(values | changes))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.zip"
    bundle.write(path, manifest(), {0: blob(0), 1: blob(1)}, KEYS)
    return path


def rewritten(file: Path, **entries: bytes | None) -> Path:
    """The file with entries replaced (their names' last part as the key), or left out for None."""
    with zipfile.ZipFile(file) as old:
        content = {name: old.read(name) for name in old.namelist()}
    for name, data in entries.items():
        [full] = [one for one in content if one.startswith(name.replace("_", "-"))]
        if data is None:
            del content[full]
        else:
            content[full] = data
    with zipfile.ZipFile(file, "w") as new:
        for name, data in content.items():
            new.writestr(name, data)
    return file


def test_what_was_written_comes_back(file: Path) -> None:
    read = bundle.read(file, KEYS)
    assert set(read.sealed) == {0, 1}
    assert read.sealed[1].all_parts() == {"model": b"model" * 50, "join": b"join"}
    assert read.sealed[1].header.positions[0].partition == 1
    assert read.manifest == manifest(blobs=read.manifest.blobs)
    assert bundle.read(file, KEYS).digest == read.digest
    assert [path.name for path in file.parent.iterdir()] == ["m.zip"]


def test_nothing_is_written_over(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        bundle.write(file, manifest(), {0: blob()}, KEYS)
    assert file.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        bundle.write(tmp_path / "no" / "m.zip", manifest(), {0: blob()}, KEYS)
    with pytest.raises(ConfigError, match="cannot be read"):
        bundle.read(tmp_path / "m.zip", KEYS)


def test_every_altered_byte_is_noticed(file: Path) -> None:
    whole = file.read_bytes()
    noticed = same = 0
    expected = bundle.read(file, KEYS)
    for at in range(0, len(whole), 7):
        altered = bytearray(whole)
        altered[at] ^= 0x41
        file.write_bytes(bytes(altered))
        try:
            read = bundle.read(file, KEYS)
        except (CodecError, ConfigError):
            noticed += 1
        else:  # a date of the zip, say
            assert read.manifest == expected.manifest
            assert [one.all_parts() for one in read.sealed.values()] == [one.all_parts() for one in expected.sealed.values()]
            same += 1
    assert noticed > 10 * same


@pytest.mark.parametrize("size", [0, 3, 200, -10])
def test_a_file_cut_short(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(Corrupt, match="not an exported version"):
        bundle.read(file, KEYS)


def test_another_key_and_another_key_of_the_same_name(file: Path) -> None:
    with pytest.raises(BadSignature, match="signed with key 'k1', which is not in the key ring"):
        bundle.read(file, OTHER)
    with pytest.raises(BadSignature, match="does not match the content"):
        bundle.read(file, SAME_NAME)


def test_a_blob_of_another_version_or_shard_under_a_sound_manifest(tmp_path: Path) -> None:
    for number, blobs in enumerate(({0: blob(version=4)}, {0: blob(1)}, {0: blob(keys=OTHER)}, {1: blob(1)}, {})):
        path = tmp_path / f"{number}.zip"
        bundle.write(path, manifest(), blobs, KEYS)
        with pytest.raises(CodecError):
            bundle.read(path, KEYS)


def test_a_signed_blob_put_in_place_of_another(file: Path) -> None:
    with pytest.raises(Corrupt, match=r"shard-0.blob does not match its SHA-256"):
        bundle.read(rewritten(file, shard_0=blob(0, version=3) + b"x"), KEYS)


@pytest.mark.parametrize("name", ["manifest", "signature", "shard_1"])
def test_an_entry_that_is_missing(file: Path, name: str) -> None:
    with pytest.raises(Corrupt, match="it has no"):
        bundle.read(rewritten(file, **{name: None}), KEYS)


def test_a_signature_that_is_none(file: Path) -> None:
    with pytest.raises(BadSignature, match="cannot be read"):
        bundle.read(rewritten(file, signature=b"\xff"), KEYS)


def test_a_manifest_of_another_schema(tmp_path: Path) -> None:
    for number, changes in enumerate(({"schema": 2}, {"format": "other"})):
        path = tmp_path / f"{number}.zip"
        bundle.write(path, manifest(**changes), {0: blob()}, KEYS)
        with pytest.raises(Unexpected, match="this streamlearn reads"):
            bundle.read(path, KEYS)


def test_a_signed_manifest_of_no_meaning(file: Path) -> None:
    body = b"[]"
    signature = msgspec.json.encode(dict(zip(("key", "mac"), KEYS.sign(body), strict=True)))
    with pytest.raises(Unexpected, match="cannot read"):
        bundle.read(rewritten(file, manifest=body, signature=signature), KEYS)


def test_nothing_compressed_is_opened(file: Path) -> None:
    with zipfile.ZipFile(file) as old:
        content = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in content.items():
            new.writestr(name, data)
    with pytest.raises(Corrupt, match="compressed"):
        bundle.read(file, KEYS)
