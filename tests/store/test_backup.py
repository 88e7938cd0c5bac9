"""Backups over every backend of the store: what goes in, what comes back, what is damaged, what stays as it is."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamlearn.errors import BadSignature, ConfigError, Corrupt, Fenced, StoreError, StoreUnavailable
from streamlearn.store import CheckpointInfo, Retention, Store, backup
from streamlearn.store.backup import Item, Manifest, Vault
from streamlearn.testing import Faults, MemoryStore

KEEP = Retention(last=3, hourly=0, daily=0)
NOW = 1_700_000_000.0


def any_blob(kind: str, model: str, shard: int, blob: bytes) -> None:
    """Every blob is sound, but those that say otherwise."""
    if b"unsound" in blob:
        raise BadSignature("no known key")


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture(params=["folder", "memory"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    return Vault(str(tmp_path / "deep" / "backups") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/backups")


def make(store: Store, vault: Vault, name: str = "one", checkpoints: int = 1, now: float = NOW) -> Manifest:
    return backup.backup(store, vault, name, now, check=any_blob, checkpoints=checkpoints, progress=quiet)


def fill(store: Store) -> None:
    for n in range(3):
        store.put_checkpoint("m", 0, 7, b"checkpoint %d" % n, KEEP)
    store.put_checkpoint("m", 1, 8, b"of shard 1", KEEP)
    store.put_publication("m", 0, 7, b"publication")
    store.put_publication("m", 1, 8, bytes(range(256)) * 10_000)
    store.put_piece("m", 0, 7, "aa", b"a piece" * 1000)
    store.put_piece("m", 1, 8, "bb", b"")
    store.put_version("m", 2, 0, b"version 2")
    store.put_version("old", 1, 3, b"version 1")
    store.put_status("m", 0, 7, b"status")
    store.put_views({("case", "z"): b"1", ("audit", "a/b c"): b"\xff\x00", ("case", "a"): b"2"}, 44)
    for at in (0, 320, 640):
        store.put_history("m", 10, at, b"row at %d" % at, None)
    store.put_history("old", 900, 28_800, b"\x00\xff", None)


def content(store: Store) -> dict[str, Any]:
    """All that a restore must bring back, with the ids and tags of this store left out."""
    found: dict[str, Any] = {"versions": {key: store.version(*key) for key in store.versions()}}
    for place in store.shards():
        infos = store.checkpoints(*place)
        publication = store.publication(*place)
        found[f"{place}"] = [(info._replace(id=0), store.checkpoint(info.id)) for info in infos]
        found[f"{place} publication"] = publication and publication.blob
        found[f"{place} pieces"] = {name: store.piece(*place, name) for name in store.pieces(*place)}
    found["history"] = {series: store.history(*series, 0, 1 << 40) for series in store.histories()}
    found["views"] = [(kind, list(store.views(kind).items())) for kind in store.view_kinds()]
    return found | {"offset": store.view_offset()}


def test_all_comes_back_into_an_empty_store(store: Store, vault: Vault) -> None:
    fill(store)
    manifest = make(store, vault, checkpoints=10)
    before = content(store)
    assert vault.names() == ["one"]
    assert manifest == backup.read(vault, None) == backup.read(vault, "one")
    assert (manifest.created, manifest.notes, manifest.view_offset) == (NOW, [], 44)
    assert manifest.size == sum(item.size for item in manifest.objects) > 2_560_000
    other = MemoryStore()
    assert backup.restore(other, vault, manifest, quiet) == (
        {"checkpoint": 4, "publication": 2, "piece": 2, "version": 2, "history": 2, "view": 3}, 0, [],
    )  # fmt: skip
    assert content(other) == before


def test_it_comes_back_into_any_backend(backend: Any, vault: Vault) -> None:
    full, empty = MemoryStore(clock=backend.clock), backend.open()
    fill(full)
    backup.restore(empty, vault, make(full, vault, checkpoints=10), quiet)
    assert content(backend.open()) == content(full)
    with pytest.raises(Fenced):
        empty.claim("m", 0, 6)
    empty.claim("m", 0, 7)
    assert empty.put_checkpoint("m", 0, 9, b"next", KEEP) == empty.checkpoints("m", 0)[0].id


def test_twice_changes_nothing(store: Store, vault: Vault) -> None:
    fill(store)
    manifest = make(store, vault, checkpoints=2)
    before = content(store)
    assert backup.restore(store, vault, manifest, quiet) == ({}, len(manifest.objects), [])
    assert content(store) == before


def test_what_is_newer_stays(vault: Vault) -> None:
    old, live = MemoryStore(), MemoryStore()
    fill(old)
    manifest = make(old, vault)
    mine = live.put_checkpoint("m", 0, 20, b"newer", KEEP)
    live.put_publication("m", 0, 20, b"newer")
    live.claim("m", 1, 20)
    live.put_version("m", 2, 0, b"fitted further")
    live.put_views({("case", "q"): b"3"}, 50)
    put, there, damaged = backup.restore(live, vault, manifest, quiet)
    assert put == {"checkpoint": 2, "version": 1, "history": 2}
    assert (there, damaged) == (len(manifest.objects) - 5, [])
    assert [(info.id == mine, info.generation) for info in live.checkpoints("m", 0)] == [(True, 20), (False, 7)]
    assert live.publication("m", 0).blob == b"newer"  # type: ignore[union-attr]  # it is there
    assert live.publication("m", 1) is None  # its learner is at work again, and will publish
    assert live.version("m", 2, 0) == b"fitted further"
    assert (live.views("case"), live.view_offset()) == ({"q": b"3"}, 50)
    live.put_status("m", 0, 20, b"still mine")


def test_only_the_newest_sound_checkpoints_go_in(vault: Vault) -> None:
    store = MemoryStore()
    sound = [store.put_checkpoint("m", 0, 1, b"%d" % n, Retention(last=9)) for n in range(3)]
    aside = store.put_checkpoint("m", 0, 1, b"set aside", Retention(last=9))
    store.set_aside(aside, "altered")
    bad = store.put_checkpoint("m", 0, 1, b"unsound", Retention(last=9))
    manifest = make(store, vault, checkpoints=2)
    assert [item.id for item in manifest.objects] == [sound[2], sound[1]]
    assert manifest.notes == [f"checkpoint {bad} of m/0 is not sound: no known key"]


def test_what_is_not_sound_is_left_out_and_noted(vault: Vault) -> None:
    store = MemoryStore()
    store.put_checkpoint("m", 0, 1, b"unsound", KEEP)
    store.put_publication("m", 0, 1, b"unsound")
    store.put_version("m", 3, 0, b"unsound")
    store.claim("empty", 0, 1)
    manifest = make(store, vault)
    assert manifest.objects == []
    assert manifest.notes == [
        "checkpoint 1 of m/0 is not sound: no known key",
        "m/0 has no sound checkpoint",
        "the publication of m/0 is not sound: no known key",
        "version 3 of m/0 is not sound: no known key",
    ]


def test_a_checkpoint_that_retention_drops_meanwhile_is_made_up_for(vault: Vault) -> None:
    faults, inner = Faults(), MemoryStore()
    store = faults.over(inner)
    for n in range(3):
        inner.put_checkpoint("m", 0, 1, b"%d" % n, KEEP)
    faults.fail("checkpoint", StoreError("no checkpoint, it was dropped"), times=4)
    manifest = make(store, vault)
    assert [item.kind for item in manifest.objects] == ["checkpoint"]
    assert manifest.notes == []


def test_one_that_lost_a_part_is_noted_and_the_one_before_goes_in(vault: Vault) -> None:
    faults, inner = Faults(), MemoryStore()
    ids = [inner.put_checkpoint("m", 0, 1, b"%d" % n, KEEP) for n in range(2)]
    faults.fail("checkpoint", Corrupt("checkpoint 2 has lost a part"))
    manifest = make(faults.over(inner), vault)
    assert [item.id for item in manifest.objects] == [ids[0]]
    assert manifest.notes == ["checkpoint 2 has lost a part"]


@pytest.mark.parametrize("method", ["checkpoint", "publication", "version", "views", "shards"])
def test_a_store_that_goes_away_leaves_no_backup(vault: Vault, method: str) -> None:
    faults, inner = Faults(), MemoryStore()
    fill(inner)
    faults.fail(method, StoreUnavailable("gone"), after=1 if method != "shards" else 0)
    with pytest.raises(StoreUnavailable, match="gone"):
        make(faults.over(inner), vault, checkpoints=9)
    assert vault.names() == []
    with pytest.raises(ConfigError, match="there is no whole backup"):
        backup.read(vault, None)
    assert make(inner, vault, "two").objects


def test_a_write_that_is_broken_off_leaves_no_backup(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every object in turn, the manifest among them."""
    store, real = MemoryStore(), Vault.put
    fill(store)
    count = len(make(store, vault, "whole").objects)
    for most in range(count + 1):
        left = [most]

        def put(self: Vault, name: str, path: str, data: bytes, left: list[int] = left) -> None:
            if left[0] == 0:
                real(self, name, path, data[: len(data) // 2])
                raise StoreUnavailable("the place is gone")
            left[0] -= 1
            real(self, name, path, data)

        monkeypatch.setattr(Vault, "put", put)
        with pytest.raises(StoreUnavailable):
            make(store, vault, f"broken-{most}")
        monkeypatch.undo()
    assert vault.names() == ["whole"]
    with pytest.raises(ConfigError, match="there is no whole backup 'broken-1'"):
        backup.read(vault, "broken-1")


@pytest.mark.parametrize("how", ["altered", "cut", "longer", "gone"])
def test_damage_is_found_and_not_put_back(vault: Vault, how: str) -> None:
    store = MemoryStore()
    fill(store)
    manifest = make(store, vault)
    assert backup.verify(vault, manifest, quiet) == []
    victims = [item for item in manifest.objects if (item.model, item.shard) == ("m", 0) or item.views == "case"]
    for item in victims:
        data = vault.get("one", item.path) or b""
        if how == "gone":
            vault._files.rm(vault._path("one", item.path))
        else:
            wrong = {"altered": bytes([data[0] ^ 1]) + data[1:], "cut": data[:-1], "longer": data + b"x"}
            vault.put("one", item.path, wrong[how])
    told = backup.verify(vault, manifest, quiet)
    assert len(told) == len(victims) == 6
    assert all(item.path in " ".join(told) for item in victims)
    other = MemoryStore()
    restored = backup.restore(other, vault, manifest, quiet)
    assert sorted(restored.damaged) == sorted(told)
    assert other.checkpoints("m", 0) == []
    assert other.publication("m", 0) is None
    assert other.pieces("m", 0) == {}
    assert other.versions() == [("old", 1, 3)]
    assert other.histories() == [("old", 900)]
    assert other.checkpoint(other.checkpoints("m", 1)[0].id) == b"of shard 1"
    assert (other.views("audit"), other.views("case")) == ({"a/b c": b"\xff\x00"}, {})


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"", "cannot be read"), (b"{}", "cannot be read"), (b"\xff", "cannot be read"), (b'{"schema":1}', "cannot be read")],
)
def test_a_manifest_that_is_none(vault: Vault, data: bytes, told: str) -> None:
    vault.finish("bad", data)
    with pytest.raises(Corrupt, match=told):
        backup.read(vault, None)


