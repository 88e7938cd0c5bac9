"""Which signing keys are needed, and versions signed anew: over a real store and log on disk."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from streamlearn.cli import signing
from streamlearn.cli.wiring import World, opened, read_settings
from streamlearn.errors import BadSignature, Corrupt
from streamlearn.events import Kind, Position
from streamlearn.keys import KeyRing
from streamlearn.log import Entry
from streamlearn.records import Command, sign_command, signer_of
from streamlearn.store import Retention, codec

OLD, NEW = b"o" * 32, b"n" * 32
BOTH = KeyRing({"k2": NEW, "k1": OLD})
CONFIG = """
data_dir = "data"
[streams.s]
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
"""


def blob(ring: KeyRing, kind: str, **fields: Any) -> bytes:
    return codec.encode(
        kind=kind, model="m", version=1, shard=0, generation=1, positions=[Position("log", "s", 0, 1)], created=1.0,
        parts={"model": pickle.dumps([1, 2, 3]), "more": b"x" * 100}, keys=ring, **fields,
    )  # fmt: skip


def command(ring: KeyRing) -> Entry:
    return Entry(b"m", sign_command(Command(1, "m", "hold"), ring), Kind.COMMAND, 0)


@pytest.fixture
def world(tmp_path: Path) -> Any:
    path = tmp_path / "s.toml"
    path.write_text(CONFIG)
    old = KeyRing({"k1": OLD})
    with opened(read_settings(path, {}), {"STREAMLEARN_KEYS": f"k2:{NEW.hex()},k1:{OLD.hex()},k0:{'00' * 32}"}) as made:
        made.store.claim("m", 0, 1)
        for ring in (old, old, BOTH):
            made.store.put_checkpoint("m", 0, 1, blob(ring, "checkpoint"), Retention())
        made.store.put_publication("m", 0, 1, blob(BOTH, "publication"))
        for version, ring in ((1, old), (2, BOTH), (3, KeyRing({"k9": b"9" * 32}))):
            made.store.put_version("m", version, 0, blob(ring, "version"))
        made.log.append("s", [Entry(b"a", b"{}"), command(old), command(old), command(BOTH), Entry(b"a", b"{}")]).result()
        yield made


def row(world: World, key: str) -> signing.Needed:
    [found] = [one for one in signing.needed(world) if one.key == key]
    return found


def test_each_key_tells_what_it_signed(world: World) -> None:
    assert [one.key for one in signing.needed(world)] == ["k2", "k1", "k0", "k9"]
    new, old, unused, foreign = signing.needed(world)
    assert (new.state, new.checkpoints, new.versions, new.publications, new.older, new.commands) == ("signs", 1, 1, 1, 0, 1)
    assert (old.state, old.checkpoints, old.versions, old.publications, old.older, old.commands) == ("is needed", 0, 1, 0, 2, 2)
    assert old.last == world.log.read("s", 0, 2, 1)[0].ts
    assert (unused.state, unused.commands, unused.last) == ("can be taken out", 0, None)
    assert foreign.state == "is not in the ring, and is needed"


def test_versions_signed_anew_let_the_old_key_go_but_for_going_back(world: World) -> None:
    before = world.store.version("m", 1, 0)
    assert signing.renew(world) == 1
    after = world.store.version("m", 1, 0)
    assert before is not None
    assert after is not None
    alone = KeyRing({"k2": NEW})
    sealed = codec.open_blob(after, alone, kind="version", model="m", shard=0, version=1)
    was = codec.open_blob(before, BOTH, kind="version", model="m", shard=0, version=1)
    assert sealed.all_parts() == was.all_parts()
    assert sealed.header == was.header
    assert row(world, "k1").state == "is needed only for going back"
    assert signing.renew(world) == 0
    assert row(world, "k9").versions == 1, "what cannot be verified is not vouched for"


def test_a_damaged_version_is_not_signed(world: World) -> None:
    whole = blob(KeyRing({"k1": OLD}), "version")
    for damaged, error in ((whole[:-1] + b"?", Corrupt), (whole[:60] + b"?" + whole[61:], BadSignature), (whole[:-1], Corrupt)):
        with pytest.raises(error):
            codec.signed_anew(damaged, BOTH)
    world.store.put_version("m", 1, 0, whole[:-1] + b"?")
    assert signing.renew(world) == 0
    world.store.put_version("m", 4, 0, b"none of ours")
    assert row(world, signing.UNREADABLE).versions == 1


def test_the_signer_of_a_command_is_read_without_its_key() -> None:
    assert signer_of(command(BOTH).value) == "k2"
    with pytest.raises(BadSignature):
        signer_of(b"{}")
