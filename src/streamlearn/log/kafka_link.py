"""The connection to a Kafka cluster: requests with a time limit, who leads which partition, and what Kafka's errors mean here.

Everything runs on kafka-python's own I/O thread; callers wait for at most the time limit, and are told LogUnavailable after
it, however the broker fails. It must never let a client create a topic, and never mistake a re-created topic for the old one.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.transport import KafkaSSLTransport
from kafka.protocol.metadata import MetadataRequest

from streamlearn.errors import ForeignLog, LogError, LogUnavailable, UnknownStream

T = TypeVar("T")

PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 0.4
GIVE_UP_S: Final = 30.0  # after that long without an answer, the brokers are looked up by their first addresses again
SAY_AGAIN_S: Final = 60.0
MAX_ANSWER_BYTES: Final = 256 << 20
NOBODY: Final = -1
UNKNOWN: Final = 3
MISSING: Final = (UNKNOWN, 17)  # no such topic, and no name that one can have

# What goes away by asking again, perhaps another broker; the rest is told at once.
PASSING: Final = (
    kafka_errors.RetriableError,
    kafka_errors.UnknownBrokerIdError,
    kafka_errors.BrokerNotAvailableError,
    kafka_errors.IllegalStateError,
    OSError,
)


class Topic(NamedTuple):
    """A topic as it was when it was first seen. `id` changes when it is deleted and made again."""

    name: str
    id: uuid.UUID
    partitions: int


class Direct(KafkaNetSocket):  # type: ignore[misc]  # kafka-python has no types
    """No proxy, as by default, but a socket whose connecting failed is closed at once and not left to the collector."""

    SCHEMES = ("direct",)

    async def sock_connect(self, net: Any, sock: socket.socket, sockaddr: Any, timeout_at: float | None = None) -> Any:
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise


class Shaken(ssl.SSLSocket):
    """A TLS socket that is closed at once when its handshake fails: kafka-python would leave it to the collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise  # it goes on when there is more to read, or room to write
        except BaseException:
            self.close()
            raise


def trusting(security: Mapping[str, Any]) -> dict[str, Any]:
    """The TLS context of these settings, as kafka-python would make it, for sockets that are `Shaken`; nothing without TLS.

    Nothing either for files that cannot be used: kafka-python says so when it connects.
    """
    if "ssl_context" in security or not str(security.get("security_protocol", "")).endswith("SSL"):
        return {}
    try:
        context = KafkaSSLTransport._build_ssl_context({**KafkaSSLTransport.DEFAULT_CONFIG, **security})
    except (OSError, ValueError):  # ssl.SSLError among them
        return {}
    context.sslsocket_class = Shaken
    return {"ssl_context": context}


class Options(NamedTuple):
    """What every client of the cluster is given. `timeout_s` bounds one call; `security` goes to kafka-python as it is."""

    bootstrap: tuple[str, ...]
    client_id: str
    timeout_s: float
    security: Mapping[str, Any]

    def client(self) -> dict[str, Any]:
        """Keyword arguments that all of kafka-python's clients know."""
        wait_ms = int(self.timeout_s * 1000)
        return {
            "bootstrap_servers": list(self.bootstrap),
            "client_id": self.client_id,
            "request_timeout_ms": wait_ms,
            "bootstrap_timeout_ms": wait_ms,
            "reconnect_backoff_ms": 50,
            "reconnect_backoff_max_ms": 1000,
            "retry_backoff_ms": 50,
            "metrics_enabled": False,
            "proxy_url": f"{Direct.SCHEMES[0]}://",
            **self.security,
            **trusting(self.security),
        }


def build(make: Callable[..., T], **settings: Any) -> T:
    """One of kafka-python's clients, which connect when they are made. One that fails to is closed with its thread."""
    made: list[Any] = []

    def client(**configs: Any) -> Any:
        made.append(KafkaNetClient(**configs))
        return made[-1]

    try:
        return make(kafka_client=client, **settings)
    except BaseException:
        for one in made:
            one.close()
        raise
    finally:
        quieten()


