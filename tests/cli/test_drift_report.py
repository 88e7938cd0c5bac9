"""What drift-bench tells: the TOML is the setting that was measured, whatever it is, and the picture is one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlearn.cli.benches import Source, check_plot
from streamlearn.cli.drift_report import Report, Result, as_toml, draw
from streamlearn.config import DetectorSettings, DriftSettings
from streamlearn.drift.offline import Case, Shown, Tape, rates
from streamlearn.errors import ConfigError

params = st.dictionaries(
    st.sampled_from(["delta", "t_0", "way"]),
    st.one_of(
        st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text('a"\\é\n\t ')
    ),
)
detectors = st.builds(
    DetectorSettings,
    name=st.sampled_from(["adwin", "page_hinkley", "kswin", "dummy"]),
    on=st.sampled_from(["loss", "score", "label_rate", "accuracy"]),
    every=st.one_of(st.none(), st.integers(1, 1000)),
    params=params,
)
shares = st.floats(1e-9, 0.999)
tables = st.fixed_dictionaries(
    {},
    optional={
        "detectors": st.lists(detectors, min_size=1, max_size=3).map(tuple),
        "quorum": st.sampled_from(["any", "majority", "all", 1]),
        "within": st.integers(1, 10**6),
        "window": st.integers(30, 10**6),
        "gap": st.integers(0, 10**6),
        "min_reference": st.integers(30, 10_000),
        "max_reference": st.integers(10_000, 10**6),
        "alpha": shares,
        "harm": shares,
        "features": st.fixed_dictionaries(
            {}, optional={"enabled": st.booleans(), "q": shares, "window": st.integers(50, 9999)}
        ),
    },
)


def read(text: str) -> DriftSettings:
    """The drift table of the model m in this TOML."""
    return DriftSettings.model_validate(tomllib.loads(text)["models"]["m"]["drift"])


@given(tables)
def test_the_toml_is_the_setting_that_was_measured(table: dict[str, Any]) -> None:
    drift = DriftSettings.model_validate(table)
    assert read(as_toml("m", drift)) == drift


def test_what_is_as_usual_is_left_out() -> None:
    assert as_toml("m", DriftSettings()) == "[models.m.drift]"
    drift = DriftSettings.model_validate({"window": 100, "detectors": [{"name": "kswin", "every": 8}], "features": {"q": 0.01}})
    assert as_toml("m", drift).splitlines() == [
        "[models.m.drift]",
        'detectors = [{name = "kswin", every = 8}]',
        "window = 100",
        "[models.m.drift.features]",
        "q = 0.01",
    ]


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml")])
def test_a_picture_is_drawn(tmp_path: Path, ending: str, begins: bytes) -> None:
    shown = [Shown("loss", float(n % 3 == 0), n, n) for n in range(1, 400)]
    case, none = Case(250, 210, 300, True, 0.001, 0.03), rates([], [200], 400, 100)
    drift = DriftSettings()
    results = [Result("as configured", drift, [100, 250], [case], none, none), Result("adwin", drift, [], [], none, none)]
    path = tmp_path / f"p.{ending}"
    check_plot(path)
    draw(Report("m", Source("rows.csv"), Tape("binary", 400, shown), [200], 100, results), path)
    assert path.read_bytes().startswith(begins)
    assert path.stat().st_size > 5000


def test_another_kind_of_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"p\.pdf is neither \.svg nor \.png"):
        check_plot(Path("p.pdf"))


def test_a_source_says_what_was_read() -> None:
    assert str(Source("rows.csv")) == "rows.csv"
    part = Source("clicks", 1, 2000, 30_000)
    assert str(part) == "stream clicks, partition 1, offsets 2,000 to 30,000"
    assert part.as_json() == {"stream": "clicks", "shard": 1, "from": 2000, "to": 30_000}
