"""The connection to a Redis: one server, one that Sentinel names, or a Cluster. The only module that imports `redis`.

Connects when it is first used, so that a process may start while the server is away. No command is ever repeated here:
a connection that breaks leaves it open whether the server took the command, and only the caller knows what a repeat means.
It must never let an error of the client library through, and never tell a password.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import redis
import redis.cluster
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamlearn.errors import ConfigError, StoreError, StoreFull, StoreUnavailable

from .redis_address import Address
from .redis_scripts import Script

LISTEN_S: Final = 0.5  # how long a listener waits for a message before it looks whether it is to stop
LONGEST_PAUSE_S: Final = 2.0
AWAY: Final = frozenset({"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "BUSY", "TRYAGAIN", "UNKILLABLE"})
REFUSES: Final = (
    redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError,
)  # fmt: skip
FULL: Final = frozenset({"OOM", "MISCONF"})
CODE: Final = re.compile(r"(?:^|: |-)([A-Z]{2,}) ")
_log = logging.getLogger(__name__)


class _Login(redis.CredentialProvider):
    """Asks for the password anew for each connection, so that another one is taken up by whoever connects after it.

    While it cannot be had, since its file is just being written, the one before is used.
    """

    def __init__(self, username: str | None, password: Callable[[], str]) -> None:
        self._username, self._ask, self._last = username, password, ""

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            self._last = self._ask()
        except ConfigError as error:
            if not self._last:
                raise redis.AuthenticationError(str(error)) from None
            _log.warning("the password for the store cannot be read; the one before is used: %s", error)
        return (self._last,) if self._username is None else (self._username, self._last)


class Link:
    """Safe to use from several threads. A wait for the server ends after `timeout_s`, for a connection `connect_timeout_s`.

    `password`, where it is given, is asked for each connection's password, in the place of that in the address.
    """

    def __init__(
        self, address: Address, *, timeout_s: float, connect_timeout_s: float, password: Callable[[], str] | None = None
    ) -> None:
        self.where = f"the Redis store at {address.shown}"
        self._address, self._timeout_s, self._connect_timeout_s = address, timeout_s, connect_timeout_s
        self._password = password
        self._lock = threading.Lock()
        self._made: Any = None
        self._sentinel: Any = None
        self._listeners: list[Callable[[], None]] = []
        self._closed = False

    def command(self, *words: Any) -> Any:
        """The answer to one command. Raises StoreError, StoreUnavailable, StoreFull."""
        with self._told():
            return self._client().execute_command(*words)

    def commands(self, many: Sequence[Sequence[Any]]) -> list[Any]:
        """The answers to many commands, sent together and not as one step. Raises as `command` does."""
        if not many:
            return []
        with self._told(), self._client().pipeline(transaction=False) as pipe:
            for words in many:
                pipe.execute_command(*words)
            return list(pipe.execute())

    def run(self, script: Script, keys: Sequence[str], values: Sequence[Any]) -> Any:
        """The answer of a script, which the server learns again when it has forgotten it. Raises as `command` does."""
        with self._told():
            client = self._client()
            try:
                return client.execute_command("EVALSHA", script.sha, len(keys), *keys, *values)
            except redis.exceptions.NoScriptError:
                return client.execute_command("EVAL", script.source, len(keys), *keys, *values)

    def listen(self, channel: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` from another thread for each message on `channel`, and after each time that some may have been missed.

        The returned function ends it. Never raises: while the server is away, nothing is heard.
        """
        stop = threading.Event()
        thread = threading.Thread(target=self._listen, args=(channel, wake, stop), name="store-listener", daemon=True)

        def end() -> None:
            stop.set()
            if thread is not threading.current_thread():
                thread.join(self._timeout_s + self._connect_timeout_s)
            with suppress(ValueError):
                self._listeners.remove(end)

        self._listeners.append(end)
        thread.start()
        return end

    def close(self) -> None:
        """End every listener and let the connections go. Closing twice is allowed."""
        for end in list(self._listeners):
            end()
        with self._lock:
            made, self._made, self._closed = self._made, None, True
        with suppress(redis.RedisError, OSError):
            if made is not None:
                made.close()
            if self._sentinel is not None:
                self._sentinel.close()

    def _listen(self, channel: str, wake: Callable[[], None], stop: threading.Event) -> None:
        pause = 0.05
        while not stop.is_set():
            try:
                with self._told(), self._client().pubsub(ignore_subscribe_messages=True) as heard:
                    heard.subscribe(channel)
                    wake()
                    while not stop.is_set():
                        if heard.get_message(timeout=LISTEN_S) is not None:
                            wake()
                        pause = 0.05
            except StoreError as error:
                _log.debug("nothing is heard from the store, it is polled alone: %s", error)
            stop.wait(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)

    def _client(self) -> Any:
        client = self._made
        if client is None:
            with self._lock:
                if self._closed:
                    raise StoreUnavailable(f"{self.where} is closed")
                if self._made is None:
                    self._made = self._connect()
                client = self._made
        return client

    def _connect(self) -> Any:
        address, library = self._address, cast(Any, redis)  # half of what is used is not annotated
        times = {"socket_timeout": self._timeout_s, "socket_connect_timeout": self._connect_timeout_s}
        tls: dict[str, Any] = {} if address.tls is None else {"ssl": True, **address.tls}
        common: dict[str, Any] = {**times, **tls, "protocol": 2}
        login: dict[str, Any] = {"username": address.username, "password": address.password}
        if self._password is not None:
            login = {"credential_provider": _Login(address.username, self._password)}
        once = Retry(NoBackoff(), 0)
        if address.kind == "cluster":
            nodes = [library.cluster.ClusterNode(host, port) for host, port in address.hosts]
            return library.RedisCluster(startup_nodes=nodes, retry=once, **common, **login)
        common |= {"retry": once}
        if address.kind == "sentinel":
            inner = {**common, **address.sentinel}
            self._sentinel = library.sentinel.Sentinel(address.hosts, sentinel_kwargs=inner, **common)
            return self._sentinel.master_for(address.service, db=address.db, **login)
        if address.kind == "unix":
            return library.Redis(unix_socket_path=address.path, db=address.db, **common, **login)
        [(host, port)] = address.hosts
        return library.Redis(host, port, db=address.db, **common, **login)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            raise self.explain(error) from error

    def explain(self, error: Exception) -> StoreError:
        """What to raise for an error of the client library: what happened, where, and how to mend it."""
        text = " ".join(str(error).split()) or type(error).__name__
        found = CODE.search(f"{getattr(error, 'status_code', None) or ''} {text}".strip())
        code = found.group(1) if found else ""
        if code == "ERR" and (inner := CODE.search(text.partition("user_script")[2])):
            code = inner.group(1)  # a server before 7 wraps what a script's command met
        if code in FULL:
            mend = "give it more memory (maxmemory), or keep fewer checkpoints" if code == "OOM" else "free space on its disk"
            return StoreFull(f"{self.where} is full, nothing was written: {mend} ({text})")
        if isinstance(error, redis.exceptions.MovedError):
            return StoreError(f"{self.where} is part of a Cluster: write redis+cluster:// in store.redis.url ({text})")
        if isinstance(error, REFUSES):
            return StoreError(f"{self.where} refuses the user, the password or what they may do: mend store.redis ({text})")
        if isinstance(error, redis.TimeoutError):
            return StoreUnavailable(f"{self.where} did not answer in {self._timeout_s:g} s; it may have been written or not")
        away = (redis.ConnectionError, redis.exceptions.ClusterError, redis.exceptions.RedisClusterException, OSError)
        if code in AWAY or isinstance(error, away):
            if "Cluster mode is not enabled" in text:
                return StoreError(f"{self.where} is no Cluster: write redis:// in store.redis.url")
            return StoreUnavailable(f"{self.where} cannot be used now: {text}")
        return StoreError(f"{self.where} refused: {text}")
