"""Files as events: what each kind of cell and line becomes, and what is refused with its row."""

from __future__ import annotations

import builtins
import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from streamlearn.cli.rows import Mapped, Row, Source, detect, fingerprint, kind_of
from streamlearn.errors import ConfigError, EventError

PLAIN = Mapped()


def read(path: Path, mapped: Mapped = PLAIN, stream: str | None = "s", **options: Any) -> list[Row | EventError]:
    rows = list(Source(path, mapped, stream, **options))
    assert [number for number, _ in rows] == list(range(1, len(rows) + 1))
    return [row for _, row in rows]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("", None),
        ("  ", None),
        ("NaN", None),
        ("true", True),
        ("FALSE", False),
        ("42", 42),
        ("-4", -4),
        ("+7", 7),
        ("0", 0),
        (" 3 ", 3),
        ("4.25", 4.25),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e5", 100000.0),
        ("-1.5E-3", -0.0015),
        ("0.10", 0.1),
        ("007", "007"),
        ("00.5", "00.5"),
        ("1_000", "1_000"),
        ("1,5", "1,5"),
        ("٣", "٣"),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("1e999", "1e999"),
        ("inf", "inf"),
        ("NA", "NA"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("hello world", "hello world"),
    ],
)
def test_a_cell_is_read_for_itself(cell: str, value: object) -> None:
    found = detect(cell)
    assert found == value
    assert type(found) is type(value)


def test_a_csv_maps_columns_and_keeps_the_rest_as_features(tmp_path: Path) -> None:
    lines = ["id,when,who,late,dist,carrier,note", "1,2011-01-01T06:00:00Z,77,true,,AA,x", "2,5.5,78,,1.5,007,y"]
    file = write(tmp_path / "f.csv", "\n".join(lines))
    mapped = Mapped(id="id", ts="when", key="who", label="late", drop=frozenset({"note"}))
    assert read(file, mapped) == [
        {"stream": "s", "id": "1", "ts": "2011-01-01T06:00:00Z", "key": "77", "y": True, "x": {"dist": None, "carrier": "AA"}},
        {"stream": "s", "id": "2", "ts": 5.5, "key": "78", "x": {"dist": 1.5, "carrier": "007"}},
    ]


