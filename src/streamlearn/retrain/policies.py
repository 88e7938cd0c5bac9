"""The policies by name, and one of one's own by its import path: settings → a policy.

An error names what is wrong and what to write instead: it is read by whoever writes the configuration.
"""

from __future__ import annotations

import difflib
from typing import Any, Final

from pydantic import ValidationError

from streamlearn.config_errors import ConfigErrors, explain
from streamlearn.config_retrain import PolicySettings, RetrainSettings
from streamlearn.errors import ConfigError, ModelError
from streamlearn.importpath import call, find

from .builtin import Builtin
from .cara import CaraCT, CaraP, CaraT
from .cron import Cron
from .debt import Debt
from .plain import Always, Floor, Labels, Never, Periodic
from .policy import Past, Policy, Tunable
from .upf import Upf, fitted

POLICIES: Final[dict[str, type[Builtin]]] = {
    kind.name: kind for kind in (Debt, Cron, Floor, Labels, Never, Always, Periodic, CaraT, CaraCT, CaraP, Upf)
}
_MEMBERS: Final[dict[str, type]] = {"name": str, "gated": bool, "evidence": bool, "sample": int}


def build(settings: PolicySettings, key: str = "retrain.policies") -> Policy:
    """The policy that `settings` describes; `key` is where they stand, for messages.

    Raises ConfigErrors, which holds all that is wrong.
    """
    if ":" in settings.name:
        return _import(settings, key)
    kind = POLICIES.get(settings.name)
    if kind is None:
        close = difflib.get_close_matches(settings.name, POLICIES, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"Write one of {', '.join(POLICIES)}."
        raise ConfigErrors(
            [ConfigError(f"{key}.name", f"there is no policy {settings.name!r}", f"{hint} One's own is package.module:Class")]
        )
    try:
        made = kind.model_validate(settings.params)
    except ValidationError as error:
        raise ConfigErrors(
            [
                ConfigError(_below(key, one.key), one.problem, _with_params(one, kind))
                for one in explain(error, settings.params, kind)
            ]
        ) from None
    assert isinstance(made, Policy)
    return made


def policies_of(retrain: RetrainSettings, key: str = "retrain") -> list[Policy]:
    """All policies of a model, whose table of retrain settings stands at `key`. Raises ConfigErrors, which holds all that is
    wrong."""
    found, wrong = [], []
    for place, settings in enumerate(retrain.policies):
        try:
            policy = build(settings, f"{key}.policies[{place}]")
        except ConfigErrors as error:
            wrong += error.errors
            continue
        if policy.sample > retrain.sample:
            problem = f"{policy.name} looks at the features of {policy.sample} events a batch, and is told {retrain.sample}"
            wrong.append(ConfigError(f"{key}.sample", problem, f"Write sample = {policy.sample}"))
        found.append(policy)
    if wrong:
        raise ConfigErrors(wrong)
    return found


def tuned(name: str, past: Past, kappa: float) -> Policy | None:
    """The policy of that name with the params that would have cost least on `past`; None when it has none to be found.

    Raises ModelError when it cannot be tuned on that past.
    """
    if name == Upf.name:
        return fitted(past, kappa)
    start: dict[str, Tunable] = {kind.name: kind for kind in (Periodic(every=1), CaraT(), CaraCT(), CaraP(phi=1))}
    return start[name].tuned(past, kappa) if name in start else None


def _below(key: str, name: str) -> str:
    return f"{key}.params" if name == "(file)" else f"{key}.params.{name.removeprefix('(file).')}"


def _with_params(error: ConfigError, kind: type[Builtin]) -> str:
    if error.problem != "there is no such setting" or error.fix != "Remove it":
        return error.fix
    return f"Use some of {', '.join(kind.model_fields)}" if kind.model_fields else f"Remove it: {kind.name} takes none"


def _import(settings: PolicySettings, key: str) -> Policy:
    path = settings.name
    try:
        kind = find(path, "class")
        if not callable(kind):
            raise ModelError(f"{path} is a {type(kind).__name__}, not a class; name the class of a policy")
        made = call(path, kind, settings.params)
    except ModelError as error:
        problem, _, fix = str(error).partition("; ")
        raise ConfigErrors([ConfigError(f"{key}.name", problem, fix[:1].upper() + fix[1:] or "Mend it")]) from error
    wrong = lacks(made)
    if wrong:
        what = f"the class {made.__name__}" if isinstance(made, type) else f"a {type(made).__name__}"
        raise ConfigErrors(
            [
                ConfigError(
                    f"{key}.name", f"{path} gives {what}, which is no policy: {', '.join(wrong)}",
                    "See streamlearn.retrain.policy.Policy",
                )
            ]
        )  # fmt: skip
    return made  # type: ignore[no-any-return]  # as seen above


def lacks(made: Any) -> list[str]:
    """What keeps an object from being a policy, in words."""
    if isinstance(made, type):
        return ["it is not an instance"]
    wrong = []
    for name, kind in _MEMBERS.items():
        value = getattr(made, name, None)
        if value is None:
            wrong.append(f"it lacks `{name}` ({kind.__name__})")
        elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            wrong.append(f"its `{name}` is {value!r}, not {'an' if kind is int else 'a'} {kind.__name__}")
    return wrong + [f"it lacks `{name}()`" for name in ("decide", "params") if not callable(getattr(made, name, None))]
