"""A whole service that retrains on a Dask cluster, which is away when it starts."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dask_bench import Processes
from executor_bench import wait_for

from streamlearn.client import Client

CONFIG = """
data_dir = "data"
[serve]
port = 0
[executor]
backend = "dask"
dask.scheduler = "{address}"
[streams.s]
[models.m]
stream = "s"
task = "binary"
pipeline = "logistic"
retrain = {{attempts = 20, backoff_s = 1}}
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_it_retrains_once_the_cluster_is_there(tmp_path: Path) -> None:
    here = Processes(tmp_path)
    (tmp_path / "s.toml").write_text(CONFIG.format(address=here.address))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLEARN_")}
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as said, err.open("wb") as logged:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlearn", "serve", "s.toml"], stdout=said, stderr=logged, cwd=tmp_path,
            env=kept | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    try:
        wait_for(lambda: bool(re.search(r"API: http://\S+,", out.read_text())), 60)
        found = re.search(r"API: (http://\S+),", out.read_text())
        assert found is not None
        with Client(found[1]) as client:
            client.wait_until_ready(60)
            draw = random.Random(1)
            values = [draw.uniform(-1, 1) for _ in range(600)]
            events = [{"stream": "s", "id": str(n), "x": {"a": a}, "y": a > 0} for n, a in enumerate(values)]
            assert client.send(events).accepted == 600
            client.retrain("m", "to see where it runs")
            wait_for(lambda: "attempt 2 of 20" in str(client.audit().items), 60)
            assert f"the Dask scheduler at {here.address} does not answer" in str(client.audit().items)
            here.start_scheduler()
            here.start_worker()
            wait_for(lambda: client.model("m").state == "trial", 90)
            version = client.version("m", 2)
            assert (version["fate"], version["learned"]) == ("challenger", 600)
    finally:
        process.send_signal(signal.SIGTERM)
        ended = process.wait(60)
        here.close()
    assert ended == 0
    lines = err.read_text().splitlines()
    assert all(line.startswith("{") for line in lines), "Dask speaks as the roles do"
