"""Dead letters: listed once each, shown in full, replayed once, to the right partition."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from streamlearn.cli.dead_letters import app
from streamlearn.cli.letters import letters, replay
from streamlearn.cli.wiring import open_log, read_settings
from streamlearn.errors import ConfigError
from streamlearn.events import Kind, partition_of
from streamlearn.log import DEAD, Entry, Log, Record
from streamlearn.records import DeadLetter
from streamlearn.testing import FakeClock, MemoryLog

RAW = b'{"stream":"s","id":"a","x":{"v":"text"}}'


def dead(
    offset: int, reason: str = "feature_type", model: str = "m", raw: bytes = RAW, key: str = "k", shard: int = 0
) -> Entry:
    letter = DeadLetter(model, "s", shard, offset, 1_700_000_000.0, reason, f"x.v: was a number, at {offset}", key, raw)
    return Entry(model.encode(), msgspec.json.encode(letter))


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog(clock=FakeClock())
    made.create({"s": 2})
    return made


def put(log: Log, stream: str, *entries: Entry) -> list[tuple[int, int]]:
    return log.append(stream, entries).result()


def everything(log: Log, stream: str = "s") -> dict[int, list[Record]]:
    return {n: log.read(stream, n, 0, 100) for n in range(log.streams()[stream])}


def test_a_letter_written_again_after_a_crash_counts_once(log: MemoryLog) -> None:
    put(log, DEAD, dead(4), dead(5), dead(4), dead(4, reason="late"), dead(4, model="other"))
    assert [(one.number, one.dead.offset, one.dead.reason) for one in letters(log)] == [
        (0, 4, "feature_type"),
        (1, 5, "feature_type"),
        (3, 4, "late"),
        (4, 4, "feature_type"),
    ]


def test_what_others_wrote_into_the_stream_is_passed_over(log: MemoryLog) -> None:
    put(log, DEAD, Entry(b"", b"not json"), dead(1), Entry(b"", b'{"a": 1}', Kind.COMMAND))
    assert [one.number for one in letters(log)] == [1]


def test_a_replay_appends_the_very_record_to_the_partition_of_its_key(log: MemoryLog) -> None:
    key = next(key for key in (b"a", b"b", b"c", b"d") if partition_of(key, 2) == 1)
    put(log, "s", Entry(key, RAW, Kind.PREDICTION, partition=0))
    put(log, DEAD, dead(0, "misrouted", key=key.decode()))
    assert replay(log, letters(log), False, FakeClock())[:2] == (1, 0)
    [record] = everything(log)[1]
    assert (record.key, record.value, record.kind) == (key, RAW, Kind.PREDICTION)


def test_a_record_that_the_log_forgot_is_replayed_from_its_letter(log: MemoryLog) -> None:
    [(partition, _)] = put(log, "s", Entry(b"k", RAW))
    log.trim("s", partition, 1)
    put(log, DEAD, dead(0, shard=partition))
    replay(log, letters(log), False, FakeClock())
    [record] = log.read("s", partition, 1, 10)
    assert (record.key, record.value, record.kind) == (b"k", RAW, Kind.EVENT)


def test_no_letter_is_replayed_twice_unless_asked(log: MemoryLog) -> None:
    put(log, "s", Entry(b"k", RAW), Entry(b"k", RAW))
    put(log, DEAD, dead(0), dead(1))
    assert replay(log, letters(log)[:1], False, FakeClock()).appended == 1
    assert [one.replayed for one in letters(log)] == [True, False]
    assert replay(log, letters(log), False, FakeClock()) == (1, 1, 0)
    assert replay(log, letters(log), False, FakeClock()) == (0, 2, 0)
    assert replay(log, letters(log), True, FakeClock()) == (2, 0, 0)
    assert sum(map(len, everything(log).values())) == 2 + 1 + 1 + 2


def test_two_models_refusals_of_one_record_are_one_replay(log: MemoryLog) -> None:
    put(log, "s", Entry(b"k", RAW))
    put(log, DEAD, dead(0), dead(0, model="other"), dead(0, reason="late"))
    assert replay(log, letters(log), False, FakeClock()).appended == 1
    assert all(one.replayed for one in letters(log))


def test_a_command_that_nobody_signed_is_never_replayed(log: MemoryLog) -> None:
    put(log, "s", Entry(b"k", b"{}", Kind.COMMAND, partition=0))
    put(log, DEAD, dead(0, "bad_signature"))
    assert replay(log, letters(log), True, FakeClock()) == (0, 0, 1)
    assert sum(map(len, everything(log).values())) == 1


def test_many_letters_are_read_and_replayed_page_by_page(log: MemoryLog) -> None:
    put(log, "s", *(Entry(b"k", b"%d" % n, partition=0) for n in range(2500)))
    put(log, DEAD, *(dead(n) for n in range(2500)))
    assert replay(log, letters(log), False, FakeClock()).appended == 2500
    appended = [record.value for part in (0, 1) for record in log.read("s", part, 0 if part else 2500, 5000)]
    assert appended == [b"%d" % n for n in range(2500)]
    assert all(one.replayed for one in letters(log))


# The commands, over a real log.


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "s.toml"
    file.write_text('data_dir = "data"\n[streams.s]\n')
    return file


@pytest.fixture
def filled(config: Path) -> Path:
    log = open_log(read_settings(config, {}))
    put(log, "s", Entry(b"k", RAW), Entry(b"k", b'\xff{"odd'), Entry(b"k", RAW))
    put(log, DEAD, dead(0), dead(1, "malformed", raw=b'\xff{"odd'), dead(2, "late", model="other"))
    log.close()
    return config


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def test_the_list_shows_every_letter(filled: Path) -> None:
    out = run("list", "-c", filled).stdout
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    assert rows[0] == ["id", "reason", "model", "stream", "partition", "offset", "when", "replayed", "detail"]
    assert [row[:3] for row in rows[1:]] == [["0", "feature_type", "m"], ["1", "malformed", "m"], ["2", "late", "other"]]
    assert "2023-11-14 22:13:20Z" in out


def test_the_list_can_be_narrowed(filled: Path) -> None:
    assert run("list", "-c", filled, "--reason", "late").stdout.count("\n") == 2
    assert run("list", "-c", filled, "--model", "m").stdout.count("\n") == 3
    narrowed = run("list", "-c", filled, "--limit", 1).stdout
    assert "late" in narrowed
    assert "the newest 1 of 3; --limit shows more" in narrowed


def test_a_reason_that_is_not_there(filled: Path) -> None:
    assert run("list", "-c", filled, "--reason", "orphan").stdout == "no dead letters\n"
    assert "there is no reason 'orphann'" in run("list", "-c", filled, "--reason", "orphann", code=78).stderr
    assert "Known are: m, other" in run("list", "-c", filled, "--model", "x", code=78).stderr


def test_a_model_of_the_configuration_may_have_none(config: Path) -> None:
    config.write_text(f'{config.read_text()}[models.m]\nstream = "s"\ntask = "binary"\npipeline = "logistic"\n')
    log = open_log(read_settings(config, {}))
    put(log, "s", Entry(b"k", RAW))
    log.close()
    assert run("list", "-c", config, "--model", "m").stdout == "no dead letters\n"
    assert "there is no model 'x'" in run("list", "-c", config, "--model", "x", code=78).stderr


def test_a_letter_is_shown_in_full(filled: Path) -> None:
    out = run("show", 0, "-c", filled).stdout
    assert "reason     feature_type: a feature changed between number and string" in out
    assert "position   s/0 at offset 0, appended 2023-11-14 22:13:20Z" in out
    assert '    "v": "text"' in out
    assert r'\xff{"odd' in run("show", 1, "-c", filled).stdout
    assert "there is no dead letter 9. Take one from" in run("show", 9, "-c", filled, code=78).stderr


def test_replay_says_what_it_did(filled: Path) -> None:
    assert "Name ids from the list, or give --reason" in run("replay", "-c", filled, code=78).stderr
    assert run("replay", 0, 2, "-c", filled).stdout == "2 records replayed\n"
    again = run("replay", 0, "-c", filled).stdout
    assert again == "0 records replayed\n1 letter passed over, replayed before; --again replays them too\n"
    assert run("replay", "--reason", "feature_type", "--again", "-c", filled).stdout == "1 record replayed\n"
    log = open_log(read_settings(filled, {}))
    assert log.bounds("s", 0) == (0, 6)
    log.close()
    assert run("list", "-c", filled).stdout.count(" yes ") == 2


def test_without_a_log_nothing_is_made(config: Path) -> None:
    assert "there is no log in" in run("list", "-c", config, code=78).stderr
    assert not (config.parent / "data").exists()


def test_an_unknown_letter_is_refused_before_anything_is_replayed(filled: Path) -> None:
    run("replay", 0, 7, "-c", filled, code=78)
    log = open_log(read_settings(filled, {}))
    assert log.bounds("s", 0) == (0, 3)
    log.close()


def test_config_errors_are_told_in_full(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[serve]\nport = -1\nprot = 2\n")
    result = run("list", "-c", file, code=78)
    assert result.stderr.count("error: ") == 3
    with pytest.raises(ConfigError):
        read_settings(file, {})