def test_a_manifest_of_another_schema(vault: Vault) -> None:
    vault.finish("later", msgspec.json.encode(Manifest(2, "later", NOW, 0, [])))
    with pytest.raises(Corrupt, match="schema 2; this streamlearn reads schema 1"):
        backup.read(vault, "later")


def test_the_newest_name_is_taken_and_none_is_written_over(vault: Vault) -> None:
    store = MemoryStore()
    for n in range(3):
        store.put_checkpoint("m", 0, 1, b"%d" % n, KEEP)
        make(store, vault, backup.name_of(NOW + n), now=NOW + n)
    assert vault.names() == ["20231114T221322Z", "20231114T221321Z", "20231114T221320Z"]
    assert backup.read(vault, None).created == NOW + 2
    assert backup.read(vault, "20231114T221320Z").created == NOW
    with pytest.raises(ConfigError, match=r"there is a '20231114T221320Z' at .* already"):
        make(store, vault, "20231114T221320Z")
    with pytest.raises(ConfigError, match=r"there is no whole backup 'other' .* Write one of \['20231114T221322Z'"):
        backup.read(vault, "other")


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a b", "x" * 101])
def test_a_name_that_cannot_be_one(vault: Vault, name: str) -> None:
    with pytest.raises(ConfigError, match=r"Use letters, digits and \. _ -"):
        make(MemoryStore(), vault, name)


