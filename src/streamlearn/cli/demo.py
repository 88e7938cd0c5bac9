"""`streamlearn demo`: the whole service on real flights, with a drift that is injected half way and announced.

It starts the roles, sends the flights through the public HTTP API, shows what becomes of them, and at the end holds what it
posted against what the learner knows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
import typer
from rich.live import Live

from ..errors import ConfigError, StreamlearnError
from .console import console, say, warn
from .demo_data import Schedule, read_schedule
from .demo_report import Report, summary
from .demo_run import Run
from .demo_service import CONFIG, LOGS, MODEL, Service, elsewhere, service
from .demo_shop import CONFIG as SHOP
from .demo_shop import LIKES, Shop
from .demo_shop import MOST as MOST_LIKES
from .demo_view import TITLE, Lines, Snapshot, picture
from .lifetime import Lifetime

FLIGHTS: Final = 32_000
MOST: Final = 60_000
SHOTS_A_SECOND: Final = 4.0
T = TypeVar("T")
EXAMPLE: Final = {
    "Month": 4, "DayofMonth": 1, "DayOfWeek": 5, "UniqueCarrier": "WN", "Origin": "HOU", "Dest": "LAX", "Distance": 1390
}  # fmt: skip


def demo(
    context: typer.Context,
    recommend: Annotated[
        bool, typer.Option("--recommend", help="Another demo: a shop of films, whose recommendations follow each click.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running at the end, until Ctrl-C.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the summary there, as JSON.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The API's port; 0 takes a free one.")] = 0,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Keep the data in this empty folder. Default: a temporary one, gone at the end.", show_default=False),
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Keep the log on this Kafka cluster, in new topics.", show_default=False),
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="Keep the store on this Redis, under new keys.", show_default=False)
    ] = None,
    flights: Annotated[
        int, typer.Option(min=1000, max=MOST, help="Flights to send; with far fewer, the story does not come to its end.")
    ] = FLIGHTS,
    likes: Annotated[
        int, typer.Option(min=100, max=MOST_LIKES, help="With --recommend: likes to learn before the shop opens.")
    ] = LIKES,
) -> None:
    """Watch the service learn from real flights, notice a drift and replace its model. Takes about a minute.

    The data are flights out of Houston in 2011 (CC0, shipped). At each departure the model predicts whether the flight will
    land at least 15 minutes late; the label comes as an event of its own when it lands. Cancelled flights are left out,
    diverted ones never get a label.

    THE DRIFT IS INJECTED. The labels of the first half are what happened. From the flight in the middle on they follow a rule
    of the demo's own: flights over 500 miles land late, the others on time, but for 10 % of them. The service is not told.
    Watch it: alarm, case, confirmation on fresh labels, retrain from the change point, trial against the model in
    service, promotion, recovery. Alarms before that are real, waves of bad weather, and the confirmation dismisses them.

    At the end every event posted is looked up in the learner's own last checkpoint. Exits 1 when one was lost or learned twice.

    With --recommend it is about films instead: the service learns what real people liked in 2013 (MovieTweetings, MIT,
    shipped), then opens a small shop to try in a browser, and goes on until Ctrl-C.
    """
    _check_options(context, recommend)
    started, origin = time.monotonic(), time.time()
    if json is not None and not json.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {json.parent}", param_hint="--json")
    life = Lifetime()
    life.catch_signals()
    servers = elsewhere(kafka, redis)
    if recommend:
        with _folder(data_dir, keep) as folder, service(folder, port, os.environ, life, servers, SHOP) as running:
            opened = _told(running, Shop(running, likes).play)
        if keep or data_dir is not None:
            _tell_folder(folder, SHOP)
        raise typer.Exit(0 if opened else 130)
    with _folder(data_dir, keep) as folder, service(folder, port, os.environ, life, servers) as running:
        schedule = read_schedule(flights)
        _tell_start(schedule)
        report = _told(running, lambda: _play(running, schedule, started, origin, keep))
        if report is None:
            say("interrupted")
            raise typer.Exit(130)
        if json is not None:
            json.write_bytes(msgspec.json.format(msgspec.json.encode(report.document())) + b"\n")
        console().print(summary(report))
        _tell_end(report, running.restarts())
        if keep:
            _tell_kept(running)
            while not life.stop.wait(1.0) and not running.ended.is_set():
                pass
        if keep or data_dir is not None:
            _tell_folder(folder, CONFIG)
    raise typer.Exit(0 if report.sound else 1)


def _check_options(context: typer.Context, recommend: bool) -> None:
    """Refuse an option of the other demo."""
    of_flights = {"json": "--json", "flights": "--flights"}
    for name, option in of_flights.items() if recommend else (("likes", "--likes"),):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            problem = "is of the flights: leave it out with --recommend" if recommend else "is of the shop: add --recommend"
            raise typer.BadParameter(problem, param_hint=option)


def _told(running: Service, work: Callable[[], T]) -> T:
    """What `work` gives; when it fails, after the last words of the roles."""
    try:
        return work()
    except StreamlearnError:
        for text in running.last_words():
            warn(text)
        raise


def _play(running: Service, schedule: Schedule, started: float, origin: float, keep: bool) -> Report | None:
    """The run itself, shown while it goes on; None when it was interrupted."""
    with _display() as show:
        run = Run(running, schedule, started, origin, show)
        if not (run.until_posted() and run.until_learned()):
            return None
        outcome = run.outcome_kept() if keep else run.outcome_ended()
    return None if outcome is None else run.report(outcome, time.monotonic() - started)


@contextmanager
def _display() -> Iterator[Callable[[Snapshot], None]]:
    """A live picture on a terminal, plain lines elsewhere."""
    screen = console()
    if not screen.is_terminal:
        yield Lines(say).show
        return
    with Live(console=screen, refresh_per_second=SHOTS_A_SECOND, transient=False) as live:
        yield lambda now: live.update(picture(now))


@contextmanager
def _folder(data_dir: Path | None, keep: bool) -> Iterator[Path]:
    """Where the demo's files go; a temporary folder is removed at the end, unless the service was to be kept."""
    if data_dir is not None:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"{data_dir} cannot be made ({error.strerror})"
            raise ConfigError("--data-dir", problem, "Name a folder that can be written") from None
        yield data_dir.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="streamlearn-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _tell_start(schedule: Schedule) -> None:
    say(TITLE)
    say(
        f"{len(schedule.flights):,} flights out of Houston, 2011; {schedule.cancelled:,} cancelled ones are left out, "
        f"{schedule.diverted:,} diverted ones never get a label"
    )
    say(f"The drift, from flight {len(schedule.flights) // 2:,} on, is injected: see streamlearn demo --help")


