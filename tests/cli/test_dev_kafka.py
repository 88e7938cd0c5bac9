"""A real Kafka for tests: fetched by Maven, formatted, ready when it says so, the same after a kill; alone and as a cluster."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaTimeoutError

from streamlearn.cli import dev_kafka
from streamlearn.cli.dev_certificate import make_certificate
from streamlearn.cli.dev_docker import Docker
from streamlearn.cli.dev_kafka import (
    IMAGE,
    Kafka,
    KafkaCluster,
    KafkaServer,
    Node,
    cache_folder,
    cluster_id,
    fetch_jars,
    find_kafka,
    known_brokers,
    tls_settings,
)
from streamlearn.cli.dev_process import LOOPBACK, Local
from streamlearn.errors import ConfigError, StreamlearnError
from streamlearn.log.kafka_link import Direct

NOWHERE = Kafka(Local(), "java", "jars/*")
DIRECT = f"{Direct.SCHEMES[0]}://"  # kafka-python leaves a socket that could not connect to the collector


def make_topic(address: str, topic: str, copies: int = 1, **options: object) -> None:
    with KafkaAdminClient(bootstrap_servers=address, proxy_url=DIRECT, **options) as admin:
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=copies)])


def send(address: str, topic: str, *values: bytes, seconds: float = 20, **options: object) -> list[int]:
    """The offsets that were acknowledged."""
    limit_ms = int(seconds * 1000)
    with KafkaProducer(bootstrap_servers=address, proxy_url=DIRECT, max_block_ms=limit_ms, **options) as producer:
        return [producer.send(topic, value, partition=0).get(seconds).offset for value in values]


def fetch(address: str, topic: str, count: int, **options: object) -> list[bytes]:
    """The first `count` values of the topic."""
    with KafkaConsumer(bootstrap_servers=address, proxy_url=DIRECT, consumer_timeout_ms=20_000, **options) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek(TopicPartition(topic, 0), 0)
        return [record.value for _, record in zip(range(count), consumer, strict=False)]


class TestWhatItIsToldToDo:
    def test_one_alone_keeps_one_copy_of_everything(self, tmp_path: Path) -> None:
        server = KafkaServer(tmp_path, NOWHERE)
        told = server.properties()
        assert told["controller.quorum.voters"] == f"1@{LOOPBACK}:{server.node.quorum}"
        counts = ("replication.factor", ".min.isr", "insync.replicas")
        copies = {key: value for key, value in told.items() if key.endswith(counts)}
        assert len(copies) == 7
        assert set(copies.values()) == {"1"}
        assert told["auto.create.topics.enable"] == "false"
        assert told["log.dirs"] == str(tmp_path / "data")

    def test_three_keep_three_copies_of_which_two_must_be_there(self, tmp_path: Path) -> None:
        cluster = KafkaCluster(tmp_path, NOWHERE)
        told = [node.properties() for node in cluster.nodes]
        assert [each["node.id"] for each in told] == ["1", "2", "3"]
        assert len({each["controller.quorum.voters"] for each in told}) == 1
        assert told[0]["controller.quorum.voters"].count("@") == 3
        assert told[0]["offsets.topic.replication.factor"] == "3"
        assert told[0]["min.insync.replicas"] == told[0]["transaction.state.log.min.isr"] == "2"
        assert cluster.address == ",".join(node.address for node in cluster.nodes)
        assert len({port for node in cluster.nodes for port in node.node[1:]}) == 9

    def test_two_need_not_both_be_there(self, tmp_path: Path) -> None:
        told = KafkaCluster(tmp_path, NOWHERE, 2).nodes[0].properties()
        assert (told["offsets.topic.replication.factor"], told["min.insync.replicas"]) == ("2", "1")

    def test_everything_listens_on_loopback_alone(self, tmp_path: Path) -> None:
        told = KafkaServer(tmp_path, NOWHERE, node=Node(4, 1001, 1002, 1003)).properties()
        assert told["listeners"] == "CLIENT://127.0.0.1:1001,PEER://127.0.0.1:1002,CONTROLLER://127.0.0.1:1003"
        assert told["advertised.listeners"] == "CLIENT://127.0.0.1:1001,PEER://127.0.0.1:1002"

    def test_settings_of_ones_own_go_over_those_chosen(self, tmp_path: Path) -> None:
        own = {"auto.create.topics.enable": "true", "log.retention.ms": "1000"}
        told = KafkaServer(tmp_path, NOWHERE, settings=own, protocol="SASL_SSL").properties()
        assert own.items() <= told.items()
        assert told["listener.security.protocol.map"].startswith("CLIENT:SASL_SSL,PEER:PLAINTEXT")

    def test_cluster_ids_are_such_as_kafka_takes(self) -> None:
        made = {cluster_id() for _ in range(200)}
        assert len(made) == 200
        assert {len(each) for each in made} == {22}
        assert not [each for each in made if each.startswith("-")]


class TestFetching:
    @pytest.fixture
    def maven(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
        """Puts a stand-in for Maven on the path, alone but for Java: a shell script; $jars is where the jars are wanted."""
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "java").symlink_to("/bin/true")
        monkeypatch.setenv("PATH", str(folder))

        def write(script: str) -> Path:
            head = "#!/bin/sh\nPATH=/usr/bin:/bin\n"
            head += "for each; do case $each in -DoutputDirectory=*) jars=${each#*=};; esac; done\n"
            (folder / "mvn").write_text(head + script)
            (folder / "mvn").chmod(0o755)
            return folder

        return write

    def test_jars_come_whole_and_only_once(self, maven: Callable[[str], Path], tmp_path: Path) -> None:
        folder = maven('echo x >> "$0.calls"; mkdir "$jars" && echo jar > "$jars/kafka.jar"')
        said: list[str] = []
        cache = tmp_path / "cache" / "kafka"
        for _ in range(2):
            assert find_kafka(cache, said.append) == Kafka(Local(), str(folder / "java"), f"{cache}/*")
        assert [path.name for path in cache.iterdir()] == ["kafka.jar"]
        assert [path.name for path in cache.parent.iterdir()] == ["kafka"]
        assert (folder / "mvn.calls").read_text() == "x\n"
        assert said == [f"fetching Kafka {dev_kafka.VERSION} by Maven into {cache}"]

    def test_nothing_stays_when_maven_fails(self, maven: Callable[[str], Path], tmp_path: Path) -> None:
        maven('mkdir "$jars"; echo half > "$jars/kafka.jar"; echo "[ERROR] unknown host repo.maven.apache.org"; exit 1')
        with pytest.raises(ConfigError, match=r"could not fetch Kafka .*unknown host repo.*Connect to Maven Central"):
            find_kafka(tmp_path / "cache" / "kafka", print)
        assert list((tmp_path / "cache").iterdir()) == []

    def test_a_silent_failure_tells_the_exit_code(self, maven: Callable[[str], Path], tmp_path: Path) -> None:
        maven("exit 7")
        with pytest.raises(ConfigError, match="exit code 7"):
            find_kafka(tmp_path / "kafka", print)

    def test_maven_may_not_take_for_ever(
        self, maven: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        maven("exec sleep 60")
        monkeypatch.setattr(dev_kafka, "FETCH_S", 0.3)
        with pytest.raises(ConfigError, match=r"nothing came of it in 0\.3 s"):
            find_kafka(tmp_path / "kafka", print)

    def test_another_process_may_be_first(self, maven: Callable[[str], Path], tmp_path: Path) -> None:
        cache = tmp_path / "kafka"
        maven(f'mkdir "$jars" "{cache}"; echo mine > "$jars/kafka.jar"; echo theirs > "{cache}/kafka.jar"')
        fetch_jars(cache, print)
        assert (cache / "kafka.jar").read_text() == "theirs\n"

    def test_what_is_not_installed_is_named(self, maven: Callable[[str], Path], tmp_path: Path) -> None:
        folder = maven("")
        (folder / "mvn").unlink()
        with pytest.raises(ConfigError, match=r"mvn is not installed\. Run: apt-get install maven"):
            find_kafka(tmp_path / "kafka", print)
        (folder / "java").unlink()
        with pytest.raises(ConfigError, match=r"java is not installed\. Run: apt-get install openjdk-17-jre-headless"):
            find_kafka(tmp_path / "kafka", print)
        (folder / "docker").symlink_to("/bin/true")  # an engine that answers
        docker = Docker(str(folder / "docker"), IMAGE)
        assert find_kafka(tmp_path / "kafka", print) == Kafka(docker, "java", "/opt/kafka/libs/*")

    def test_jars_are_kept_where_the_standard_says(self) -> None:
        assert cache_folder({"XDG_CACHE_HOME": "/var/cache/me"}) == Path("/var/cache/me/streamlearn/kafka-4.1.0")
        for odd in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
            assert cache_folder(odd) == Path.home() / ".cache/streamlearn/kafka-4.1.0"

    @pytest.mark.slow
    @pytest.mark.kafka
    @pytest.mark.timeout(900)
    def test_maven_fetches_all_that_a_broker_needs(
        self, kafka_program: Kafka, lacking: Callable[[str], NoReturn], tmp_path: Path
    ) -> None:
        if kafka_program.host != Local():
            lacking("Maven is not here; Kafka is Docker's")
        fetch_jars(tmp_path / "jars", print)
        names = {path.name for path in (tmp_path / "jars").iterdir()}
        assert {"kafka_2.13-4.1.0.jar", "kafka-clients-4.1.0.jar", "slf4j-simple-1.7.36.jar"} <= names
        assert all(name.endswith(".jar") for name in names)
        with KafkaServer(tmp_path / "server", kafka_program._replace(classpath=f"{tmp_path}/jars/*")) as server:
            assert server.answers()


class TestReadiness:
    @pytest.fixture
    def one_answer(self) -> Iterator[Callable[[bytes], int]]:
        """Starts a server that gives each connection the same bytes; its port."""
        with socket.create_server((LOOPBACK, 0)) as listening:

            def serve(answer: bytes) -> int:
                def accept() -> None:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(1000)
                        connection.sendall(answer)

                threading.Thread(target=accept, daemon=True).start()
                return int(listening.getsockname()[1])

            yield serve

    def test_brokers_are_read_from_the_answer(self, one_answer: Callable[[bytes], int]) -> None:
        first = b"\0\0\0\1" + b"\0\4" + b"here" + b"\0\0\0\x50" + b"\xff\xff"
        second = b"\0\0\0\2" + b"\0\5" + b"there" + b"\0\0\1\0" + b"\0\3" + b"abc"
        body = b"\0\0\0\7" + b"\0\0\0\2" + first + second + b"\0\0\0\1\0\0\0\0"
        assert known_brokers(one_answer(len(body).to_bytes(4, "big") + body)) == {1: "here:80", 2: "there:256"}

    @pytest.mark.parametrize("answer", [b"", b"\0\0", b"\0\0\0\x30\0\0\0\7"])
    def test_an_answer_that_breaks_off_is_none(self, one_answer: Callable[[bytes], int], answer: bytes) -> None:
        with pytest.raises(OSError, match=r"in the middle of an answer|reset"):
            known_brokers(one_answer(answer))

    def test_a_folder_that_cannot_be_formatted_is_told_with_the_reason(self, tmp_path: Path) -> None:
        java = tmp_path / "java"
        java.write_text("#!/bin/sh\necho 'Unsupported class file version'; exit 1\n")
        java.chmod(0o755)
        with pytest.raises(StreamlearnError, match=r"(?s)broker 1 could not be formatted.*Unsupported class file"):
            KafkaServer(tmp_path / "server", Kafka(Local(), str(java), "jars/*")).start()


@pytest.mark.slow
@pytest.mark.kafka
class TestForReal:
    def test_the_shared_one_takes_and_gives_records(self, kafka_server: KafkaServer) -> None:
        make_topic(kafka_server.address, "dev-kafka-shared")
        assert send(kafka_server.address, "dev-kafka-shared", b"a", b"b") == [0, 1]
        assert fetch(kafka_server.address, "dev-kafka-shared", 2) == [b"a", b"b"]
        assert known_brokers(kafka_server.node.client) == {1: kafka_server.address}

    def test_no_topic_is_made_by_asking_for_it(self, kafka_server: KafkaServer) -> None:
        with pytest.raises(KafkaTimeoutError):
            send(kafka_server.address, "dev-kafka-none", b"a", seconds=1)

    def test_it_keeps_its_data_and_its_port_when_it_is_killed_and_freezes_and_resumes(
        self, own_kafka: Callable[..., KafkaServer]
    ) -> None:
        server = own_kafka(settings={"log.retention.hours": "1"})
        address = server.address
        make_topic(address, "kept")
        assert send(address, "kept", b"a") == [0]
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            known_brokers(server.node.client)
        assert server.restart().address == address
        assert send(address, "kept", b"b") == [1]
        server.freeze()
        with pytest.raises(TimeoutError):
            known_brokers(server.node.client)
        server.resume()
        assert fetch(address, "kept", 2) == [b"a", b"b"]

    def test_clients_can_be_made_to_speak_tls(self, own_kafka: Callable[..., KafkaServer], tmp_path: Path) -> None:
        certificate = make_certificate(tmp_path)
        server = own_kafka(protocol="SSL", settings=tls_settings(certificate))
        assert os.stat(tmp_path / "server.pem").st_mode & 0o077 == 0
        options = {"security_protocol": "SSL", "ssl_cafile": str(certificate.cert)}
        make_topic(server.address, "secret", **options)
        assert send(server.address, "secret", b"a", **options) == [0]
        assert fetch(server.address, "secret", 1, **options) == [b"a"]

    def test_a_cluster_goes_on_without_one_of_three(self, kafka_cluster: KafkaCluster) -> None:
        """And one whose death is not noticed in time is named."""
        first, *others = kafka_cluster.nodes
        make_topic(kafka_cluster.address, "copied", copies=3)
        assert send(kafka_cluster.address, "copied", b"a") == [0]
        first.kill()
        with pytest.raises(StreamlearnError, match=r"Kafka broker 2 does not know \[2, 3\] as alive after 0 s"):
            kafka_cluster.await_members(0)
        kafka_cluster.await_members(30)
        assert all(set(known_brokers(node.node.peers)) == {2, 3} for node in others)
        assert send(kafka_cluster.address, "copied", b"b") == [1]
        first.restart()
        kafka_cluster.await_members(30)
        assert fetch(first.address, "copied", 2) == [b"a", b"b"]

    def test_nothing_is_left_of_a_cluster_of_which_one_cannot_start(self, kafka_program: Kafka, tmp_path: Path) -> None:
        cluster = KafkaCluster(tmp_path, kafka_program, 2)
        (tmp_path / "node-2").write_text("not a folder")
        with pytest.raises(OSError, match="node-2"):
            cluster.start()
        assert not any(node.running for node in cluster.nodes)
