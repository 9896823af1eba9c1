"What the tests of the flights share: deliveries of real lines, an airport that is filled once, models that are trained once, and runs of the bundle."

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from support.environment import clean_environment

from boathouse.registry.promotions import register
from boathouse.tables.table import Lakehouse
from flights import training
from flights.bronze import bronze, end_of
from flights.features import feature_versions, synthetic_lake
from flights.gold import gold
from flights.replay import WEATHER_COLUMNS, events, flight_times, read_text, replay, zones_of_airports
from flights.silver import silver
from flights.tables import FLIGHT_EVENT_COLUMNS
from flights.training import DEFAULTS, TrainedVersion, TrainingRequest, TrainingRows, load_rows, train

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def stories() -> Callable[..., list[str]]:
    "The lines about the first `count` flights of one day of 2013: by default 9 February, the day after the storm: arrived, cancelled, diverted."
    flights, zones = read_text("flights"), zones_of_airports()

    def told(count: int, month: int = 2, day: int = 9) -> list[str]:
        wanted = [at == (str(month), str(day)) for at in zip(flights["month"].to_pylist(), flights["day"].to_pylist(), strict=True)]
        some = flights.filter(wanted).slice(0, count)
        return events(some, flight_times(some, zones))["line"].tolist()

    return told


@pytest.fixture(scope="session")
def deliver() -> Callable[..., None]:
    "Lands a file of flight events and a file of weather reports, both of one name; none of a feed without lines."

    def land(landing: Path, name: str, lines: Sequence[str], reports: Sequence[str]) -> None:
        for folder, columns, rows in (("flight_events", FLIGHT_EVENT_COLUMNS, lines), ("weather", WEATHER_COLUMNS, reports)):
            if not rows:
                continue
            (landing / folder).mkdir(parents=True, exist_ok=True)
            (landing / folder / f"{name}.csv").write_text("\n".join([",".join(columns), *rows]) + "\n")

    return land


@pytest.fixture(scope="session")
def lived() -> Callable[..., Lakehouse]:
    "Brings a lake to a day: replays the files up to it, with their dirt or without, and refines what is new as far as gold."

    def live(lake: Lakehouse, landing: Path, day: str, dirt: int) -> Lakehouse:
        until = date.fromisoformat(day)
        at = end_of(until)
        replay(landing, until, dirt)
        bronze(lake, landing, at)
        silver(lake, at)
        gold(lake)
        return lake

    return live


@pytest.fixture(scope="session")
def refine() -> Callable[[Lakehouse, Path], None]:
    "Refines what is new in a landing folder as far as gold, on 12 February 2013."

    def call(lake: Lakehouse, landing: Path) -> None:
        at = end_of(date(2013, 2, 12))
        bronze(lake, landing, at)
        silver(lake, at)
        gold(lake)

    return call


@pytest.fixture(scope="session")
def weather_report() -> Callable[[int, str], str]:
    "The line about an hour of 9 February with a temperature."
    return lambda hour, temp: f"EWR,2013,2,9,{hour},{temp},26.06,59.37,270,10.35,NA,0,1012,10,2013-02-09T{hour + 5:02d}:00:00Z"


@pytest.fixture(scope="session")
def calm_landing(
    tmp_path_factory: pytest.TempPathFactory,
    stories: Callable[..., list[str]],
    deliver: Callable[..., None],
    weather_report: Callable[[int, str], str],
) -> Path:
    "Two files a feed: twelve flights of the day after the storm and two hours of weather, some lines twice, one broken."
    folder, lines, reports = tmp_path_factory.mktemp("calm"), stories(12), [weather_report(1, "39.02"), weather_report(2, "41")]
    deliver(folder, "a", lines[:20] + ["noise"], reports)
    deliver(folder, "b", lines[15:] + lines[:1], reports[1:])
    return folder


@pytest.fixture(scope="session")
def calm_lake(spark: SparkSession, calm_landing: Path, refine: Callable[[Lakehouse, Path], None]) -> Lakehouse:
    "What an undisturbed run makes of these files. The tests only read it."
    lake = Lakehouse(spark, prefix="test_calm_")
    refine(lake, calm_landing)
    return lake


