"""A real Apache Kafka broker, or a cluster of them, for tests and trials: fetched by Maven, formatted, run on loopback (KRaft).

Each node is a broker and a controller. Readiness is asked for with a metadata request over a socket, without a client library.
It listens on loopback alone, keeps all its data in its folder, and is sized for a laptop, not for production.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple, Self

from ..errors import ConfigError, StreamlearnError
from .dev_certificate import Certificate
from .dev_docker import Docker
from .dev_process import LOOK_S, LOOPBACK, START_S, Host, Local, Server, free_ports, program

VERSION: Final = "4.1.0"
IMAGE: Final = f"apache/kafka:{VERSION}"
IMAGE_JARS: Final = "/opt/kafka/libs/*"
PACKAGES: Final[Mapping[str, str]] = {"java": "openjdk-17-jre-headless", "mvn": "maven"}  # Debian's, by command
PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>streamlearn</groupId><artifactId>dev-servers</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
FETCH_S: Final = 900.0
FORMAT_S: Final = 60.0
ANSWER_S: Final = 1.0
METADATA: Final = 3  # the key of the request in Kafka's protocol
# A start is mostly the JVM warming up: the quick compiler alone, and a small heap.
JVM: Final = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
SMALL: Final[Mapping[str, str]] = {
    "auto.create.topics.enable": "false",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",  # a killed broker is taken back only when its old self has timed out
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.segment.bytes": "1048576",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "num.network.threads": "2",
    "num.io.threads": "4",
}


class Kafka(NamedTuple):
    """Where Java and Kafka's jars are."""

    host: Host
    java: str
    classpath: str


class Node(NamedTuple):
    """A member of a cluster: its number, and its ports for clients, for its peers and for the quorum."""

    number: int
    client: int
    peers: int
    quorum: int


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where the jars are kept between runs, by the XDG Base Directory Specification."""
    root = environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "streamlearn" / f"kafka-{VERSION}"


def find_kafka(folder: Path, say: Callable[[str], None]) -> Kafka:
    """Java with the jars in `folder`, fetched if they are missing; else Docker's image.

    Raises ConfigError that says what to install, or why the jars could not be fetched.
    """
    try:
        java = program("java", PACKAGES["java"])
        fetch_jars(folder, say)
    except ConfigError:
        docker = Docker.find(IMAGE)
        if docker is None:
            raise
        return Kafka(docker, "java", IMAGE_JARS)
    return Kafka(Local(), java, f"{folder}/*")


def fetch_jars(folder: Path, say: Callable[[str], None]) -> None:
    """Have Maven put Kafka's jars into `folder`, all or none of them. Nothing is done when it is there. Raises ConfigError."""
    if folder.is_dir():
        return
    maven = program("mvn", PACKAGES["mvn"])
    say(f"fetching Kafka {VERSION} by Maven into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as draft:
        pom, jars = Path(draft) / "pom.xml", Path(draft) / "jars"
        pom.write_text(POM, encoding="utf-8")
        goal = [f"{PLUGIN}:copy-dependencies", f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
        argv = [maven, "-q", "-B", "-C", "-f", str(pom), *goal]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=FETCH_S, check=False)
            said = (done.stdout + done.stderr).strip()[-1000:]
            problem = (said or f"exit code {done.returncode}") if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"nothing came of it in {FETCH_S:g} s"
        if problem:
            fix = "Connect to Maven Central, or to a mirror named in ~/.m2/settings.xml"
            raise ConfigError("dev-servers", f"Maven could not fetch Kafka {VERSION}: {problem}", fix)
        try:
            jars.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same jars
                raise


class KafkaServer(Server):
    """A Kafka broker; alone, unless it is given its `node` among the `nodes` of a cluster. It keeps its data when it is killed.

    `settings` are the broker's own, over those chosen here. `protocol` is how clients are spoken to (PLAINTEXT, SSL, …; its
    `ssl.…` and `sasl.…` settings are for `settings`); peers and readiness use plain ports of their own.
    """

    def __init__(
        self,
        folder: Path,
        kafka: Kafka,
        *,
        node: Node | None = None,
        nodes: Sequence[Node] = (),
        cluster: str | None = None,
        settings: Mapping[str, str] | None = None,
        protocol: str = "PLAINTEXT",
    ) -> None:
        self.node = node or Node(1, *free_ports(3))
        super().__init__(f"Kafka broker {self.node.number}", folder, kafka.host)
        self._kafka, self._nodes, self._cluster = kafka, nodes or (self.node,), cluster or cluster_id()
        self._settings, self._protocol = dict(settings or {}), protocol

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.node.client}"

    def prepare(self) -> Sequence[str]:
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in self.properties().items()), encoding="utf-8")
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(path)
        return self._java("kafka.Kafka", str(path))

    def answers(self) -> bool:
        return self.node.number in known_brokers(self.node.peers)

    def properties(self) -> dict[str, str]:
        """What its server.properties say."""
        node, copies = self.node, min(3, len(self._nodes))
        ports = {"CLIENT": node.client, "PEER": node.peers, "CONTROLLER": node.quorum}
        listeners = {name: f"{name}://{LOOPBACK}:{port}" for name, port in ports.items()}
        enough = "2" if copies > 2 else "1"
        return {
            "process.roles": "broker,controller",
            "node.id": str(node.number),
            "controller.quorum.voters": ",".join(f"{other.number}@{LOOPBACK}:{other.quorum}" for other in self._nodes),
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(listeners[name] for name in ("CLIENT", "PEER")),
            "listener.security.protocol.map": f"CLIENT:{self._protocol},PEER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PEER",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            **dict.fromkeys(
                (
                    "default.replication.factor",
                    "offsets.topic.replication.factor",
                    "transaction.state.log.replication.factor",
                    "share.coordinator.state.topic.replication.factor",
                ),
                str(copies),
            ),
            **dict.fromkeys(
                ("min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr"), enough
            ),
            **SMALL,
            **self._settings,
        }

    def _java(self, *arguments: str) -> list[str]:
        return [self._kafka.java, *JVM, "-cp", self._kafka.classpath, *arguments]

    def _format(self, properties: Path) -> None:
        """Make the folder a member of the cluster, which Kafka wants before the first start."""
        argv = self._java("kafka.tools.StorageTool", "format", "-t", self._cluster, "-c", str(properties))
        done = self._kafka.host.run(argv, self.folder, self.log)
        if not done.wait(FORMAT_S) or not (self.folder / "data" / "meta.properties").exists():
            raise StreamlearnError(f"the folder of {self.name} could not be formatted:\n{self.tail()}")