def test_an_empty_store_gives_an_empty_backup(store: Store, vault: Vault) -> None:
    manifest = make(store, vault)
    assert (manifest.objects, manifest.notes, manifest.view_offset) == ([], [], 0)
    assert backup.restore(store, vault, manifest, quiet) == ({}, 0, [])


def test_progress_is_told_step_by_step(vault: Vault) -> None:
    store, steps = MemoryStore(), list[tuple[int, int]]()

    def tell(done: int, total: int) -> None:
        steps.append((done, total))

    fill(store)
    manifest = backup.backup(store, vault, "one", NOW, check=any_blob, checkpoints=1, progress=tell)
    count = 3 + 2 + 2 + 2 + 1  # shards, versions, kinds, series, the manifest
    assert steps == [(n, count) for n in range(count + 1)]
    for work in (lambda: backup.verify(vault, manifest, tell), lambda: backup.restore(MemoryStore(), vault, manifest, tell)):
        steps.clear()
        work()
        assert steps == [(n, len(manifest.objects)) for n in range(len(manifest.objects) + 1)]


@pytest.mark.parametrize("url", ["nope://bucket/x", "s3://bucket/x"])
def test_an_address_that_nothing_installed_understands(url: str) -> None:
    with pytest.raises(ConfigError, match="install the package for it"):
        Vault(url)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    vault = Vault(str(tmp_path / "file"))
    with pytest.raises(StoreUnavailable, match=r"the backups at .*file cannot be written"):
        make(MemoryStore(), vault)


