"""The store's password is changed while it works: new connections take up the new one, and nothing fails meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from streamlearn.cli.dev_redis import RedisServer
from streamlearn.cli.wiring import open_store
from streamlearn.config import parse
from streamlearn.errors import ConfigError, StoreError

pytestmark = pytest.mark.redis


def settings(server: RedisServer, file: Path) -> Any:
    where = {"url": f"redis://streamlearn@{server.address}/0", "password_file": str(file)}
    return parse({"store": {"backend": "redis", "redis": where}, "streams": {"s": {}}}, {})


def admin(server: RedisServer) -> Any:
    return redis.Redis(port=server.port)


def test_a_password_is_changed_and_no_call_fails(own_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    server, file = own_redis(), tmp_path / "password"
    file.write_text("old-secret\n")
    with admin(server) as root:
        root.execute_command("ACL", "SETUSER", "streamlearn", "on", ">old-secret", "~*", "&*", "+@all")
        store = open_store(settings(server, file))
        failed: list[Exception] = []
        stop, calls = threading.Event(), 0

        def work() -> None:
            nonlocal calls
            while not stop.is_set():
                try:
                    store.put_status("m", 0, 1, b"{}")
                    store.statuses()
                    calls += 1
                except Exception as error:
                    failed.append(error)
                time.sleep(0.002)

        heard = threading.Event()
        unlisten = store.listen(heard.set)
        thread = threading.Thread(target=work)
        thread.start()

        def later(least: int) -> None:
            deadline = time.monotonic() + 20
            while calls < least and not failed:
                assert time.monotonic() < deadline, "nothing goes on"
                time.sleep(0.01)

        later(50)
        root.execute_command("ACL", "SETUSER", "streamlearn", ">new-secret")  # 1: both passwords open
        file.write_text("new-secret\n")  # 2: whoever connects from now on shows the new one
        later(calls + 50)
        fresh = open_store(settings(server, file))
        fresh.put_status("m", 1, 1, b"{}")
        root.execute_command("ACL", "SETUSER", "streamlearn", "<old-secret")  # 3: the old one opens nothing
        later(calls + 50)
        stop.set()
        thread.join()
        assert failed == []
        root.execute_command("CLIENT", "KILL", "USER", "streamlearn")
        deadline = time.monotonic() + 20
        while True:  # the first call on a connection that was cut may fail, as after any restart of a server
            try:
                assert set(store.statuses()) == {("m", 0), ("m", 1)}
                break
            except StoreError:
                assert time.monotonic() < deadline
        heard.clear()
        store.put_publication("m", 0, 1, b"p")
        assert heard.wait(20), "the listener, too, connected with the new password"
        file.write_text("old-secret\n")
        with pytest.raises(StoreError, match="refuses the user, the password"):
            open_store(settings(server, file)).statuses()
        unlisten()
        store.close()
        fresh.close()


def test_while_the_file_is_written_the_password_before_is_used(own_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    server, file = own_redis("--requirepass", "secret"), tmp_path / "password"
    file.write_text("secret")
    where = {"url": server.url, "password_file": str(file)}
    wanted = parse({"store": {"backend": "redis", "redis": where}, "streams": {"s": {}}}, {})
    store = open_store(wanted)
    store.put_status("m", 0, 1, b"{}")
    file.write_text("")
    with redis.Redis(port=server.port, password="secret") as root:
        root.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    deadline = time.monotonic() + 20
    while True:
        try:
            assert set(store.statuses()) == {("m", 0)}
            break
        except StoreError:
            assert time.monotonic() < deadline
    store.close()
    with pytest.raises(ConfigError, match=r"store.redis.password_file: .* is empty"):
        open_store(wanted)
