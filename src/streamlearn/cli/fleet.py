"""The roles of one service under one supervisor, and how they take in a changed configuration without a request refused.

The roles read a copy of the file as it was last accepted (ACCEPTED in data_dir), so that a file which is being edited can do no
harm. A reload checks the file and the files of secrets, and refuses aloud what is wrong with everything as it was. When either
has changed, one after the other:

    1  the copy is replaced
    2  learn and control are drained, and started anew; the API answers from what it holds, and events go to the log
    3  a new API process is started on the same listening socket; once it can answer as the old one could, that one stops
       accepting, answers what is in flight, tells its clients to connect anew, and ends; so with each, if there are several

When a role cannot run with the new configuration after all, the copy is put back and the roles are started with it, also the
API, if it had taken over already. What came of a reload is left in OUTCOME, for whoever asked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from ..config import Settings
from ..errors import ConfigError, LogError
from ..keys import KeyRing
from .console import say
from .differences import Differences, differences
from .lifetime import Lifetime
from .readiness import PATIENCE_S, Readiness, patient
from .supervisor import Child, Hopeless, Supervisor

ACCEPTED: Final = "serve.accepted.toml"
OUTCOME: Final = "serve.reload.json"
KEY_STAYS: Final = (
    "STREAMLEARN_KEYS: the key {signer!r}, which signs until now, is no longer among the signing keys, and nothing that it "
    "signed would be read. Keep it behind the new one until nothing needs it: streamlearn keys signing"
)
UNCHANGED: Final = ["nothing has changed"]
LIMIT_S: Final = 120.0
SETTLE_S: Final = 6.0  # in which a role that cannot run with its configuration mostly says so


class Outcome(msgspec.Struct):
    """What came of a reload of the file with this SHA-256. `told`: why it was refused, or what changed."""

    sha: str
    ok: bool
    told: list[str]


class Fleet:
    """`made` gives the three roles reading a copy of the configuration; `listening` is the file descriptor of the port."""

    supervisor: Supervisor

    def __init__(
        self, config: Path, environ: Mapping[str, str], settings: Settings, made: Callable[[Path], list[Child]], listening: int
    ) -> None:
        self._config, self._environ, self._settings = config, environ, settings
        self._made, self._listening = made, listening
        self._folder = settings.data_dir
        self._secrets, self._ring = read_secrets(settings, environ)
        self._text = config.read_bytes()
        write_whole(self._folder / ACCEPTED, self._text)
        (self._folder / OUTCOME).unlink(missing_ok=True)
        self._readiness = {name: Readiness() for name in api_names(settings.serve.workers)}

    def children(self) -> list[Child]:
        """The roles as they are to be started."""
        return [*self._workers(), *(self._api(name, readiness) for name, readiness in self._readiness.items())]

    def reload_if(self, life: Lifetime) -> None:
        """Reload, when that is asked for. Raises Hopeless when a role can run neither with the new file nor with the old."""
        if not life.reload.is_set():
            return
        life.reload.clear()
        text = self._config.read_bytes() if self._config.exists() else b""
        outcome = Outcome(digest(text), *self._reload(text, life))
        for line in outcome.told:
            say(f"reload: {line}")
        say(f"reload: {'done' if outcome.ok else 'refused; everything is as it was'}")
        write_whole(self._folder / OUTCOME, msgspec.json.encode(outcome))

    def close(self) -> None:
        for readiness in self._readiness.values():
            readiness.close()

    def _reload(self, text: bytes, life: Lifetime) -> tuple[bool, list[str]]:
        say(f"reload: {self._config} is checked")
        try:
            settings, found, problems = examine(self._config, self._environ, self._settings)
            secrets, ring = read_secrets(settings, self._environ)
        except (ConfigError, LogError) as error:
            return False, str(error).splitlines()
        if problems:
            return False, problems
        if not ring.takes_over(self._ring):
            return False, [KEY_STAYS.format(signer=self._ring.signer)]
        changed = [f"{name}: the file holds something else" for name in secrets if secrets[name] != self._secrets.get(name)]
        if found.none and not changed:
            return True, UNCHANGED
        if not self._config.exists() or self._config.read_bytes() != text:
            return False, [f"{self._config} was changed while it was checked: reload it again"]
        before, apis = self._settings, self._apis()
        self._take_in(text, settings)
        try:
            problem = self._roll(frozenset(found.added), life)
        except Hopeless as error:
            problem = str(error)
        if life.stop.is_set():
            return False, ["the service is ending"]
        if problem is not None:
            self._take_in(self._text, before)
            self.supervisor.restart(self._workers(), life.stop)
            if self._apis() != apis:  # one had taken over before another role gave up
                why = self._replace_api(self._lacked(), frozenset(before.models) - frozenset(settings.models), life)
                return False, [problem, *([] if why is None else [f"the API still runs with the refused file: {why}"])]
            return False, [problem]
        self._text, self._secrets, self._ring = text, secrets, ring
        return True, [*changed, *([] if found.none else found.lines())]

    def _take_in(self, text: bytes, settings: Settings) -> None:
        write_whole(self._folder / ACCEPTED, text)
        self._settings = settings

    def _roll(self, added: frozenset[str], life: Lifetime) -> str | None:
        """Every role anew; why the API is still the old one. Raises Hopeless."""
        say("reload: learn and control are drained and started anew")
        self.supervisor.restart(self._workers(), life.stop)
        self.supervisor.watch(SETTLE_S, life.stop)
        if life.stop.is_set():
            return None
        say("reload: a new API process takes over once it can answer as the old one can")
        return self._replace_api(self._lacked(), added, life)

    def _lacked(self) -> frozenset[str]:
        """The models that an API process which runs cannot answer for: all, where one has said nothing yet."""
        was = [readiness.missing() for readiness in self._readiness.values()]
        return frozenset[str]().union(*(frozenset(self._settings.models) if one is None else one for one in was))

    def _replace_api(self, lacked: frozenset[str], added: frozenset[str], life: Lifetime) -> str | None:
        """New API processes in the places of those that run, one after the other; why one stays, and those after it.

        Raises Hopeless, before or after a swap.
        """
        for name in self._readiness:
            fresh = Readiness()
            child = self._api(name, fresh, lacked | added)
            try:
                ready = patient(fresh.missing, lacked, added, PATIENCE_S)
                problem = self.supervisor.replace(child, ready, LIMIT_S, life.stop)
            finally:
                if self.supervisor.child(name) is child:
                    fresh, self._readiness[name] = self._readiness[name], fresh
                fresh.close()
            if problem is not None:
                return problem
        return None

    def _apis(self) -> list[Child]:
        return [self.supervisor.child(name) for name in self._readiness]

    def _workers(self) -> list[Child]:
        return [child for child in self._made(self._folder / ACCEPTED) if child.name != "serve"]

    def _api(self, name: str, readiness: Readiness, may_lack: frozenset[str] | None = None) -> Child:
        [child] = [child for child in self._made(self._folder / ACCEPTED) if child.name == "serve"]
        fds = (self._listening, readiness.fd)
        argv = [*child.argv, "--listen-fd", str(fds[0]), "--ready-fd", str(fds[1])]
        if may_lack is not None:
            argv += ["--may-lack", ",".join(sorted(may_lack))]
        return child._replace(name=name, argv=argv, fds=fds)


def api_names(count: int) -> list[str]:
    """The names of so many API processes."""
    return ["serve", *(f"serve-{number}" for number in range(2, count + 1))]


def examine(config: Path, environ: Mapping[str, str], running: Settings) -> tuple[Settings, Differences, list[str]]:
    """The settings in `config`, how they differ from those that run, and why they cannot be taken in. Raises ConfigErrors."""
    from . import check, wiring

    settings = wiring.read_settings(config, environ)
    found = differences(running, settings)
    problems = [f"{one.key}: {one.was!r} cannot become {one.wanted!r}: {one.effect}" for one in found.refused]
    if not problems and not found.none:
        told = check.models(config, settings, environ)
        problems = [f"{one.key}: {one.text}" for one in told if one.level == "error"]
    return settings, found, problems


def read_secrets(settings: Settings, environ: Mapping[str, str]) -> tuple[dict[str, str], KeyRing]:
    """What the roles would read from files of secrets now: digests by what names the file, and the signing keys.

    Raises ConfigError when one is missing or is not what it should be, so that no role is started only to find that out.
    """
    from ..serving.access import check_bind
    from . import wiring
    from .keys import known_keys

    check_bind(settings.serve.host, known_keys(settings, environ))
    ring = wiring.ring(settings, environ)
    return wiring.secret_digests(settings, environ), ring


def digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def write_whole(path: Path, text: bytes) -> None:
    """Replace the file by these bytes, all or none. Raises ConfigError."""
    draft = path.with_name(f"{path.name}.new")
    try:
        draft.write_bytes(text)
        os.replace(draft, path)
    except OSError as error:
        problem = f"{path} cannot be written ({error.strerror})"
        raise ConfigError("data_dir", problem, "Name a folder that can be written") from None
