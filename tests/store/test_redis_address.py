"""Addresses of a Redis: what each part of the URL means, what is refused and how to mend it, and that no password is shown."""

from __future__ import annotations

from typing import Any

import pytest

from streamlearn.errors import ConfigError
from streamlearn.store.redis import RedisStore
from streamlearn.store.redis_address import Address, parse


def test_one_server() -> None:
    assert parse("redis://db1") == Address(
        "single", (("db1", 6379),), "", "", 0, None, None, None, {}, "redis://db1"
    )  # fmt: skip
    found = parse("redis://app:s%40fe@db1:7000/3")
    assert (found.hosts, found.db, found.username, found.password) == ((("db1", 7000),), 3, "app", "s@fe")
    assert found.shown == "redis://db1:7000/3"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("redis://[::1]", ("::1", 6379)),
        ("redis://[fe80::2]:7001", ("fe80::2", 7001)),
        ("redis://10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("redis://db1/", ("db1", 6379)),
    ],
)
def test_hosts(url: str, host: tuple[str, int]) -> None:
    assert parse(url).hosts == (host,)


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("redis://db1", None, None),
        ("redis://:secret@db1", None, "secret"),
        ("redis://app@db1", "app", None),
        ("redis://app:@db1", "app", None),
        ("redis://a%3Ab:c%2Fd@db1", "a:b", "c/d"),
        ("redis://app:p@ss@db1", "app", "p@ss"),
    ],
)
def test_who_asks(url: str, username: str | None, password: str | None) -> None:
    found = parse(url)
    assert (found.username, found.password) == (username, password)
    assert found.hosts == (("db1", 6379),)


def test_a_password_of_its_own_goes_before_that_of_the_url() -> None:
    assert parse("redis://app:old@db1", "new").password == "new"
    assert parse("redis://app:old@db1", "").password == "old"
    assert parse("redis://app@db1", "new").password == "new"


def test_tls() -> None:
    found = parse("rediss://db1:6380/0?ssl_ca_certs=/ca.pem&ssl_check_hostname=false&ssl_cert_reqs=required&db=2")
    assert found.tls == {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False, "ssl_cert_reqs": "required"}
    assert parse("rediss://db1").tls == {}
    assert parse("redis://db1").tls is None


def test_a_socket() -> None:
    found = parse("unix://app:pw@/run/redis.sock?db=4")
    assert (found.kind, found.path, found.db, found.username, found.password) == ("unix", "/run/redis.sock", 4, "app", "pw")
    assert found.hosts == ()
    assert found.shown == "unix:///run/redis.sock"


def test_sentinel() -> None:
    found = parse("redis+sentinel://app:pw@s1,s2:26380,[::1]:26381/main/5?sentinel_username=watch&sentinel_password=dog")
    assert found.kind == "sentinel"
    assert found.hosts == (("s1", 26379), ("s2", 26380), ("::1", 26381))
    assert (found.service, found.db, found.username, found.password) == ("main", 5, "app", "pw")
    assert found.sentinel == {"username": "watch", "password": "dog"}
    assert found.tls is None
    assert found.shown == "redis+sentinel://s1,s2:26380,[::1]:26381/main/5"
    assert parse("rediss+sentinel://s1/main?ssl_ca_certs=ca").tls == {"ssl_ca_certs": "ca"}


def test_cluster() -> None:
    found = parse("redis+cluster://:pw@n1,n2:7001")
    assert (found.kind, found.hosts, found.password) == ("cluster", (("n1", 6379), ("n2", 7001)), "pw")
    assert found.shown == "redis+cluster://n1,n2:7001"
    assert parse("rediss+cluster://n1").tls == {}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "Begin it with one of redis://"),
        ("db1:6379", "Begin it with one of"),
        ("http://db1", "begins with 'http'"),
        ("redis:///0", "Write HOST or HOST:PORT"),
        ("redis://db1:port", "the host 'db1:port'"),
        ("redis://db1:70000", "Write HOST or HOST:PORT"),
        ("redis://[::1", "Write an IPv6 address as [::1]"),
        ("redis://app:s/e@db1", "Write those in a user or password as %2F"),
        ("redis://db1,db2", "Write redis+sentinel:// or redis+cluster://"),
        ("redis://db1/x", "Write a number, such as 0"),
        ("redis://db1/0/1", "Leave it out"),
        ("redis://db1?db=-1", "Write a number"),
        ("redis://db1?timeout=3", "there are ['db']"),
        ("redis://db1?ssl_ca_certs=/ca", "which needs TLS. Begin it with rediss"),
        ("rediss://db1?ssl_check_hostname=maybe", "Write true or false"),
        ("rediss://db1?ssl_cert_reqs=some", "Write required, optional or none"),
        ("unix://host/path", "Write unix:///path/to/redis.sock"),
        ("unix://", "Begin it with"),
        ("redis+sentinel://s1,s2", "Write redis+sentinel://s1,s2/SERVICE"),
        ("redis+sentinel://s1,/main", "the host ''"),
        ("redis+cluster://n1/1", "a cluster has only one"),
        ("redis+cluster://n1?db=1", "not known here"),
        ("redis://db1?sentinel_password=x", "not known here"),
    ],
)
def test_what_is_refused_says_how_to_mend_it(url: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert caught.value.key == "store.redis.url"
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://app:hunter2@db1/x", "redis://app:hunter2@db1:port", "redis://app:hunter2@db1,db2", "unix://a:hunter2@host/x",
        "redis+sentinel://app:hunter2@s1", "redis+cluster://app:hunter2@n1/1", "redis://app:hunter2@db1?timeout=3",
        "redis://app:hunter2/x@db1", "redis://app:hunter2?x@db1", "redis://app:hunter2#x@db1", "redis://app:hunter2@[::1",
        "redis+sentinel://app:x@s1/main?sentinel_password=hunter2&db=no",
    ],
)  # fmt: skip
def test_no_password_is_told(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "a b", "a{b}", "x" * 101, "a/b", "naïve"])
def test_a_prefix_that_cannot_be_one(prefix: str) -> None:
    with pytest.raises(ConfigError, match="Use letters, digits"):
        RedisStore("redis://db1", prefix=prefix)


def test_a_store_is_made_without_a_server(recwarn: Any) -> None:
    """It connects when it is first used, so that a role can start, and say so, while the server is away."""
    store = RedisStore("redis+cluster://nowhere.invalid:1")
    store.close()
    store.close()
    assert not recwarn.list
