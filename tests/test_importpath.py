"""What an import path names, and what is said when it names nothing that can be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamlearn.errors import ModelError
from streamlearn.importpath import call, find


def test_a_path_names_what_is_installed() -> None:
    assert find("json:dumps", "function") is json.dumps
    assert find("json.decoder:JSONDecoder.decode", "function") is json.JSONDecoder.decode
    assert find("json:__name__", "function") == "json"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("json", "'json' is not an import path; write package.module:function"),
        (":dumps", "':dumps' is not an import path; write package.module:function"),
        ("jsn:dumps", "jsn:dumps: there is no module 'jsn'; install it, or put its folder on PYTHONPATH"),
        ("json:dump5", "json:dump5: json has no 'dump5'; did you mean 'dump"),
        ("json:xyzzy", "json:xyzzy: json has no 'xyzzy'; define it in json"),
    ],
)
def test_an_error_says_what_to_write(path: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        find(path, "function")
    assert str(caught.value).startswith(words)


def test_a_module_that_raises_is_told_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "importpath_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="importing importpath_broken raised ZeroDivisionError: division by zero"):
        find("importpath_broken:f", "function")


def test_a_call_that_does_not_fit_shows_the_signature() -> None:
    def f(a: int, b: int = 2) -> int:
        return a // b

    assert call("m:f", f, {"a": 6}) == 3
    with pytest.raises(ModelError, match=r"^m:f: missing a required argument: 'a'; it is f\(a"):
        call("m:f", f, {"b": 1})
    with pytest.raises(ModelError, match=r"^m:f raised ZeroDivisionError"):
        call("m:f", f, {"a": 1, "b": 0})
    with pytest.raises(ModelError, match=r"^m:f raised TypeError"):
        call("m:f", type, {"a": 1})  # has no signature
