"""The topics behind the streams: made as they must be, or checked against it, with the mending command for each difference.

It must never change a topic that is there, nor let one be made by accident.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from kafka import errors as kafka_errors
from kafka.protocol.admin import CreateTopicsRequest, DeleteRecordsRequest, DescribeConfigsRequest

from streamlearn.errors import ConfigError

from . import CONTROL, INTERNAL, missing_streams
from .kafka_link import MISSING, NOBODY, Link, check
from .kafka_records import HEAD_BYTES

logger = logging.getLogger("streamlearn.log")

FOR_EVER: Final = -1
DAY_MS: Final = 86_400_000
TOPIC: Final = 2  # what a configuration is asked of: a topic
EXISTS: Final = 36


class Rules(NamedTuple):
    """What a new topic is given. `retention_ms` by stream, else `default_retention_ms`; -1 is for ever."""

    replication: int
    min_insync: int
    default_retention_ms: int
    retention_ms: Mapping[str, int]
    max_record_bytes: int

    def retention(self, stream: str) -> int:
        return FOR_EVER if stream == CONTROL else self.retention_ms.get(stream, self.default_retention_ms)


class Topics:
    """The topics with the prefix. Safe to use from several threads."""

    def __init__(self, link: Link, prefix: str, rules: Rules) -> None:
        self._link, self._prefix, self._rules = link, prefix, rules

    def streams(self) -> dict[str, int]:
        """Every stream with its number of partitions, as the cluster has it now. Raises LogUnavailable, LogError."""

        def attempt(deadline: float) -> dict[str, int]:
            found = self._link.metadata(None, deadline).topics
            return {
                topic.name[len(self._prefix) :]: len(topic.partitions)
                for topic in found
                if topic.error_code == 0 and not topic.is_internal and topic.name.startswith(self._prefix)
            }

        return self._link.patiently(attempt, "name its topics")

    def create(self, streams: Mapping[str, int]) -> None:
        """As `Log.create`. Raises ConfigError, LogUnavailable, LogError."""
        wanted = {**INTERNAL, **streams}
        missing = missing_streams(self.streams(), wanted, self._place())
        if not missing:
            return
        self._make(missing)
        for name in missing:
            self._link.forget(name)
        self._wait(missing)
        missing_streams(self.streams(), wanted, self._place())  # another process may have made one with another number

    def trim(self, stream: str, partition: int, before: int) -> int:
        """Have the broker delete the records below `before`; the first that is left. Raises as `Reader.bounds` does."""
        topic = self._link.look_up(stream)  # not by what is remembered: a topic made again shall lose nothing

        def attempt(deadline: float) -> int:
            node = self._link.leader(topic, stream, partition, deadline)
            Of = DeleteRecordsRequest.DeleteRecordsTopic
            parts = [Of.DeleteRecordsPartition(partition_index=partition, offset=before)]
            request = DeleteRecordsRequest(topics=[Of(name=topic.name, partitions=parts)], timeout_ms=self._left_ms(deadline))
            try:
                part = self._link.ask(request, node, deadline).topics[0].partitions[0]
                check(part.error_code, f"{topic.name}/{partition}")
            except kafka_errors.KafkaError:
                self._link.moved(stream, partition)
                raise
            return int(part.low_watermark)

        return self._link.patiently(attempt, f"trim {topic.name}/{partition}")

    def describe(self, streams: Mapping[str, int], keep_ms: Mapping[str, int]) -> list[str]:
        """What is not as it must be, each with its mending; empty when all is well.

        `keep_ms` is the least retention that a stream needs. Raises LogUnavailable, LogError.
        """
        wanted = {**INTERNAL, **streams}
        found = self._link.patiently(
            lambda until: self._link.metadata([self._prefix + name for name in wanted], until), "describe its topics"
        )
        problems: list[str] = []
        present = []
        for name, topic in zip(wanted, (_by_name(found.topics, self._prefix + name) for name in wanted), strict=True):
            if topic.error_code in MISSING:
                problems.append(f"{topic.name}: there is no such topic. Start streamlearn once, or create it, to have it made")
                continue
            present.append(name)
            problems += self._counted(name, topic, wanted[name], len(found.brokers))
        configs = self._configs(present)
        brokers = len(found.brokers)
        for name in present:
            problems += self._judged(name, configs[name], keep_ms.get(name, 0), brokers)
        return problems

    # -- making

    def _make(self, missing: Mapping[str, int]) -> None:
        rules, brokers = self._rules, self._brokers()
        replication, insync = rules.replication, rules.min_insync
        if brokers < replication:
            if brokers > 1:
                fix = f"Write at most {brokers}, or add brokers"
                raise ConfigError("log.kafka.replication", f"is {replication}, but the cluster has {brokers} brokers", fix)
            logger.warning(
                "one broker only: topics are made without copies; what its disk loses is lost",
                extra={"replication": 1, "wanted": replication, "topics": sorted(missing)},
            )
            replication, insync = 1, 1
        Topic, Part = CreateTopicsRequest.CreatableTopic, CreateTopicsRequest.CreatableTopic.CreatableTopicConfig

        def attempt(deadline: float) -> None:
            request = CreateTopicsRequest(
                topics=[
                    Topic(
                        name=self._prefix + name,
                        num_partitions=partitions,
                        replication_factor=replication,
                        assignments=[],
                        configs=[Part(name=key, value=value) for key, value in self._config(name, insync).items()],
                    )
                    for name, partitions in missing.items()
                ],
                timeout_ms=self._left_ms(deadline),
                validate_only=False,
            )
            for topic in self._link.ask(request, None, deadline).topics:
                if topic.error_code != EXISTS:  # another process was first: it is checked afterwards
                    check(topic.error_code, f"topic {topic.name}: {topic.error_message}")

        self._link.patiently(attempt, f"make the topics {sorted(self._prefix + name for name in missing)}")

    def _config(self, stream: str, insync: int) -> dict[str, str]:
        return {
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": str(insync),
            "retention.ms": str(self._rules.retention(stream)),
            "retention.bytes": "-1",
            "max.message.bytes": str(self._rules.max_record_bytes + HEAD_BYTES),
        }

    def _wait(self, names: Mapping[str, int]) -> None:
        """Until every new topic has its leaders: the answer to its making comes before that."""

        def attempt(deadline: float) -> None:
            for topic in self._link.metadata([self._prefix + name for name in names], deadline).topics:
                check(topic.error_code, topic.name)
                if any(one.leader_id == NOBODY for one in topic.partitions):
                    raise kafka_errors.LeaderNotAvailableError(topic.name)

        self._link.patiently(attempt, "give its new topics their leaders")

    def _brokers(self) -> int:
        return self._link.patiently(lambda until: len(self._link.metadata([], until).brokers), "name its brokers")

    def _place(self) -> str:
        return f"{self._link.where}, prefix {self._prefix!r}," if self._prefix else self._link.where

    @staticmethod
    def _left_ms(deadline: float) -> int:
        return max(1, int((deadline - time.monotonic()) * 1000))

    # -- checking

    def _counted(self, stream: str, topic: Any, wanted: int, brokers: int) -> list[str]:
        problems = []
        partitions = len(topic.partitions)
        if partitions != wanted:
            problems.append(
                f"{topic.name}: has {partitions} partitions, streams.{stream}.partitions is {wanted}. "
                f"Write {partitions}, or start with a new prefix: another number sends keys to other partitions"
            )
        copies = min((len(one.replica_nodes) for one in topic.partitions), default=0)
        if copies < min(self._rules.replication, brokers):
            problems.append(
                f"{topic.name}: has {copies} copies, log.kafka.replication is {self._rules.replication}. "
                "Reassign its partitions with kafka-reassign-partitions.sh, or lower the setting"
            )
        return problems

    def _configs(self, streams: Sequence[str]) -> dict[str, dict[str, str]]:
        """Every topic's configuration, by stream."""

        def attempt(deadline: float) -> dict[str, dict[str, str]]:
            request = DescribeConfigsRequest(
                resources=[
                    DescribeConfigsRequest.DescribeConfigsResource(
                        resource_type=TOPIC, resource_name=self._prefix + name, configuration_keys=None
                    )
                    for name in streams
                ],
                include_synonyms=False,
                include_documentation=False,
            )
            found = {}
            for result in self._link.ask(request, None, deadline).results:
                check(result.error_code, f"topic {result.resource_name}: {result.error_message}")
                found[result.resource_name[len(self._prefix) :]] = {one.name: one.value for one in result.configs}
            return found

        return self._link.patiently(attempt, "describe its topics") if streams else {}

    def _judged(self, stream: str, config: Mapping[str, str], keep_ms: int, brokers: int) -> list[str]:
        name = self._prefix + stream
        problems = []

        def wrong(key: str, why: str, value: str) -> None:
            command = f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {key}={value}"
            problems.append(f"{name}: {key} is {config.get(key)}, {why}. Run: {command}")

        if config.get("cleanup.policy") != "delete":
            wrong("cleanup.policy", "so records are lost that a retrain needs", "delete")
        if config.get("message.timestamp.type") != "LogAppendTime":
            wrong("message.timestamp.type", "so a producer's clock decides what is late or too far ahead", "LogAppendTime")
        least = FOR_EVER if stream == CONTROL else keep_ms
        retention = int(config.get("retention.ms", FOR_EVER))
        if retention != FOR_EVER and (least == FOR_EVER or retention < least):
            days = f"{least / DAY_MS:.1f} days are needed (label_wait_s, retrain.window_s and a day)"
            need = "it is kept for ever" if least == FOR_EVER else days
            wrong("retention.ms", f"({retention / DAY_MS:.1f} days), but {need}", str(least))
        if int(config.get("retention.bytes", FOR_EVER)) != FOR_EVER:
            wrong("retention.bytes", "so a burst of events deletes what is still needed", "-1")
        largest = self._rules.max_record_bytes + HEAD_BYTES
        if int(config.get("max.message.bytes", largest)) < largest:
            wrong("max.message.bytes", "so larger events are refused", str(largest))
        insync = min(self._rules.min_insync, brokers)
        if int(config.get("min.insync.replicas", 1)) < insync:
            wrong("min.insync.replicas", f"log.kafka.min_insync is {self._rules.min_insync}", str(insync))
        return problems


def _by_name(topics: Sequence[Any], name: str) -> Any:
    return next(topic for topic in topics if topic.name == name)