@pytest.fixture(scope="session")
def airport(spark: SparkSession) -> Lakehouse:
    "The invented airport, with its features. A test adds rows for models of its own alone."
    lake = Lakehouse(spark, prefix="rehearsal_")
    synthetic_lake(lake)
    return lake


@pytest.fixture(scope="session")
def learned(airport: Lakehouse) -> TrainingRows:
    "What may be learned from at the airport on the last day of September."
    return load_rows(airport, feature_versions(airport), date(2013, 9, 30))


TRAINED = "spark_catalog.test_ml.trained_flights"


@pytest.fixture(scope="session")
def quick() -> dict[str, Any]:
    "The default parameters with a fifth of the trees, each of five times the weight, for what is not about quality."
    return {**DEFAULTS, "n_estimators": DEFAULTS["n_estimators"] // 5, "learning_rate": DEFAULTS["learning_rate"] * 5}


@pytest.fixture(scope="session")
def candidate(airport: Lakehouse, quick: dict[str, Any]) -> Iterator[TrainedVersion]:
    "A model of the airport that was trained on the last day of September: the known sets of parameters and a proposal were tried."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "DEFAULTS", quick)
        trained = train(TrainingRequest(airport, TRAINED, date(2013, 9, 30), max_evals=3), "/test_flights")
    yield trained
    MlflowClient().delete_registered_model(TRAINED)


@pytest.fixture(scope="session")
def earlier(airport: Lakehouse, quick: dict[str, Any]) -> Iterator[TrainedVersion]:
    "Another one, that was trained on 1 September."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "DEFAULTS", quick)
        trained = train(TrainingRequest(airport, f"{TRAINED}_in_august", date(2013, 9, 1), max_evals=1), "/test_flights")
    yield trained
    MlflowClient().delete_registered_model(f"{TRAINED}_in_august")


@pytest.fixture(scope="session")
def registered() -> Callable[[str, TrainedVersion], int]:
    "Registers a trained model once more, as the next version of a model of a test's own; its number."

    def call(model: str, trained: TrainedVersion) -> int:
        client = MlflowClient()
        known = next(found for found in client.search_model_versions(f"run_id = '{trained.run_id}'") if found.name.startswith(TRAINED))
        return register(model, known.source, trained.run_id, known.tags, description=known.description)

    return call


@pytest.fixture(scope="session")
def command() -> str:
    "The `boathouse` of this environment."
    return str(Path(sys.executable).parent / "boathouse")


@pytest.fixture(scope="session")
def clone() -> Callable[[Path], Path]:
    "Puts the bundle with its reports into a folder of its own, whose source is this checkout's."

    def copy(folder: Path) -> Path:
        shutil.copytree(ROOT / "bundles", folder / "bundles")
        shutil.copytree(ROOT / "notebooks" / "reports", folder / "notebooks" / "reports")
        for name in ("databricks.yml", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        (folder / "src").symlink_to(ROOT / "src")
        return folder

    return copy


@pytest.fixture(scope="module")
def environ() -> Mapping[str, str]:
    "The environment of the commands: as everybody's, with the background cluster. How fast a service answers says nothing on a busy machine."
    return {**clean_environment(), "BOATHOUSE_CLUSTER": "", "BUNDLE_VAR_p99_ms": "60000"}


@pytest.fixture(scope="module")
def boathouse(command: str, environ: Mapping[str, str]) -> Iterator[Callable[..., Any]]:
    "What `boathouse ... --json` prints, after it ended with `code`; the clusters that the commands left running are ended with the module."
    folders: dict[Path, None] = {}

    def run(folder: Path, *words: str, code: int = 0) -> Any:
        folders[folder] = None
        done = subprocess.run([command, *words, "--json"], cwd=folder, env=environ, capture_output=True, text=True)
        assert done.returncode == code, done.stderr[-3000:]
        return json.loads(done.stdout)

    yield run
    for folder in folders:
        run(folder, "cluster", "stop", "--force")
