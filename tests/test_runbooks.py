"""Every alert has a page, each page has the same parts, and the commands on it exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from streamlearn.cli.main import app

COMMAND: Any = typer.main.get_command(app)
ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "runbooks"
GROUPS = yaml.safe_load((ROOT / "docker" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
PARTS = [
    "What it means", "What users notice", "First five minutes", "Likely causes", "How to mend it",
    "How to know that it is over",
]  # fmt: skip
OPERATIONS = ROOT / "docs" / "operations.md"
TEXTS = [*sorted(PAGES.glob("*.md")), OPERATIONS]
OURS = re.compile(r"(?m)(?:^|`)(streamlearn [a-z][^`\n#|]*)")
HELD = {"URL": "http://127.0.0.1:1", "MODEL": "m", "TEXT": "why", "ID": "7", "REASON": "late", "OLD": "1", "NEW": "2"}


def commands(text: str) -> list[str]:
    """What a page has people type of ours, in its blocks and in its sentences."""
    return [found.strip() for found in OURS.findall(text)]


def parse(command: str) -> None:
    """Have the program read a command line without running it. Raises an error whose words begin with No such, or Missing."""
    words = [HELD.get(word, word) for word in shlex.split(command.replace('"$STREAMLEARN_URL"', "http://127.0.0.1:1"))][1:]
    context = COMMAND.make_context("streamlearn", words)
    while hasattr(context.command, "resolve_command"):
        name, inner, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        if not rest and not hasattr(inner, "resolve_command"):
            return  # it is spoken of, not to be typed
        context = inner.make_context(name, rest, parent=context)


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_a_page_has_every_part_and_the_severity_of_its_alert(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"(?m)^## (.+)$", text) == PARTS
    assert f"Severity: {ALERTS[name]['labels']['severity']}." in text
    for part in PARTS:
        body = text.partition(f"## {part}\n")[2].partition("\n## ")[0]
        assert len(body.split()) >= 5, part
    block = re.search(r"(?s)## First five minutes\n\n```sh\n(.+?)```", text)
    assert block is not None
    assert commands(block[1])


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_every_command_on_a_page_is_one_that_the_program_takes(page: Path) -> None:
    for command in commands(page.read_text(encoding="utf-8")):
        parse(command)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_every_link_leads_somewhere_and_every_metric_is_told(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    told = ("src/streamlearn/telemetry.py", "src/streamlearn/serving/figures.py", "docker/alerts.yml")
    sources = "".join((ROOT / path).read_text(encoding="utf-8") for path in told)
    for name in re.findall(r"streamlearn_(\w+?)(?:_bucket|_sum|_count)?(?=[\W]|$)", text):
        assert re.search(rf'"(streamlearn_)?{name}"|streamlearn_{name}\b', sources), name


@pytest.mark.parametrize(
    "wrong",
    ["streamlearn nonsense", "streamlearn status --nonsense", "streamlearn retrain --wait", "streamlearn models nonsense"],
)
def test_a_command_that_does_not_exist_is_seen(wrong: str) -> None:
    with pytest.raises(Exception, match=r"^(No such|Missing)"):
        parse(wrong)
