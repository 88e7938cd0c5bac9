"""Two `control` processes on one log: one leads, the other waits and takes over, and nothing is decided twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from service_bench import STREAM, Program, Site, Traffic, eventually, stopped

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_redis import RedisServer
from streamlearn.events import encode
from streamlearn.log import CONTROL, Entry
from streamlearn.records import Decision, Request

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]


class House:
    """One learner of one model, and what is asked of control."""

    def __init__(self, site: Site) -> None:
        self.site, self.traffic = site, Traffic()
        self.learner = site.run("learn")
        self.asked = 0

    def feed(self, events: int) -> None:
        for batch in self.traffic.batches(events):
            self.site.world.log.append(STREAM, [Entry(event["id"].encode(), encode(event)) for event in batch]).result(30)

    def ask(self, action: str) -> None:
        self.asked += 1
        request = Request(f"r{self.asked}", "ctr", action, "ann", time.time(), "to see")
        self.site.world.log.append(CONTROL, [Entry(b"ctr", msgspec.json.encode(request))]).result(30)

    def decided(self, kind: str, times: int = 1) -> None:
        """Wait until that was decided so often."""
        eventually(lambda: self.kinds()[kind] >= times, f"{kind} is decided")

    def kinds(self) -> Counter[str]:
        return Counter(decision.kind for _, decision in self.site.decisions())

    def held(self, is_held: bool) -> None:
        """Wait until every shard of the learner says so."""
        eventually(lambda: {s.held is not None for s in self.site.statuses().values()} == {is_held}, f"held: {is_held}")

    def settled(self) -> int:
        """How many requests have their decision."""
        return sum("request" in decision.numbers for _, decision in self.site.decisions())

    def effective(self) -> tuple[list[Decision], list[Decision]]:
        """The decisions so far that took effect, and those that did not, by the audit once the store has it all."""
        said, end = self.site.decisions(), self.site.world.log.bounds(CONTROL, 0)[1]
        eventually(lambda: self.site.world.store.view_offset() >= end, "the audit is up to date")
        audit = map(msgspec.json.decode, self.site.world.store.views("audit").values())
        took = {doc["control"] for doc in audit if doc["took_effect"]}
        return [d for offset, d in said if offset in took], [d for offset, d in said if offset not in took]


def leads(program: Program) -> bool:
    return '"text": "leads"' in program.said


def only_once(decisions: list[Decision]) -> None:
    """Of a request, of a step of a case, or of a range that was held there is one decision."""
    steps = Counter(
        (one.kind, one.case, one.numbers.get("request"), one.numbers.get("shard"), str(one.numbers.get("range")))
        for one in decisions
    )
    assert set(steps.values()) == {1}, steps


def test_one_leads_and_the_other_takes_over(
    sites: Callable[..., Site], tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer
) -> None:
    site = sites(tmp_path, kafka_server.address, redis_server.url)
    house = House(site)
    first = site.run("control")
    eventually(lambda: leads(first), "the first one leads")
    second = site.run("control")
    house.feed(2000)
    eventually(lambda: "waits for its turn to lead" in second.said, "the second one waits")
    house.ask("hold")
    house.held(True)
    house.ask("resume")
    house.held(False)
    assert not leads(second)
    house.decided("range_skipped", 2)
    assert house.kinds() == Counter(registered=1, held=1, resumed=1, range_skipped=2), "both shards were held for a while"

    house.ask("retrain")
    house.decided("retrain_started")
    first.kill()
    killed = time.monotonic()
    eventually(lambda: leads(second), "the second one leads when the first is killed")
    print(f"\nanother control leads {time.monotonic() - killed:.1f} s after the first was killed (the session is 3 s)")
    house.decided("trial_started")
    house.feed(4000)
    house.ask("hold")
    house.held(True)
    house.ask("resume")
    house.held(False)

    third = site.run("control")
    eventually(lambda: "waits for its turn to lead" in third.said, "a third one waits")
    with stopped(second.pid):
        frozen = time.monotonic()
        eventually(lambda: leads(third), "the third one leads while the second stands still")
        print(f"another control leads {time.monotonic() - frozen:.1f} s after the second stood still")
        house.ask("hold")
        house.held(True)
    eventually(lambda: "another control process leads now" in second.said, "the second one sees that it no longer leads")
    house.ask("resume")
    house.held(False)
    assert third.stop() == 0, third.said[-3000:]
    left = time.monotonic()
    eventually(lambda: second.said.count('"text": "leads"') == 2, "it leads again when the third one leaves")
    print(f"another control leads {time.monotonic() - left:.1f} s after the third had left")
    house.ask("cancel")
    eventually(lambda: house.settled() == house.asked, "every request is settled")

    decisions, idle = house.effective()
    only_once(decisions)
    kinds = Counter(decision.kind for decision in decisions)
    assert (kinds["held"], kinds["resumed"], kinds["retrain_started"], kinds["trial_started"]) == (3, 3, 1, 1)
    assert not idle, "not even an idle word was said by two at once"
    site.hold(house.traffic)
