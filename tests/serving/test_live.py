"""The service on a real socket over the embedded log and store: posted, served, limited, drained."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from streamlearn import config
from streamlearn.client import Client, Retry
from streamlearn.errors import Refused
from streamlearn.events import Kind, Limits, Position
from streamlearn.keys import KeyRing
from streamlearn.learning.model import Model
from streamlearn.log.sqlite import SqliteLog
from streamlearn.serving.app import Deps, create_app
from streamlearn.store import codec
from streamlearn.store.sqlite import SqliteStore

KEYS = KeyRing({"k1": b"0123456789abcdef0123456789abcdef"})
pytestmark = pytest.mark.slow


class Live:
    def __init__(self, folder: Path, **tables: Any) -> None:
        tree = {
            "streams": {"flights": {}},
            "models": {"delay": {"stream": "flights", "task": "binary", "pipeline": "logistic"}},
        } | tables
        self.settings = config.parse(tree, {})
        self.log, self.store = SqliteLog(folder / "log.sqlite"), SqliteStore(folder / "store.sqlite")
        self.log.create({"flights": 1})
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    @contextmanager
    def running(self) -> Iterator[None]:
        app = create_app(Deps(self.settings, self.log, self.store, KEYS, {}, CollectorRegistry()))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [self.socket]})
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(30)
            self.socket.close()
            self.log.close()
            self.store.close()
        assert not thread.is_alive()

    def publish(self) -> None:
        model = Model(self.settings.models["delay"], Limits())
        for n in range(200):
            x, types = model.check({"distance": float(n), "carrier": "WN"})
            model.accept(types)
            model.learn(x, n > 100)
        blob = codec.encode(
            kind="publication", model="delay", version=1, shard=0, generation=1,
            positions=[Position(self.log.identity("flights"), "flights", 0, 0)], created=time.time(),
            parts={"model": pickle.dumps(model)}, keys=KEYS, extra={"n": 200},
        )  # fmt: skip
        self.store.put_publication("delay", 0, 1, blob)


def test_a_real_model_over_a_real_socket(tmp_path: Path) -> None:
    live = Live(tmp_path)
    with live.running(), Client(live.url) as client:
        assert not client.ready().ready
        live.publish()
        assert client.wait_until_ready(timeout_s=20).ready
        answer = client.predict("delay", {"distance": 190.0, "carrier": "WN"}, id="f1", log=True)
        assert answer.prediction is True
        assert answer.probabilities is not None
        assert sum(answer.probabilities.values()) == pytest.approx(1.0)
        assert answer.logged == "queued"
        with pytest.raises(Refused, match=r"x\.distance"):
            client.predict("delay", {"distance": "far"})
        sent = client.send({"stream": "flights", "id": f"e{n}", "x": {"distance": n}} for n in range(1200))
        assert (sent.accepted, sent.rejected) == (1200, [])
        assert 'streamlearn_events_posted_total{outcome="accepted"} 1200.0' in client.metrics()
        assert client.retrain("delay", "to see").offset == 0
        last = [client.predict("delay", {"distance": 1.0}, id=f"g{n}", log=True) for n in range(20)]
        assert {item.logged for item in last} == {"queued"}
    again = SqliteLog(tmp_path / "log.sqlite")
    records = again.read("flights", 0, 0, 5000)
    again.close()
    assert sum(record.kind == Kind.EVENT for record in records) == 1200
    assert sum(record.kind == Kind.PREDICTION for record in records) == 21  # also those of the last moment


def test_too_large_a_body_is_answered_on_a_real_socket_also_while_the_sender_still_sends(tmp_path: Path) -> None:
    live = Live(tmp_path, limits={"max_body_bytes": 200_000})
    with live.running(), httpx.Client(base_url=live.url, timeout=10) as http:
        for _ in range(2):
            got = http.post("/v1/events", content=b" " * 5_000_000, headers={"content-type": "application/json"})
            assert got.status_code == 413
            assert got.json()["type"] == "/problems/too-large"
        pieces = (b" " * 50_000 for _ in range(100))
        assert http.post("/v1/events", content=pieces).status_code == 413
        assert http.post("/v1/events", json={"stream": "flights", "id": "a", "x": {}}).status_code == 200


def test_a_locked_log_is_503_and_then_well_again_while_predictions_go_on(tmp_path: Path) -> None:
    live = Live(tmp_path, serve={"max_in_flight": 2})
    live.publish()
    real = live.log.append

    with live.running(), Client(live.url, retry=Retry(attempts=1)) as client:
        client.wait_until_ready(timeout_s=20)
        futures: list[Any] = []

        def stuck(stream: str, entries: Any) -> Any:
            future: Future[Any] = Future()
            futures.append((future, stream, entries))
            return future

        live.log.append = stuck  # type: ignore[method-assign]  # a disk that does not answer
        threads = [
            threading.Thread(target=lambda: httpx.post(f"{live.url}/v1/events", json={"stream": "flights", "id": "a", "x": {}}))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        while len(futures) < 2:
            time.sleep(0.01)
        with pytest.raises(Refused) as caught:
            client.send([{"stream": "flights", "x": {}}])
        assert caught.value.status == 429
        assert client.predict("delay", {"distance": 1.0}).version == 1
        live.log.append = real  # type: ignore[method-assign]  # it answers again
        for future, stream, entries in futures:
            future.set_result(real(stream, entries).result(10))
        for thread in threads:
            thread.join(10)
        assert client.send([{"stream": "flights", "x": {}}]).accepted == 1