class Link:
    """One connection to each broker, for one handle on the log. Safe to use from several threads."""

    def __init__(self, options: Options, prefix: str) -> None:
        quieten()
        self.options, self.where = options, f"Kafka at {','.join(options.bootstrap)}"
        self._prefix = prefix
        self._lock = threading.Lock()
        self._client: Any = None
        self._closed = False
        self._topics: dict[str, Topic] = {}
        self._leaders: dict[tuple[str, int], int] = {}
        self._answered = time.monotonic()
        self._why: kafka_errors.KafkaError | None = None
        self.cluster_id: str | None = None

    # -- asking

    def ask(self, request: Any, node: int | None = None, deadline: float | None = None) -> Any:
        """The answer of broker `node`, or of any. Raises kafka-python's errors, KafkaTimeoutError after the time limit."""
        return self.gather([self.start(request, node)], deadline)[0]

    def start(self, request: Any, node: int | None = None) -> Any:
        """Send without waiting: a future for `gather`."""
        client = self._connected()
        try:
            return client._manager.call_soon(self._ask, client._manager, request, node)
        except RuntimeError as error:  # closed meanwhile, or its I/O thread ended
            self._drop(client)
            raise kafka_errors.KafkaConnectionError(str(error)) from error

    def gather(self, futures: Sequence[Any], deadline: float | None = None) -> list[Any]:
        """The answers to several requests that are under way together. Raises as `ask` does."""
        until = time.monotonic() + self.options.timeout_s if deadline is None else deadline
        for future in futures:
            if not future.is_done:
                done = threading.Event()
                future.add_both(lambda _, done=done: done.set())
                if not done.wait(max(until - time.monotonic(), 0.001)):
                    before = "" if self._why is None else f"; before that: {self._why}"
                    raise kafka_errors.KafkaTimeoutError(f"no answer in time{before}")
        for future in futures:
            if future.exception is not None:
                raise future.exception
        self._answered, self._why = time.monotonic(), None
        return [future.value for future in futures]

    def patiently(self, attempt: Callable[[float], T], what: str, until: float | None = None) -> T:
        """The result of `attempt(deadline)`, tried again while Kafka's errors are passing ones and the time limit allows.

        Raises LogUnavailable when it did not work in time, LogError for an error that does not pass.
        """
        pause = PAUSE_S
        deadline = time.monotonic() + self.options.timeout_s if until is None else until
        while True:
            try:
                return attempt(deadline)
            except PASSING as error:
                if time.monotonic() + pause >= deadline:
                    self._lost()
                    raise self.unavailable(what, error) from error
            except kafka_errors.KafkaError as error:
                if isinstance(error, kafka_errors.SaslAuthenticationFailedError):
                    self._drop(self._client)  # this one would never try again
                raise self.refused(what, error) from error
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def unavailable(self, what: str, error: BaseException) -> LogUnavailable:
        return LogUnavailable(f"{self.where} cannot {what} ({type(error).__name__}: {error})")

    def refused(self, what: str, error: BaseException) -> LogError:
        fix = ""
        if isinstance(error, kafka_errors.AuthorizationError | kafka_errors.SaslAuthenticationFailedError):
            fix = "; check the user, the password and the ACLs"
        return LogError(f"{self.where} refused to {what} ({type(error).__name__}: {error}){fix}")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def check_open(self) -> None:
        """Raises LogUnavailable once closed."""
        if self._closed:
            raise LogUnavailable(f"{self.where}: this log is closed")

    # -- topics

    def topic(self, stream: str, partition: int | None = None) -> Topic:
        """The topic of a stream, asked for once. Raises UnknownStream, also for a partition that it has not."""
        self.check_open()
        topic = self._topics.get(stream)
        if topic is None:
            topic = self.look_up(stream)
        if partition is not None and not 0 <= partition < topic.partitions:
            raise UnknownStream(f"no partition {partition} in stream {stream!r}; it has {topic.partitions}, numbered from 0")
        return topic

    def known(self, stream: str) -> Topic | None:
        """The topic, if it was asked for before. Never waits."""
        return self._topics.get(stream)

    def look_up(self, stream: str, until: float | None = None) -> Topic:
        """Ask for a topic and its leaders anew. Raises UnknownStream, LogUnavailable, and ForeignLog when it was made again."""
        name = self._prefix + stream

        def attempt(deadline: float) -> Topic:
            answer = self.metadata([name], deadline)
            [found] = answer.topics
            if found.error_code == UNKNOWN and (len(answer.brokers) > 1 or stream in self._topics) and not late(deadline):
                raise kafka_errors.UnknownTopicOrPartitionError(name)  # news may still be on its way to this broker
            if found.error_code in MISSING:
                raise UnknownStream(f"no stream {stream!r} at {self.where}: it has no topic {name!r}")
            check(found.error_code, name)
            self._note(stream, found)
            return self._topics[stream]

        def late(deadline: float) -> bool:
            return time.monotonic() > deadline - self.options.timeout_s / 2

        return self.patiently(attempt, f"say where stream {stream!r} is", until)

    def metadata(self, names: Sequence[str] | None, deadline: float) -> Any:
        """A metadata answer for these topics, or for all of them."""
        topics = None if names is None else [MetadataRequest.MetadataRequestTopic(name=name) for name in names]
        request = MetadataRequest(
            topics=MetadataRequest.ALL_TOPICS if topics is None else topics,
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )
        answer = self.ask(request, None, deadline)
        if not answer.brokers:
            raise kafka_errors.MetadataEmptyBrokerList("no broker is there yet")
        self.cluster_id = answer.cluster_id
        return answer

    def forget(self, stream: str) -> None:
        """Take a topic as it will be found next: it was just made by this handle."""
        self._topics.pop(stream, None)

    def leader(self, topic: Topic, stream: str, partition: int, until: float) -> int:
        """The broker that leads a partition. Raises LeaderNotAvailableError, which passes."""
        node = self._leaders.get((stream, partition), NOBODY)
        if node == NOBODY:
            self.look_up(stream, until)
            node = self._leaders.get((stream, partition), NOBODY)
            if node == NOBODY:
                raise kafka_errors.LeaderNotAvailableError(f"{topic.name}/{partition} has no leader")
        return node

    def moved(self, stream: str, partition: int) -> None:
        """What was known of a partition's leader no longer holds."""
        self._leaders.pop((stream, partition), None)

    def _note(self, stream: str, found: Any) -> None:
        topic = Topic(found.name, found.topic_id, len(found.partitions))
        pinned = self._topics.setdefault(stream, topic)
        if pinned.id != topic.id:
            raise ForeignLog(f"stream {stream!r}: topic {found.name!r} at {self.where} was deleted and made again; start anew")
        for one in found.partitions:
            self._leaders[stream, one.partition_index] = one.leader_id

    # -- the client

    def _connected(self) -> Any:
        with self._lock:
            self.check_open()
            if self._client is None:
                options = self.options.client()
                self._client = KafkaNetClient(
                    socket_connection_setup_timeout_ms=options["request_timeout_ms"],
                    max_in_flight_requests_per_connection=1000,
                    receive_message_max_bytes=MAX_ANSWER_BYTES,
                    metrics=None,
                    **options,
                )
                self._client.cluster.config["allow_auto_create_topics"] = False
                self._client._net.start()
            return self._client

    def _lost(self) -> None:
        """After a long silence, begin anew: the brokers may have other addresses now."""
        if time.monotonic() - self._answered >= GIVE_UP_S:
            self._answered = time.monotonic()
            self._drop(self._client)

    def _drop(self, client: Any) -> None:
        with self._lock:
            if client is None or self._client is not client:
                return
            self._client = None
        client.close()

    async def _ask(self, manager: Any, request: Any, node: int | None) -> Any:
        if not manager.bootstrapped:
            await self._reach(manager)
        if node is None:
            node = manager.least_loaded_node()
        if node is None:
            raise kafka_errors.NodeNotReadyError("no broker can be reached")
        if manager.cluster.broker_metadata(node) is None:
            await manager.cluster.refresh_metadata()
        connection = await manager.get_connection(node)
        return await connection.send_request(request)

    async def _reach(self, manager: Any) -> None:
        """Learn of the cluster by one of its first addresses. Raises why the last of them cannot be reached."""
        first = manager.cluster.bootstrap_brokers()
        random.shuffle(first)
        for broker in first:
            try:
                await manager.get_connection(broker.node_id, refresh_metadata_on_err=False)
                break
            except kafka_errors.NodeNotReadyError as error:  # it failed a moment ago
                why = self._why or error
            except kafka_errors.KafkaError as error:
                why = self._why = error
        else:
            raise why
        await manager.bootstrap_async(self.options.timeout_s * 1000, refresh=True)


def check(code: int, what: str) -> None:
    """Raises kafka-python's error for a code in an answer."""
    if code:
        raise kafka_errors.for_code(code)(what)


class Seldom(logging.Filter):
    """Lets each message of kafka-python through once a minute: in an outage it would say the same many times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now - self._said.get(key, -SAY_AGAIN_S) < SAY_AGAIN_S:
            return False
        self._said[key] = now
        return True


_SELDOM: Final = Seldom()


def quieten() -> None:
    """Keep kafka-python to errors, each seldom. A level that the application set stays."""
    root = logging.getLogger("kafka")
    if root.level == logging.NOTSET:
        root.setLevel(logging.ERROR)
    for name in [name for name in logging.root.manager.loggerDict if name == "kafka" or name.startswith("kafka.")]:
        logging.getLogger(name).addFilter(_SELDOM)  # the same filter twice is once