def test_ids_and_keys_and_text_columns_are_never_read_as_numbers(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", "id,key,zip,n\n1.0,true,94107,3\n")
    assert read(file, Mapped(id="id", key="key", text=frozenset({"zip"}))) == [
        {"stream": "s", "id": "1.0", "key": "true", "x": {"zip": "94107", "n": 3}}
    ]


def test_rows_without_an_id_are_named_by_the_files_content(tmp_path: Path) -> None:
    first, again = (write(tmp_path / name, "a\n1\n1\n") for name in ("f.csv", "renamed.csv"))
    other = write(tmp_path / "other.csv", "a\n1\n2\n")
    ids = [row["id"] for row in read(first) if isinstance(row, dict)]
    assert ids == [f"{fingerprint(first)}-1", f"{fingerprint(first)}-2"]
    assert [row["id"] for row in read(again) if isinstance(row, dict)] == ids
    assert not set(ids) & {row["id"] for row in read(other) if isinstance(row, dict)}


def test_a_label_alone_gets_no_id_that_it_could_not_have(tmp_path: Path) -> None:
    assert read(write(tmp_path / "f.ndjson", '{"y": 1}')) == [{"stream": "s", "y": 1}]
    assert read(write(tmp_path / "f.csv", "late\n1\n"), Mapped(label="late")) == [{"stream": "s", "y": 1}]


def test_an_empty_id_is_made_up_too(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", "id,a\n,1\n")
    [row] = read(file, Mapped(id="id"))
    assert isinstance(row, dict)
    assert row["id"] == f"{fingerprint(file)}-1"


def test_quotes_delimiters_byte_order_marks_and_blank_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", '\ufeffa;b\r\n"x;\r\n""y""";2\r\n\r\n3;4\r\n')
    rows = [row["x"] for row in read(file, delimiter=";") if isinstance(row, dict)]
    assert rows == [{"a": 'x;\r\n"y"', "b": 2}, {"a": 3, "b": 4}]


def test_rows_that_are_no_events_keep_their_place(tmp_path: Path) -> None:
    file = write(tmp_path / "f.csv", b'a,b\n1,2\n1,2,3\n1,\xff\n"x"y,2\n5,6\n')
    rows = read(file)
    assert [getattr(row, "reason", "ok") for row in rows] == ["ok", "shape", "malformed", "malformed", "ok"]
    assert str(rows[1]) == "$: has 3 cells, the header 2 [shape]"
    assert isinstance(rows[4], dict)
    assert rows[4]["x"] == {"a": 5, "b": 6}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a,a\n", "'a' is there twice"),
        ("a,,b\n", "a column has no name"),
        ("a,b\n1,2\n", "has no column 'id'"),
    ],
)
def test_a_header_that_cannot_be_used_is_explained(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(write(tmp_path / "f.csv", content), Mapped(id="id"))


@pytest.mark.parametrize("mapped", [Mapped(ts="z"), Mapped(text=frozenset("z")), Mapped(drop=frozenset("z"))])
def test_a_column_that_is_not_there_names_its_option(tmp_path: Path, mapped: Mapped) -> None:
    with pytest.raises(ConfigError, match=r"has no column 'z'. It has a, b") as caught:
        read(write(tmp_path / "f.csv", "a,b\n1,2\n"), mapped)
    assert caught.value.key in ("--ts", "--text z", "--drop z")


def test_ndjson_lines_are_events(tmp_path: Path) -> None:
    lines = ['{"id": "a", "x": {"v": 1}}', "", '{"stream": "t", "y": true, "id": "b"}', '{"x": {}}']
    file = write(tmp_path / "f.jsonl", "\n".join(lines))
    assert read(file) == [
        {"stream": "s", "id": "a", "x": {"v": 1}},
        {"stream": "t", "y": True, "id": "b"},
        {"stream": "s", "x": {}, "id": f"{fingerprint(file)}-3"},
    ]


def test_ndjson_with_mapped_columns_is_flat(tmp_path: Path) -> None:
    file = write(tmp_path / "f.ndjson", '{"n": 7, "late": false, "v": 1.5, "c": "x", "deep": null}\n{"n": 8, "deep": [1]}\n')
    rows = read(file, Mapped(id="n", label="late"))
    assert rows[0] == {"stream": "s", "id": "7", "y": False, "x": {"v": 1.5, "c": "x", "deep": None}}
    assert str(rows[1]) == "deep: holds a list; only numbers, texts, booleans and times can be sent [shape]"


def test_ndjson_lines_that_are_no_events_keep_their_place(tmp_path: Path) -> None:
    file = write(tmp_path / "f.ndjson", b'{"id": "a", "x": {"v": NaN}}\n[1]\n{"a\n\xff\n{"id": "z"}\n')
    rows = read(file, stream=None)
    reasons = [row.reason for row in rows if isinstance(row, EventError)]
    assert reasons == ["not_finite", "shape", "malformed", "malformed", "shape"]
    assert "give --stream" in str(rows[4])


@pytest.mark.parametrize("name", ["f.csv.gz", "f.jsonl.gz"])
def test_gzipped_files_are_read(tmp_path: Path, name: str) -> None:
    content = "v\n1\n2\n" if "csv" in name else '{"x": {"v": 1}}\n{"x": {"v": 2}}\n'
    file = write(tmp_path / name, gzip.compress(content.encode()))
    assert [row["x"] for row in read(file) if isinstance(row, dict)] == [{"v": 1}, {"v": 2}]


def test_a_gzipped_file_cut_short_says_where(tmp_path: Path) -> None:
    content = gzip.compress("".join(json.dumps({"x": {"v": n * 7919 % 1013}}) + "\n" for n in range(5000)).encode())
    with pytest.raises(ConfigError, match=r"cannot be read beyond row [1-9]\d*: .* Is it whole\?"):
        read(write(tmp_path / "f.jsonl.gz", content[:-2000]))
    with pytest.raises(ConfigError, match="cannot be read beyond row 0"):
        read(write(tmp_path / "g.jsonl.gz", "not gzip"))


def parquet(path: Path, **columns: list[Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    moment = datetime(2011, 1, 1, 6, tzinfo=UTC)
    file = parquet(
        tmp_path / "f.parquet",
        id=[1], when=[moment], late=[True], f=[1.5], nan=[float("nan")], s=["007"], none=[None],
        dec=[Decimal("2.50")], day=[date(2011, 1, 2)],
    )  # fmt: skip
    assert read(file, Mapped(id="id", ts="when", label="late")) == [
        {
            "stream": "s", "id": "1", "ts": "2011-01-01T06:00:00+00:00", "y": True,
            "x": {"f": 1.5, "nan": None, "s": "007", "none": None, "dec": 2.5, "day": "2011-01-02"},
        }
    ]  # fmt: skip


def test_parquet_columns_that_no_event_holds_are_refused_by_row(tmp_path: Path) -> None:
    rows = read(parquet(tmp_path / "f.parquet", a=[[1], None], b=[1, 2]))
    assert str(rows[0]) == "a: holds a list; only numbers, texts, booleans and times can be sent [shape]"
    assert isinstance(rows[1], dict)


def test_what_is_not_parquet_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not Parquet"):
        read(write(tmp_path / "f.parquet", "hello"))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, real = parquet(tmp_path / "f.parquet", a=[1]), builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'streamlearn\[parquet\]'"):
        read(file)


def test_rows_know_their_lines(tmp_path: Path) -> None:
    csv, lines = tmp_path / "a.csv", tmp_path / "a.ndjson"
    csv.write_text('a,b\n1,2\n\n3,"x\ny"\n4\n')
    lines.write_text('{"x": {"a": 1}}\n\n[1]\n{"x": {"a": 2}}\n')
    for path, expected in ((csv, [(1, 2), (2, 5), (3, 6)]), (lines, [(1, 1), (2, 3), (3, 4)])):
        source = Source(path, Mapped(), "s")
        assert [(number, source.line) for number, _ in source] == expected


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    content = "v\n" + "".join(f"{n}\n" for n in range(50_000))
    for name, file in (
        ("csv", write(tmp_path / "f.csv", content)),
        ("parquet", parquet(tmp_path / "f.parquet", v=list(range(5000)))),
    ):
        source = Source(file, Mapped(), "s")
        seen = [0] + [source.done for _ in source]
        assert seen == sorted(seen), name
        assert 0 < seen[len(seen) // 2] < source.total, name
        assert seen[-1] == source.total, name


@pytest.mark.parametrize("name", ["f.txt", "f.gz", "f.parquet.gz", "f"])
def test_other_kinds_of_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"Its name must end in .csv"):
        kind_of(write(tmp_path / name, ""))


def test_a_missing_file_and_a_missing_stream(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        kind_of(tmp_path / "f.csv")
    with pytest.raises(ConfigError, match="--stream: is missing"):
        Source(write(tmp_path / "f.csv", "a\n1\n"), Mapped(), None)
