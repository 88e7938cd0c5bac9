"""The password for Kafka is changed at a real broker: what is connected goes on, what starts then shows the new one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion

from streamlearn.cli.dev_kafka import KafkaServer
from streamlearn.cli.dev_process import LOOPBACK
from streamlearn.cli.wiring import open_log
from streamlearn.config import parse
from streamlearn.errors import LogError
from streamlearn.log import Entry, Log
from streamlearn.log.kafka_link import Direct

WAIT_S = 30.0
DIRECT = f"{Direct.SCHEMES[0]}://"  # kafka-python leaves a socket that could not connect to the collector
SETTINGS = {
    "sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.client.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
}


def put(log: Log, value: bytes) -> int:
    [(_, offset)] = log.append("s", [Entry(b"k", value, partition=0)]).result(WAIT_S)
    return offset


@pytest.mark.slow
@pytest.mark.kafka
def test_a_password_is_changed_and_what_is_connected_goes_on(
    own_kafka: Callable[..., KafkaServer], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server, file = own_kafka(protocol="SASL_PLAINTEXT", settings=SETTINGS), tmp_path / "password"
    admin = KafkaAdminClient(bootstrap_servers=f"{LOOPBACK}:{server.node.peers}", proxy_url=DIRECT)
    request.addfinalizer(admin.close)

    def change(password: str) -> None:
        wanted = UserScramCredentialUpsertion("app", ScramMechanism.SCRAM_SHA_512, password, iterations=4096)
        assert admin.alter_user_scram_credentials([wanted]) == {"app": None}

    def opened() -> Log:
        """As a role opens it that starts now; the broker may take a moment to know of a new password."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                log = open_log(settings)
                request.addfinalizer(log.close)
                return log
            except LogError:
                assert time.monotonic() < deadline
                time.sleep(0.2)

    kafka = {
        "bootstrap": [server.address], "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": "app", "sasl_password_file": str(file), "replication": 1, "min_insync": 1, "request_timeout_s": 5,
    }  # fmt: skip
    tree = {"data_dir": str(tmp_path), "log": {"backend": "kafka", "kafka": kafka}, "streams": {"s": {}}}
    settings = parse(tree, {})
    change("the-old-one")
    file.write_text("the-old-one\n")
    before = opened()
    assert put(before, b"1") == 0
    file.write_text("the-new-one\n")  # 1
    change("the-new-one")  # 2
    assert put(before, b"2") == 1, "what is connected goes on"
    after = opened()  # 3: the roles are started anew
    assert put(after, b"3") == 2
    assert put(before, b"4") == 3
    assert [record.value for record in after.read("s", 0, 0, 9)] == [b"1", b"2", b"3", b"4"]
    file.write_text("the-old-one\n")
    deadline, told = time.monotonic() + WAIT_S, ""
    while "check the user, the password" not in told:  # a broker may also hang up without a word
        assert time.monotonic() < deadline, told
        with pytest.raises(LogError) as error:
            open_log(settings)
        told = str(error.value)