def test_no_password_of_the_address_is_shown() -> None:
    assert backup.shown("ftp://user:hunter2@host/x") == "ftp://host/x"
    assert backup.shown("/a/plain@path") == "/a/plain@path"
    assert Vault("memory://x/y").where == "memory://x/y"


def test_the_manifest_is_for_people_too(vault: Vault) -> None:
    store = MemoryStore()
    store.put_version("m", 2, 0, b"v")
    make(store, vault)
    text = (vault.get("one", "manifest.json") or b"").decode()
    assert '"path": "version/m/2/0"' in text
    assert msgspec.json.decode(text, type=Manifest).objects == [
        Item("version", "version/m/2/0", 1, "4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080", "m", 0, 2)
    ]


def test_infos_of_the_source_are_kept(vault: Vault) -> None:
    store = MemoryStore()
    store.restore_checkpoint("m", 4, CheckpointInfo(0, 12, 1234.5, 3, None), b"abc")
    other = MemoryStore()
    backup.restore(other, vault, make(store, vault), quiet)
    assert [info._replace(id=0) for info in other.checkpoints("m", 4)] == [CheckpointInfo(0, 12, 1234.5, 3, None)]


def test_of_a_history_only_what_is_older_than_the_store_has_comes_back(vault: Vault) -> None:
    source, target = MemoryStore(), MemoryStore()
    fill(source)
    target.put_history("m", 10, 640, b"newer", None)
    target.put_history("m", 10, 960, b"newest", None)
    manifest = make(source, vault)
    restored = backup.restore(target, vault, manifest, quiet)
    assert target.history("m", 10, 0, 1000) == [(0, b"row at 0"), (320, b"row at 320"), (640, b"newer"), (960, b"newest")]
    assert target.history("old", 900, 0, 1 << 40) == [(28_800, b"\x00\xff")]
    assert restored.put["history"] == 2
    again = backup.restore(target, vault, manifest, quiet)
    assert "history" not in again.put
