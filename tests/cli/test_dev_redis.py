"""A real Redis for tests: it keeps its data or forgets them, speaks TLS, runs out of memory, and can be found by its URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, ConnectionError, OutOfMemoryError, TimeoutError

from streamlearn.cli.dev_certificate import make_certificate
from streamlearn.cli.dev_docker import Docker
from streamlearn.cli.dev_process import Local
from streamlearn.cli.dev_redis import FORGET, RedisServer, find_redis
from streamlearn.cli.dev_redis import Redis as Found
from streamlearn.errors import ConfigError, StreamlearnError

pytestmark = pytest.mark.redis
Start = Callable[..., RedisServer]


def connect(server: RedisServer, **options: object) -> Redis:
    return Redis.from_url(server.url, socket_timeout=2, retry=None, **options)


def test_the_shared_one_answers(redis_server: RedisServer) -> None:
    with connect(redis_server) as client:
        assert client.ping()
    assert redis_server.url == f"redis://{redis_server.address}/0"


def test_it_keeps_what_it_acknowledged_when_it_is_killed(own_redis: Start) -> None:
    server = own_redis()
    with connect(server) as client:
        client.set("key", "value")
        server.kill()
        with pytest.raises(ConnectionError):
            client.get("key")
        server.restart()
        assert client.get("key") == b"value"


def test_it_forgets_everything_when_it_is_told_to(own_redis: Start) -> None:
    server = own_redis(*FORGET)
    with connect(server) as client:
        client.set("key", "value")
        server.kill()
        server.restart()
        assert client.get("key") is None
        client.set("key", "value")
        server.restart()  # also when it was asked to end
        assert client.get("key") is None


def test_a_frozen_one_does_not_answer_until_it_is_resumed(own_redis: Start) -> None:
    server = own_redis()
    with connect(server) as client:
        server.freeze()
        with pytest.raises(TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


def test_options_are_redis_own(own_redis: Start) -> None:
    server = own_redis("--maxmemory", "2mb", "--maxmemory-policy", "noeviction", "--requirepass", "open sesame")
    with connect(server) as client, pytest.raises(AuthenticationError):
        client.ping()
    with connect(server, password="open sesame") as client:
        values = {f"key-{number}": bytes(100_000) for number in range(100)}
        with pytest.raises(OutOfMemoryError):
            [client.set(key, value) for key, value in values.items()]


def test_one_with_tls_shows_a_certificate_that_its_url_trusts(own_redis: Start) -> None:
    server = own_redis(tls=True)
    with connect(server) as client:
        assert client.ping()
        client.set("key", "value")
        server.kill()
        server.restart()
        assert client.get("key") == b"value"
    without = f"rediss://{server.address}/0"
    with Redis.from_url(without, retry=None) as stranger, pytest.raises(ConnectionError, match="certificate"):
        stranger.ping()
    with Redis.from_url(f"redis://{server.address}/0", retry=None) as plain, pytest.raises(ConnectionError):
        plain.ping()


def test_several_run_side_by_side(own_redis: Start, redis_server: RedisServer) -> None:
    servers = [own_redis(), own_redis(), redis_server]
    assert len({server.port for server in servers}) == 3
    assert len({server.pid for server in servers}) == 3
    assert len({server.folder for server in servers}) == 3


def test_a_wrong_option_is_shown_in_its_own_words(tmp_path: Path, redis_program: Found) -> None:
    with pytest.raises(StreamlearnError, match=r"(?s)redis-server ended while it started.*maxmemory"):
        RedisServer(tmp_path, redis_program, "--maxmemory", "plenty").start()


def test_the_installed_one_is_found(redis_program: Found) -> None:
    assert find_redis() == redis_program
    assert redis_program.host == Local() or isinstance(redis_program.host, Docker)


def test_without_openssl_there_is_no_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = tmp_path / "openssl"
    openssl.write_text("#!/bin/sh\necho 'no entropy' >&2\nexit 1\n")
    openssl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StreamlearnError, match="could not make a certificate: no entropy"):
        make_certificate(tmp_path)
    openssl.unlink()
    with pytest.raises(ConfigError, match="openssl is not installed"):
        make_certificate(tmp_path)
