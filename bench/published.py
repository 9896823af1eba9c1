"""What measurements with an online store share: a small store of its own making, and one with the flights' tables of a finished state.

A state is only read: its registry is copied, and its tables are read where they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from boathouse.features.lookups import FeatureLookup
from boathouse.features.training_sets import FeatureSpec
from boathouse.online.store import OnlineStore, publish

BUNDLE = "bundle:\n  name: bench\ntargets:\n  dev:\n    default: true\n"
TRIPS, MODEL = 20_000, "spark_catalog.ml.late_arrival"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def make_bundle(folder: Path, registry: Path | None = None) -> Path:
    "A bundle in `folder`, with a registry of its own or a copy of that of a state; return its state."
    (folder / "databricks.yml").write_text(BUNDLE)
    state = folder / ".boathouse" / "dev"
    state.mkdir(parents=True)
    if registry is not None:
        shutil.copy(registry / "mlflow.db", state)
    return state


def publish_rows(store: OnlineStore, folder: Path, name: str, rows: pd.DataFrame, key: str, time: str = "") -> None:
    from deltalake import DeltaTable, write_deltalake

    write_deltalake(folder / name, pa.Table.from_pandas(rows, preserve_index=False))
    declared = {"boathouse.primaryKey": f"{key},{time}".strip(","), "boathouse.timeKey": time}
    DeltaTable(folder / name).alter.set_table_properties({k: v for k, v in declared.items() if v}, raise_if_not_exists=False)
    publish(store, name, folder / name, keep=timedelta(days=30))


def publish_example(folder: Path, rows: pd.DataFrame, categories: Sequence[str], numbers: Sequence[str]) -> FeatureSpec:
    "Publish trips by number, and features of each category by hour, and return the spec that looks the inputs of a model up."
    store, rng = OnlineStore(folder / "online.db"), np.random.default_rng(1)
    trips = rows[[*categories, numbers[0]]].head(TRIPS).assign(trip=range(min(TRIPS, len(rows))))
    publish_rows(store, folder, "gold.trips", trips, "trip")
    lookups, parts = [], np.array_split(np.array(numbers[1:]), len(categories))
    for category, names in zip(categories, parts, strict=True):
        hours = [AT - timedelta(hours=n) for n in range(24)]
        found = pd.MultiIndex.from_product([rows[category].unique(), hours], names=[category, "at"]).to_frame(index=False)
        found = found.assign(**{name: rng.gamma(2, 2, len(found)) for name in names})
        publish_rows(store, folder, f"features.{category}", found, category, "at")
        lookups.append(FeatureLookup(f"features.{category}", category, timestamp_lookup_key="departs_at"))
    store.engine.dispose()
    return FeatureSpec(tuple(lookups), versions={})


def table_folder(state: Path, name: str) -> Path:
    schema, _, table = name.partition(".")
    return state / "warehouse" / f"{schema}.db" / table


def publish_flights(state: Path, store: OnlineStore, keep: timedelta) -> dict[str, int]:
    "Publish gold.departures and the feature tables of the flights; return the rows per table."
    from flights.features import lookups
    from flights.tables import GOLD_DEPARTURES

    names = [GOLD_DEPARTURES.name, *dict.fromkeys(one.table_name for one in lookups())]
    return {name: publish(store, name, table_folder(state, name), keep=keep).written for name in names}


def read_departures(state: Path, month: str, rows: int) -> pd.DataFrame:
    "The first flights of a month, by the time of their prediction."
    from deltalake import DeltaTable

    table = DeltaTable(table_folder(state, "gold.departures")).to_pyarrow_table(
        partitions=[("month", "=", month)], columns=["flight_id", "predict_at"]
    )
    return table.to_pandas().sort_values(["predict_at", "flight_id"]).head(rows).reset_index(drop=True)


def split_body(rows: pd.DataFrame) -> bytes:
    "A request in MLflow's form; missing values are null."
    data = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    return json.dumps({"dataframe_split": {"columns": list(rows), "data": data}}).encode()


def records_body(records: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"dataframe_records": list(records)}).encode()