def _tell_folder(folder: Path, config: str) -> None:
    say(f"The data stay in {folder}; to go on with them: streamlearn serve {folder / config}")


def _tell_end(report: Report, restarts: int) -> None:
    say()
    if restarts:
        say(f"Roles died and were started again {restarts} times; the table counts what came of it.")
    if not report.sound:
        lost, twice = report.events.lost, report.events.duplicated
        warn(f"{lost} events were lost and {twice} learned twice: that must not be, please report it")
    if not report.told:
        say("The story did not come to its end: too few flights, or too slow a machine. The table says how far it came.")
    say("Where to look next:")
    say("  streamlearn demo --keep               leaves the service up, and says how to ask it by curl")
    say("  streamlearn demo --data-dir FOLDER    keeps log, store and configuration; then streamlearn verify replays the log")
    say("  README.md, docs/design.md             how it works, what it guarantees, and the limits of that")


def _tell_kept(running: Service) -> None:
    url, question, json = running.url, msgspec.json.encode({"x": EXAMPLE}).decode(), "-H 'Content-Type: application/json'"
    say()
    say(f"The service is up at {url} (the dashboard; all that it answers: {url}/api); Ctrl-C ends it. In another terminal:")
    say(f"  streamlearn status --url {url}")
    say(f"  curl -s {url}/v1/predict/{MODEL} {json} -d '{question}'")
    say(f"  curl -s {url}/v1/cases?model={MODEL}")
    say(f"  curl -s {url}/v1/models/{MODEL}")
    say(f"  curl -s {url}/v1/models/{MODEL}/rollback {json} -d '{{\"reason\": \"to see it happen\"}}'")
    say(f"The roles' logs: {running.folder / LOGS}")
