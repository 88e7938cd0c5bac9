"""What `policy-bench` tells: the table, the policy that it recommends as TOML to paste, the results for programs, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..config_retrain import CostSettings, PolicySettings
from .benches import Source, as_table
from .console import console, counted, say, table

if TYPE_CHECKING:
    from ..retrain.ledger import Ledger
    from .policy_replay import Compared, Result

TIE: Final = 0.03  # policies whose cost is within this share of the least are alike
COLORS: Final = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C8", "C9")  # C7 is grey
MARKERS: Final = "os^Dv<>PX*"
PLAIN: Final = {"never": "black", "always": "0.55"}  # colours of what all is to be compared with
FEW: Final = 3  # retrains, below which the order may be luck

# Of policies that cost alike, the one to take: first what a person need not tune, then what is easily said.
SIMPLEST: Final = ("debt", "never", "periodic", "labels", "cron", "always", "floor", "cara_p", "cara_t", "cara_ct", "upf")


class Report(NamedTuple):
    """What was measured: what it is from, what the configuration says of costs, the ledger, the batches on which was tuned, the
    titles of the configured policies, and all policies at each cost of a retrain, lowest first."""

    model: str
    source: Source
    cost: CostSettings
    ledger: Ledger
    stretch: int
    configured: Sequence[str]
    compared: Sequence[Compared]

    @property
    def here(self) -> Compared:
        """At the configured cost."""
        return next(one for one in self.compared if one.kappa == self.cost.kappa)


class Advice(NamedTuple):
    """The policy to take, the one that cost least, and those that cost within a few percent of that."""

    chosen: Result
    least: Result
    alike: list[Result]


def recommended(compared: Compared) -> Advice:
    """Of the policies that cost within 3 % of the least the simplest."""
    asked = [one for one in compared.results if one.policies]
    least = min(asked, key=lambda one: one.cost)
    alike = [one for one in asked if one.cost <= (1 + TIE) * least.cost]
    return Advice(min(alike, key=_simplicity), least, alike)


def _simplicity(result: Result) -> tuple[int, int, float]:
    """One policy before several, and these by the least simple of them."""

    def place(one: PolicySettings) -> int:
        if one.name == "debt" and one.params:  # one that differs from the default has to be explained
            return SIMPLEST.index("floor")
        return SIMPLEST.index(one.name) if one.name in SIMPLEST else len(SIMPLEST)

    return max(map(place, result.policies)), len(result.policies), result.cost


def show(report: Report) -> None:
    """The table, and what follows from it."""
    ledger, here = report.ledger, report.here
    batches, size = ledger.batches, round(float(ledger.past.n.mean()))
    rest = sum(ledger.past.n[report.stretch :])
    say(f"Read: {report.source}")
    goes_on = "goes on learning" if ledger.learns else "does not learn (--frozen)"
    say(
        f"{report.model}: {counted(ledger.cuts[-1], 'labelled event')} in {batches} batches of {size:,}; a retrain learns "
        f"{counted(ledger.window, 'batch').replace('batchs', 'batches')}, and then serves and {goes_on}"
    )
    say(f"Tuned on the first {report.stretch} batches, costed on the other {batches - report.stretch} ({rest:,.0f} events)")
    made = table("policy", *(f">κ {kappa(one.kappa)}{' *' if one is here else ''}" for one in report.compared))
    for title in [one.name for one in here.results] + sorted(
        {one.name for each in report.compared for one in each.results} - {one.name for one in here.results}
    ):
        label = f"{title} (configured)" if title in report.configured else title
        made.add_row(label, *(_cell(one, title) for one in report.compared))
    console().print(made)
    say(
        "Cost over the oracle's, and retrains in brackets. κ: what a retrain costs in lost events; * as configured"
        f" ({report.cost.retrain:g} / {report.cost.loss:g} {report.cost.unit}). Cost: events lost, plus κ a retrain. The oracle"
        " knows what will come, so nobody reaches it, also where nothing drifts. Every new model serves at once; in service it"
        " must win a trial."
    )
    for title, why in here.missing.items():
        say(f"Without {title}: {why}")
    _advise(report)


def kappa(value: float) -> str:
    """A κ as the table shows it."""
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _cell(compared: Compared, title: str) -> str:
    result = compared.named(title)
    return "–" if result is None else f"{compared.over(result):.3f} ({len(result.retrains)})"


def _advise(report: Report) -> None:
    here = report.here
    advice = recommended(here)
    chosen, least = advice.chosen, advice.least
    say(f"Recommended at κ = {kappa(here.kappa)}: {chosen.name}")
    say(f"{_costs(report, chosen)}; {here.over(chosen):.3f} times the oracle's")
    for name in ("never", "always", "periodic"):
        other = here.named(name)
        if other is not None and other is not chosen:
            say(f"{'periodic, tuned' if name == 'periodic' else name}: {_costs(report, other)}; {_against(other, chosen)}")
    if len(advice.alike) > 1:
        names = ", ".join(one.name for one in advice.alike if one is not chosen)
        say(f"Within {TIE:.0%} of the least cost, so not told apart by one stream: also {names}. The simplest was taken")
        if least is not chosen:
            say(f"The least was {_against(least, chosen)}: {least.name}")
    never = here.named("never")
    if never is not None and never in advice.alike:
        say("Never retraining cost no more: on this stretch there was nothing to be won by a retrain at this price")
    elif 0 < len(chosen.retrains) < FEW:
        say(f"It rests on {counted(len(chosen.retrains), 'retrain')} only: one more drift may turn the order")
    say("To take it, in the place of the model's present policies:")
    say("\n" + as_toml(report.model, chosen.policies))


def _costs(report: Report, result: Result) -> str:
    retrains = counted(len(result.retrains), "retrain")
    total = result.cost * report.cost.loss
    return f"{total:,.0f} {report.cost.unit} ({result.lost:,.0f} events lost, {retrains})"


def _against(other: Result, chosen: Result) -> str:
    if chosen.cost <= 0:
        return "nothing was lost"
    share = other.cost / chosen.cost - 1
    return f"{abs(share):.1%} {'more' if share >= 0 else 'less'}"


def as_toml(model: str, policies: Sequence[PolicySettings]) -> str:
    """The policies as a configuration holds them."""
    listed = [policy.model_dump(exclude_defaults=True) for policy in policies]
    return "\n".join(as_table(f"models.{model}.retrain", {"policies": listed}))


def as_json(report: Report) -> dict[str, Any]:
    """The report for programs."""
    ledger = report.ledger
    return {
        "model": report.model,
        "source": report.source.as_json(),
        "labelled": ledger.cuts[-1],
        "batches": ledger.batches,
        "window": ledger.window,
        "learns": ledger.learns,
        "tuned_on": report.stretch,
        "kappa": report.cost.kappa,
        "recommended": recommended(report.here).chosen.name,
        "costs": [
            {
                "kappa": one.kappa,
                "missing": one.missing,
                "policies": [
                    {
                        "name": result.name,
                        "configured": result.name in report.configured,
                        "policies": [policy.model_dump(mode="json") for policy in result.policies],
                        "cost": result.cost,
                        "over_oracle": one.over(result),
                        "lost": result.lost,
                        "retrains": result.retrains,
                    }
                    for result in one.results
                ],
            }
            for one in report.compared
        ],
    }


def draw(report: Report, path: Path) -> None:
    """By how much each policy costs more than the oracle, against κ; the dashed line is the configured κ."""
    import matplotlib.figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    shown = [one for one in report.compared if one.kappa > 0]
    here = report.here
    chosen = recommended(here).chosen.name
    names = [one.name for one in here.results if one is not here.oracle]
    figure = matplotlib.figure.Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    others = [name for name in names if name not in PLAIN]
    colors = PLAIN | {name: COLORS[place % len(COLORS)] for place, name in enumerate(others)}
    most = 0.0
    for index, name in enumerate(names):
        points = [(one.kappa, 100 * (one.over(result) - 1)) for one in shown if (result := one.named(name)) is not None]
        most = max([most, *(y for _, y in points)])
        axes.plot(
            [x for x, _ in points], [y for _, y in points], color=colors[name],
            marker=MARKERS[(index + index // len(MARKERS)) % len(MARKERS)], markersize=5,
            linestyle="-" if name == chosen or index % 2 == 0 else (0, (4, 3)), linewidth=3 if name == chosen else 1.5,
            zorder=4 if name == chosen else 3, label=f"{name}{' (recommended)' if name == chosen else ''}",
        )  # fmt: skip
    if here.kappa > 0:
        axes.axvline(here.kappa, color="0.4", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=5, linscale=1)
    axes.set_ylim(-1, max(10.0, 1.3 * most))
    axes.xaxis.set_major_locator(FixedLocator([one.kappa for one in shown]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: kappa(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    ticks = [0, 1, 2, 5, *(digit * 10**power for power in range(1, 8) for digit in (1, 2, 5))]
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick <= max(10.0, 1.3 * most)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:+,.0f} %" if value else "oracle"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_xlabel("κ: what a retrain costs, in lost events  (dotted: as configured)")
    axes.set_ylabel("cost above the oracle's")
    axes.set_title(f"{report.model}: what each retrain policy costs")
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path)
