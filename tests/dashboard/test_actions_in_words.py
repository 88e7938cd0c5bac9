"""What a person may do to a model, in each state that it can be in: lib/acting.js and lib/actions.js, in a browser, without a
service. What control makes of a request: tests/control/test_control_requests.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

import pytest

HOME: Final = "http://dashboard.test/"
FOLDER: Final = files("streamlearn.serving") / "dashboard"
SCOPES: Final = ["write", "predict", "read", "operate"]
ALL: Final = {"retrain", "cancel", "promote", "rollback", "hold", "resume", "silence"}
CONTROL: Final[dict[str, Any]] = {
    "state": "steady", "version": 2, "previous": 1, "shadow": None, "canary": None, "case": "", "held": None, "kept": "",
    "fitted": [2], "features": {"broken": None}, "silenced_until": None,
}  # fmt: skip
MAY: Final[list[tuple[str, dict[str, Any], set[str]]]] = [
    ("nothing is under way", {}, {"retrain", "promote", "rollback", "hold", "silence"}),
    ("the first version", {"previous": None}, {"retrain", "promote", "hold", "silence"}),
    ("an alarm", {"state": "case", "case": "m-3"}, {"rollback", "hold", "silence"}),
    ("a confirmed drift", {"state": "confirmed", "case": "m-3"}, {"cancel", "rollback", "hold", "silence"}),
    (
        "a drift that the policies do not answer", {"state": "confirmed", "case": "m-3", "kept": "too dear"},
        {"retrain", "cancel", "rollback", "hold", "silence"},
    ),
    ("a retrain", {"state": "retraining", "case": "m-3"}, {"cancel", "rollback", "hold", "silence"}),
    ("a trial", {"state": "trial", "case": "m-3", "shadow": 3}, {"cancel", "promote", "hold", "silence"}),
    (
        "a canary", {"state": "canary", "case": "m-3", "shadow": 3, "canary": {"version": 3, "share": 0.1}},
        {"cancel", "promote", "hold", "silence"},
    ),
    ("a promotion that is watched", {"state": "watch", "case": "m-3", "shadow": 1}, {"rollback", "hold", "silence"}),
    ("the old champion in the shadow", {"state": "watch", "shadow": 1}, {"retrain", "promote", "rollback", "hold", "silence"}),
    ("a case that is being closed", {"state": "closing", "case": "m-3"}, {"hold", "silence"}),
    ("a rollback", {"state": "rolling_back", "case": "m-3"}, {"hold", "silence"}),
    ("held", {"state": "held", "held": "by me"}, {"retrain", "promote", "rollback", "resume", "silence"}),
    (
        "held for broken input", {"state": "held", "held": "null jump", "features": {"broken": {"kind": "null_jump"}}},
        {"retrain", "promote", "rollback", "hold", "resume", "silence"},
    ),
]  # fmt: skip
MAKE: Final = """async ([model, scopes]) => {
  const { actionBar } = await import("/dashboard/lib/actions.js");
  const bar = actionBar(model, { scopes });
  document.body.replaceChildren(bar);
  window.bar = bar;
}"""
TYPES: Final = {"js": "text/javascript", "css": "text/css"}


class Stage:
    """An empty page in which the buttons are made; `posted` and `decisions` stand for the service."""

    def __init__(self, page: Any) -> None:
        self.page, self.posted, self.decisions = page, list[tuple[str, dict[str, Any]]](), list[dict[str, Any]]()
        self.refusal: dict[str, Any] | None = None
        page.route(f"{HOME}**", self._answer)
        page.goto(HOME)

    def _answer(self, route: Any) -> None:
        path = route.request.url.removeprefix(HOME).split("?")[0]
        if path.startswith("dashboard/"):
            body = FOLDER.joinpath(path.removeprefix("dashboard/")).read_bytes()
            route.fulfill(body=body, content_type=TYPES[path.rpartition(".")[2]])
        elif route.request.method == "POST":
            self.posted.append((path, route.request.post_data_json))
            if self.refusal is not None:
                route.fulfill(status=self.refusal["status"], json=self.refusal)
            else:
                asked = {"request": "r", "model": "m", "action": "x", "by": "me", "at": 1.0, "offset": 40}
                route.fulfill(status=202, json=asked)
        elif path == "v1/audit":
            route.fulfill(json={"items": self.decisions, "next": None, "total": None})
        elif path == "v1/models/m/versions":
            kept = {"model": "m", "fate": "lost", "learned": 500, "created": 1.0, "kept": True}
            route.fulfill(json={"items": [kept | {"version": 1, "kept": False}, kept | {"version": 2}, kept | {"version": 4}]})
        elif path == "v1/live":
            route.fulfill(body=": here\n\n", content_type="text/event-stream")
        else:
            route.fulfill(body="<!doctype html><title>stage</title><body></body>", content_type="text/html")

    def show(self, scopes: list[str] | None = None, **control: Any) -> None:
        model = {"name": "m", "version": 2, "control": CONTROL | control}
        self.page.evaluate(MAKE, [model, SCOPES if scopes is None else scopes])

    def button(self, name: str) -> Any:
        return self.page.get_by_test_id(f"action-{name}")

    def outcome(self) -> str:
        return str(self.page.get_by_test_id("action-outcome").inner_text())


@pytest.fixture
def stage(browser: Any) -> Iterator[Stage]:
    context = browser.new_context()
    yield Stage(context.new_page())
    context.close()


@pytest.mark.parametrize(("control", "may"), [case[1:] for case in MAY], ids=[case[0] for case in MAY])
def test_only_what_makes_sense_can_be_asked_for_and_the_rest_says_why(
    stage: Stage, control: dict[str, Any], may: set[str]
) -> None:
    stage.show(**control)
    off = {name for name in ALL if stage.button(name).get_attribute("aria-disabled") == "true"}
    assert ALL - off == may
    for name in off:
        why = stage.button(name).get_attribute("title")
        assert why
        stage.button(name).click(force=True)
        assert stage.page.locator("dialog").count() == 0
        assert stage.page.locator(".action-reason").inner_text().endswith(why)


@pytest.mark.parametrize(
    ("name", "control", "says"),
    [
        ("retrain", {}, ["version 2"]),
        ("cancel", {"state": "canary", "case": "m-3", "shadow": 3, "canary": {"share": 0.1}}, ["version 3", "10 %", "m-3"]),
        ("promote", {"state": "trial", "case": "m-3", "shadow": 3}, ["version 3", "all traffic", "version 2"]),
        ("rollback", {}, ["Version 1 answers all traffic again", "version 2"]),
        ("hold", {}, ["Version 2", "learns nothing"]),
        ("resume", {"state": "held", "held": "the sensor is off"}, ["Version 2 learns again", "the sensor is off"]),
        ("silence", {}, ["Nobody is notified"]),
    ],
)
def test_a_dialog_says_what_it_will_do_to_this_model_and_begins_at_cancel(
    stage: Stage, name: str, control: dict[str, Any], says: list[str]
) -> None:
    stage.show(**control)
    stage.button(name).click()
    text = stage.page.locator("#action-says").inner_text()
    assert [part for part in says if part not in text] == []
    assert stage.page.evaluate("document.activeElement.textContent") == "Cancel"
    stage.page.keyboard.press("Escape")
    stage.page.locator("dialog").wait_for(state="detached")
    assert stage.page.evaluate("document.activeElement.dataset.testid") == f"action-{name}"
    assert stage.posted == []


@pytest.mark.parametrize(
    ("name", "control", "choose", "body"),
    [
        ("retrain", {}, None, {}),
        ("cancel", {"state": "retraining", "case": "m-3"}, None, {}),
        ("promote", {"state": "trial", "case": "m-3", "shadow": 3}, None, {"version": 3}),
        ("promote", {"fitted": [2, 4]}, None, {"version": 4}),
        ("rollback", {}, None, {"version": 1}),
        ("hold", {}, None, {}),
        ("resume", {"state": "held", "held": "x"}, "mode=learn", {"mode": "learn"}),
        ("silence", {}, "for=28800", {"for_s": 28800}),
        ("silence", {"silenced_until": 9e9}, "for=0", {"for_s": 0}),
    ],
)
def test_what_is_confirmed_is_sent_once_with_its_reason(
    stage: Stage, name: str, control: dict[str, Any], choose: str | None, body: dict[str, Any]
) -> None:
    stage.show(**control)
    stage.button(name).click()
    if choose is not None:
        field, _, value = choose.partition("=")
        if field == "mode":
            stage.page.locator(f"input[value={value}]").check()
        else:
            stage.page.get_by_test_id("action-for").select_option(value)
    stage.page.get_by_test_id("action-reason").fill("since <b>I</b> say so")
    stage.page.locator("[data-testid=action-confirm]:enabled").click()
    stage.page.locator("dialog").wait_for(state="detached")
    assert stage.posted == [(f"v1/models/m/{name}", {"reason": "since <b>I</b> say so", **body})]
    assert "Control will see it" in stage.outcome()


@pytest.mark.parametrize(
    ("kind", "why", "state"), [("request_refused", "<i>busy</i>", "refused"), ("held", "held, asked for by me", "done")]
)
def test_controls_answer_is_told_when_it_comes(stage: Stage, kind: str, why: str, state: str) -> None:
    stage.decisions.append(
        {"type": "decision", "kind": kind, "why": why, "numbers": {"request": 40}, "model": "m", "case": "m-4", "control": 41}
    )
    stage.show()
    stage.button("hold").click()
    stage.page.get_by_test_id("action-confirm").click()
    stage.page.locator(f"[data-testid=action-outcome][data-state={state}]").wait_for()
    assert why in stage.outcome()
    links = stage.page.get_by_test_id("action-outcome").locator("a")
    hrefs = links.evaluate_all("all => all.map((a) => a.getAttribute('href'))")
    assert hrefs == ["#/case/m-4", "#/audit?model=m&open=41"]


def test_what_the_service_refuses_stays_in_the_dialog_to_be_mended(stage: Stage) -> None:
    stage.refusal = {"status": 429, "title": "Too many requests", "detail": "wait 2 s"}
    stage.show()
    stage.button("hold").click()
    stage.page.get_by_test_id("action-reason").fill("kept")
    stage.page.get_by_test_id("action-confirm").click()
    error = stage.page.locator("dialog .error")
    error.filter(has_text="wait 2 s").wait_for()
    assert stage.page.get_by_test_id("action-reason").input_value() == "kept"
    stage.refusal = None
    stage.page.get_by_test_id("action-confirm").click()
    stage.page.locator("dialog").wait_for(state="detached")
    assert len(stage.posted) == 2


def test_no_version_is_promoted_where_none_is_kept(stage: Stage) -> None:
    stage.show(fitted=[])
    stage.button("promote").click()
    stage.page.get_by_text("No other fitted version is kept").wait_for()
    assert stage.page.get_by_test_id("action-confirm").is_disabled()


def test_without_the_scope_nothing_is_offered_but_what_is_needed_is_named(stage: Stage) -> None:
    stage.show(scopes=["read"])
    assert stage.page.locator("button").count() == 0
    assert "operate" in stage.page.get_by_test_id("actions").inner_text()


def test_the_buttons_follow_the_model(stage: Stage) -> None:
    stage.show()
    held = CONTROL | {"state": "held", "held": "x"}
    stage.page.evaluate("(control) => bar.update({ name: 'm', version: 2, control })", held)
    assert stage.button("resume").get_attribute("aria-disabled") is None
    assert stage.button("hold").get_attribute("aria-disabled") == "true"
