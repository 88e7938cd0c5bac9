"""`streamlearn evaluate`: what it reads, what it refuses, and that it measures what the model of a service would do."""

from __future__ import annotations

import json
import math
import random
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from streamlearn.cli import evaluate
from streamlearn.cli.main import app
from streamlearn.config_recommend import RecommendSettings
from streamlearn.recommend.recommender import Recommender
from streamlearn.recommend.state import Interaction

CONFIG = """
[streams.visits]
[models.shop]
stream = "visits"
task = "recommend"
pipeline = "mlp"
[models.shop.recommend]
k = 3
actions = { like = 1.0, hate = -1.0 }
"""


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, result.output
    return result


def acts(n: int, seed: int = 1) -> list[tuple[float, str, str]]:
    """Users who like what is near their own number."""
    draw = random.Random(seed)
    found = []
    for place in range(n):
        user = draw.randrange(12)
        found.append((1e9 + 600.0 * place, f"0{user}", f"i{(user + draw.randrange(6)) % 20}"))
    return found


def csv_of(path: Path, rows: list[tuple[float, str, str]]) -> Path:
    path.write_text("ts,user,item\n" + "".join(f"{ts:.0f},{user},{item}\n" for ts, user, item in rows))
    return path


def found_in(path: Path) -> Any:
    return json.loads(path.read_text())


def test_it_ranks_and_learns_as_the_model_does(tmp_path: Path) -> None:
    """Its figures are those of the recommender itself, ranked before it learns; text ids stay as they are."""
    rows, told = acts(250), tmp_path / "r.json"
    run(csv_of(tmp_path / "a.csv", rows), "--json", told)
    model = Recommender(RecommendSettings(actions={"like": 1.0}), 42)
    gains, popular, n = 0.0, 0.0, 0
    for ts, user, item in rows:
        one = Interaction(user, item, "like", 1.0, ts, {})
        if not model.left_out(one):
            rank = model.rank(one)
            n += 1
            gains += 1 / math.log2(1 + rank) if 1 <= rank <= 10 else 0
            rank = model.baseline_ranks()[1]
            popular += 1 / math.log2(1 + rank) if 1 <= rank <= 10 else 0
        model.learn(one)
    found = found_in(told)
    own = found["contenders"]["streamlearn"]
    assert own["events"] == n
    assert own["ndcg"] == pytest.approx(gains / n)
    assert found["contenders"]["popular"]["ndcg"] == pytest.approx(popular / n)
    assert (found["learned"], found["repeated"], found["bad"]) == (250, 250 - n, 0)
    assert found["repeated"] > 0
    assert 0 < own["coverage"]["share"] <= 1
    assert own["cold_start"]["new_user"] == pytest.approx(12 / n)
    assert own["novelty"] > 0


def test_a_file_that_is_not_in_order_is_put_into_it(tmp_path: Path) -> None:
    rows = acts(120)
    mixed = random.Random(3).sample(rows, len(rows))
    one, other = tmp_path / "1.json", tmp_path / "2.json"
    assert "order of time" not in run(csv_of(tmp_path / "a.csv", rows), "--json", one).stdout
    assert "have been put into it" in run(csv_of(tmp_path / "b.csv", mixed), "--json", other).stdout
    assert found_in(one)["contenders"] == found_in(other)["contenders"]


def test_the_same_from_other_formats_and_several_files(tmp_path: Path) -> None:
    """NDJSON as the API takes it, with a context that is passed over; and in two pieces."""
    rows, told = acts(100), [tmp_path / f"{name}.json" for name in "123"]
    lines = [
        json.dumps({"stream": "s", "user": user, "item": item, "action": "like", "ts": ts, "x": {"device": "phone"}})
        for ts, user, item in rows
    ]
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    run(csv_of(tmp_path / "a.csv", rows), "--json", told[0])
    run(tmp_path / "a.ndjson", "--json", told[1])
    run(csv_of(tmp_path / "b.csv", rows[:40]), csv_of(tmp_path / "c.csv", rows[40:]), "--json", told[2])
    first, *others = (found_in(path)["contenders"] for path in told)
    assert all(one == first for one in others)


def test_records_of_items_and_users_are_known_before(tmp_path: Path) -> None:
    """By what items share, one that nobody has touched can be named, and lists have a diversity."""
    items, users, told = tmp_path / "items.csv", tmp_path / "users.ndjson", tmp_path / "r.json"
    items.write_text("id,colour\n" + "".join(f"i{n},{'red' if n % 2 else 'blue'}\n" for n in range(20)))
    users.write_text('{"user": "01", "country": "PT"}\n')
    rows = acts(80)
    run(csv_of(tmp_path / "a.csv", rows), "--items", items, "--users", users, "--json", told)
    own = found_in(told)["contenders"]["streamlearn"]
    assert 0 < own["diversity"] < 1
    assert own["coverage"]["available"] == 20
    assert own["split"]["new_item"]["ranked"] > 0
    run(csv_of(tmp_path / "a.csv", rows), "--json", told)
    bare = found_in(told)["contenders"]["streamlearn"]
    assert bare["diversity"] is None
    assert bare["split"]["new_item"]["ranked"] == 0


