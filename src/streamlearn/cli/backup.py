"""`streamlearn backup CONFIG URL` and `streamlearn restore CONFIG URL`: what the store holds, to another place and back.

A backup may be made while the service runs. The log is not in it, nor are the signing keys (secret.key, or STREAMLEARN_KEYS):
without those keys nobody can read it, so keep them too, elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..errors import ConfigError
from ..keys import KeyRing
from .console import console, counted, say, warn
from .roles import Config
from .wiring import has_store, open_store, read_settings, ring

if TYPE_CHECKING:
    from ..store import backup as backups

NOUNS = {"history": "history tier", "table": "version piece"}
Where = Annotated[
    str, typer.Argument(metavar="URL", help="A folder, or a URL such as s3://bucket/path (fsspec).", show_default=False)
]


def backup(
    config: Config,
    url: Where,
    name: Annotated[
        str | None, typer.Option(help="Its name; default: the time, for --verify the newest.", show_default=False)
    ] = None,
    checkpoints: Annotated[int, typer.Option(min=1, metavar="N", help="Checkpoints of each shard, the newest sound ones.")] = 1,
    verify: Annotated[
        bool, typer.Option("--verify", help="Write nothing: read a backup that is there, and check all of it.")
    ] = False,
) -> None:
    """Copy checkpoints, publications, versions, views and history to URL. Exits 1 when something of it is damaged.

    The log is not in it, nor are the signing keys, without which nobody can read it: keep both.
    """
    from ..store import backup as backups

    settings = read_settings(Path(config), os.environ)
    vault = backups.Vault(url)
    if verify:
        manifest = backups.read(vault, name)
        with _progress(f"verifying {manifest.name}") as progress:
            damaged = backups.verify(vault, manifest, progress)
        _end(damaged, _told(manifest), ": all of it is as it was written")
    if not has_store(settings):
        raise ConfigError("data_dir", f"there is no store in {settings.data_dir} yet", "Name a service that ran")
    now = time.time()
    keys, store = ring(settings, os.environ), open_store(settings)
    try:
        with _progress("backing up") as progress:
            manifest = backups.backup(
                store, vault, name or backups.name_of(now), now,
                check=_checker(keys), checkpoints=checkpoints, progress=progress,
            )  # fmt: skip
    finally:
        store.close()
    _end(manifest.notes, f"{_told(manifest)} at {vault.where}")


def restore(
    config: Config,
    url: Where,
    name: Annotated[str | None, typer.Option(help="Which one; default: the newest.", show_default=False)] = None,
) -> None:
    """Put back from URL what the store lacks. Exits 1 when something of the backup is damaged.

    Then start the service: learners go on from the restored positions, and read the rest from the log. What the store has is
    never replaced.
    """
    from ..store import backup as backups

    settings = read_settings(Path(config), os.environ)
    vault = backups.Vault(url)
    manifest = backups.read(vault, name)
    store = open_store(settings)
    try:
        with _progress(f"restoring {manifest.name}") as progress:
            restored = backups.restore(store, vault, manifest, progress)
    finally:
        store.close()
    put = ", ".join(counted(count, NOUNS.get(kind, kind)) for kind, count in restored.put.items()) or "nothing"
    _end(restored.damaged, f"put back from {manifest.name}: {put}; there already: {counted(restored.there, 'object')}")


def _checker(keys: KeyRing) -> backups.Check:
    from ..store.codec import open_blob

    def check(kind: str, model: str, shard: int, blob: bytes) -> None:
        open_blob(blob, keys, kind=kind, model=model, shard=shard).all_parts()

    return check


def _told(manifest: backups.Manifest) -> str:
    return f"backup {manifest.name}: {counted(len(manifest.objects), 'object')}, {manifest.size:,} bytes"


def _end(wrong: list[str], words: str, well: str = "") -> None:
    for line in wrong:
        warn(f"error: {line}")
    say(words + (f"; {counted(len(wrong), 'thing')} wrong" if wrong else well))
    raise typer.Exit(1 if wrong else 0)


@contextmanager
def _progress(words: str) -> Iterator[backups.Progress]:
    """A bar on stderr, only where somebody looks."""
    with Progress(
        TextColumn(words), BarColumn(), MofNCompleteColumn(), console=console(stderr=True), transient=True,
        disable=not console(stderr=True).is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task(words, total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield tell