class KafkaCluster:
    """Several brokers that keep topics in up to three copies. Each of `nodes` can be killed and restarted by itself."""

    def __init__(self, folder: Path, kafka: Kafka, size: int = 3, *, settings: Mapping[str, str] | None = None) -> None:
        ports = free_ports(3 * size)
        members = [Node(number + 1, *ports[3 * number : 3 * number + 3]) for number in range(size)]
        cluster = cluster_id()
        self.nodes = [
            KafkaServer(folder / f"node-{each.number}", kafka, node=each, nodes=members, cluster=cluster, settings=settings)
            for each in members
        ]

    @property
    def address(self) -> str:
        """HOST:PORT of every node, with commas between."""
        return ",".join(node.address for node in self.nodes)

    def start(self) -> Self:
        """Start all, and return when each knows all others. Raises StreamlearnError; then none is left behind."""
        with ExitStack() as stack:
            stack.callback(self.kill)
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.await_ready()
            self.await_members(START_S)
            stack.pop_all()
        return self

    def await_members(self, seconds: float) -> None:
        """Wait until each running node knows all running ones as alive. Raises StreamlearnError when that takes too long."""
        deadline = time.monotonic() + seconds
        alive = {node.node.number for node in self.nodes if node.running}
        for node in self.nodes:
            while node.running and set(known_brokers(node.node.peers)) != alive:
                if time.monotonic() > deadline:
                    raise StreamlearnError(f"{node.name} does not know {sorted(alive)} as alive after {seconds:g} s")
                time.sleep(LOOK_S)

    def stop(self) -> None:
        """End all, at once: a quorum that shrinks node by node would make the last ones wait for what is gone."""
        self.kill()

    def kill(self) -> None:
        """End all at once, as a power cut would."""
        for node in self.nodes:
            node.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()


def tls_settings(certificate: Certificate) -> dict[str, str]:
    """Settings for a broker of protocol SSL or SASL_SSL that shows the certificate and asks clients for none."""
    both = certificate.key.with_suffix(".pem")  # Kafka wants the key and the certificate in one file
    both.write_text(certificate.key.read_text() + certificate.cert.read_text())
    both.chmod(0o600)
    return {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(both), "ssl.client.auth": "none"}


def cluster_id() -> str:
    """A new id as Kafka writes them: 22 characters of URL-safe base 64, none of which is a leading minus."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def known_brokers(port: int) -> dict[int, str]:
    """HOST:PORT by number of the live brokers, as the broker at `port` knows them. Raises OSError while it does not answer."""
    with socket.create_connection((LOOPBACK, port), ANSWER_S) as connection:
        body = struct.pack(">hhihi", METADATA, 1, 7, -1, 0)  # version 1, no client id, about no topic
        connection.sendall(struct.pack(">i", len(body)) + body)
        with connection.makefile("rb") as answer:
            (length,) = struct.unpack(">i", _exactly(answer.read(4), 4))
            data = _exactly(answer.read(length), length)
    count, at = struct.unpack_from(">i", data, 4)[0], 8
    found: dict[int, str] = {}
    for _ in range(count):
        number, size = struct.unpack_from(">ih", data, at)
        host = data[at + 6 : at + 6 + size].decode()
        (open_port, rack) = struct.unpack_from(">ih", data, at + 6 + size)
        found[number] = f"{host}:{open_port}"
        at += 12 + size + max(rack, 0)
    return found


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) < length:
        raise ConnectionError("the connection was closed in the middle of an answer")
    return data