def test_a_model_of_the_configuration(tmp_path: Path) -> None:
    """Its own k and actions: dislikes are learned, and unknown actions are not."""
    config, file, told = tmp_path / "x.toml", tmp_path / "a.csv", tmp_path / "r.json"
    config.write_text(CONFIG)
    actions = ["like", "like", "hate", "look"]
    lines = [f"{ts:.0f},{user},{item},{actions[n % 4]}\n" for n, (ts, user, item) in enumerate(acts(120))]
    file.write_text("ts,user,item,action\n" + "".join(lines))
    out = run(file, "--config", config, "--json", told).stdout
    assert "Not ranked: 30 interactions of actions that the settings do not name." in out
    found = found_in(told)
    assert (found["k"], found["learned"], found["unnamed"]) == (3, 90, 30)
    assert found["contenders"]["shop"]["events"] == 60 - found["repeated"]


def test_ratings_below_the_least_are_left_out(tmp_path: Path) -> None:
    file, told = tmp_path / "a.csv", tmp_path / "r.json"
    lines = [f"{user},{item},{1 + n % 5},{ts:.0f}\n" for n, (ts, user, item) in enumerate(acts(50))]
    file.write_text("user_id,item_id,rating,timestamp\n" + "".join(lines))
    out = run(file, "--min-rating", 4, "--json", told).stdout
    assert "20 interactions, 30 low ratings left out" in out
    assert found_in(told)["low"] == 30
    err = run(file, code=78).stderr
    assert "--min-rating" in err
    assert "the highest is 5" in err


def test_bad_lines_are_told_with_their_numbers(tmp_path: Path) -> None:
    file, told = csv_of(tmp_path / "a.csv", acts(40)), tmp_path / "r.json"
    with file.open("a") as more:
        more.write("soon,1,i1\n1000000000,,i1\n1000000000,1\n")
    err = run(file, "--json", told).stderr
    assert "left out: a.csv, line 42: ts: " in err
    assert "left out: a.csv, line 43: user: is missing" in err
    assert "left out: a.csv, line 44: $: has 2 cells, the header 3" in err
    found = found_in(told)
    assert (found["rows"], found["bad"], found["learned"]) == (43, 3, 40)


def test_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "p.svg"
    assert f"wrote {path}" in run(csv_of(tmp_path / "a.csv", acts(30)), "--plot", path).stdout
    assert "popular" in path.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--user", "who"], "error: --user: a.csv has no column 'who'"),
        (["--context", "device"], "error: --context: a.csv has no column 'device'"),
        (["--model", "shop"], "error: --model: is given without a configuration"),
        (["--config", "x.toml", "--model", "other"], "error: --model: 'other' is no model that recommends"),
        (["--config", "x.toml", "--action", "look"], "error: --action: shop learns nothing from look"),
        (["--plot", "p.pdf"], "error: --plot: p.pdf is neither .svg nor .png"),
        (["--items", "a.csv", "--item", "user"], None),
        (["--items", "none.csv"], "no such file"),
    ],
)
def test_what_cannot_be_done_is_said(
    options: list[str], said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    csv_of(tmp_path / "a.csv", acts(10))
    (tmp_path / "x.toml").write_text(CONFIG)
    result = run("a.csv", *options, code=0 if said is None else 78)
    assert said is None or said in result.stderr


def test_a_file_without_interactions(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ts,user,item\n")
    assert "has no row that can be read" in run(tmp_path / "a.csv", code=78).stderr
    (tmp_path / "b.csv").write_text("ts,item\n1,i\n")
    assert "b.csv has no column user or user_id" in run(tmp_path / "b.csv", code=78).stderr


def test_a_model_named_as_a_baseline_keeps_its_own_figures(tmp_path: Path) -> None:
    config, told = tmp_path / "x.toml", tmp_path / "r.json"
    config.write_text(CONFIG.replace("models.shop", "models.recent"))
    run(csv_of(tmp_path / "a.csv", acts(30)), "--config", config, "--json", told)
    assert set(found_in(told)["contenders"]) == {"model recent", *evaluate.BASELINES}


def test_the_commands_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "recommendations.md").read_text()
    commands = [shlex.split(line)[2:] for line in page.splitlines() if line.startswith("streamlearn evaluate ")]
    assert len(commands) == 2
    monkeypatch.chdir(tmp_path)
    rows = acts(60)
    lines = "".join(f"{user},{item},8,{ts:.0f}\n" for ts, user, item in rows)
    Path("ratings.csv").write_text("user_id,item_id,rating,timestamp\n" + lines)
    Path("films.csv").write_text("item_id,title,genres\n" + "".join(f"i{n},Film {n},Drama|War\n" for n in range(20)))
    clicks = [
        {"user": user, "item": item, "action": "like", "ts": ts, "device": "phone" if n % 2 else None}
        for n, (ts, user, item) in enumerate(rows)
    ]
    Path("clicks.ndjson").write_text("\n".join(map(json.dumps, clicks)))
    Path("shop.toml").write_text(CONFIG.replace("k = 3", 'k = 3\nsegments = ["device"]'))
    for command in commands:
        run(*command)
    assert Path("days.png").read_bytes()[:4] == b"\x89PNG"
    assert found_in(Path("found.json"))["contenders"]["shop"]["events"] > 0
