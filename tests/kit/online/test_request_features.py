"""Requests completed by key: the same values as the batch for the same timestamps, from tables that Spark wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.features.lookups import FeatureLookup
from boathouse.features.training_sets import FeatureFunction, FeatureSpec, with_features
from boathouse.online.request_features import complete_records
from boathouse.online.store import OnlineStore, publish
from boathouse.serving.client import FeatureEngineeringClient
from boathouse.tables.table import Lakehouse, drop_all

HOUR, NOW = timedelta(hours=1), datetime(2013, 6, 3)
SPEC = FeatureSpec(
    (
        FeatureFunction(f"{__name__}:doubled", {"value": "age_hours"}, "age_doubled"),  # takes what the next one gives
        FeatureFunction(f"{__name__}:hours", {"later": "planned", "earlier": "read_at"}, "age_hours"),
        FeatureFunction(f"{__name__}:doubled", {"value": "boats"}, "twice"),
        FeatureLookup("features.wind", "pier", feature_names=["knots", "boats", "at"], rename_outputs={"at": "read_at"}, timestamp_lookup_key="planned", lookback_window=3 * HOUR),
        FeatureLookup("features.wind", "pier", feature_names="knots", rename_outputs={"knots": "now_only"}, timestamp_lookup_key="planned", lookback_window=timedelta(0)),
        FeatureLookup("features.wind", "pier", feature_names="knots", rename_outputs={"knots": "before"}, timestamp_lookup_key="planned", boundary="lt"),
        FeatureLookup("features.wind", "pier", feature_names="knots", rename_outputs={"knots": "ever"}, timestamp_lookup_key="planned", known_by="known_at"),
        FeatureLookup("features.wind", "pier", feature_names="knots", rename_outputs={"knots": "valid"}, timestamp_lookup_key="planned", until="until"),
        FeatureLookup("features.wind", "pier", feature_names="knots", rename_outputs={"knots": "ticked"}, timestamp_lookup_key="planned", grid=HOUR),
        FeatureLookup("features.piers", "pier", default_values={"length": -1}),
    ),
    versions={},
)  # fmt: skip


def hours(later: pd.Series, earlier: pd.Series) -> pd.Series:
    return (later - earlier) / HOUR


def doubled(value: pd.Series) -> pd.Series:
    return 2 * value


def location(lake: Lakehouse, table: str) -> str:
    return str(lake.spark.sql(f"DESCRIBE DETAIL {lake.name(table)}").collect()[0].location)


@dataclass(frozen=True)
class Harbour:
    lake: Lakehouse
    store: OnlineStore
    labels: DataFrame


@pytest.fixture(scope="module")
def harbour(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    "Tables that the kit wrote, published with a history of four days, and tables of other writers."
    tables = FeatureEngineeringClient(spark=spark, prefix="test_requests_")
    lake, store = tables.lake, OnlineStore(tmp_path_factory.mktemp("online") / "online.db")
    drop_all(lake)
    wind = """SELECT if(id % 5 = 0, 'west', 'east') AS pier, timestamp_seconds(1370044800 + 3600 * id) AS at, if(id % 7 = 3, null, id / 3D) AS knots,
              if(id % 4 = 0, null, int(id % 3)) AS boats, timestamp_seconds(1370044800 + 3600 * id + 1800 * (id % 9)) AS known_at,
              if(id % 6 = 1, timestamp_seconds(1370044800 + 3600 * id + 600), null) AS until FROM range(60)"""
    tables.create_table("features.wind", "pier", spark.sql(wind), timeseries_column="at")
    tables.create_table("features.piers", "pier", spark.sql("SELECT 'east' AS pier, 40 AS length"))
    for name in ("features.wind", "features.piers"):
        publish(store, name, location(lake, name), keep=timedelta(days=4))
    trips = """SELECT id AS trip, CASE id % 10 WHEN 9 THEN 'north' WHEN 8 THEN null WHEN 7 THEN 'west' ELSE 'east' END AS pier,
               if(id % 11 = 10, null, timestamp_seconds(1370044800 + 1200 * id)) AS planned FROM range(220)"""
    labels = spark.sql(trips)
    for name, properties in (("dv", "'delta.enableDeletionVectors' = 'true'"), ("mapped", "'delta.columnMapping.mode' = 'name'")):
        full = lake.name(f"features.{name}")
        spark.sql(f"CREATE TABLE {full} (k bigint, v double) USING delta TBLPROPERTIES ({properties}, 'boathouse.primaryKey' = 'k')")
        spark.sql(f"INSERT INTO {full} SELECT /*+ COALESCE(1) */ id, double(id) FROM range(6)")
    spark.sql(
        f"CREATE TABLE {lake.name('features.variant')} (k bigint, v variant) USING delta TBLPROPERTIES ('boathouse.primaryKey' = 'k')"
    )
    yield Harbour(lake, store, labels)
    drop_all(lake)


def test_values_by_request_equal_those_of_the_batch_for_the_same_timestamps(harbour: Harbour) -> None:
    batch = with_features(harbour.lake, harbour.labels, SPEC).orderBy("trip")
    wanted = [row.asDict() for row in batch.collect()]
    records = [
        {"trip": r.trip, "pier": r.pier, "planned": r.planned and r.planned.isoformat()} for r in harbour.labels.orderBy("trip").collect()
    ]
    complete = complete_records(harbour.store, SPEC, records, NOW)
    columns = [c for c in batch.columns if c not in ("trip", "pier", "planned", "read_at")]
    assert {len(wanted), len(complete.records)} == {220}
    assert [{c: one[c] for c in columns} for one in complete.records] == [{c: one[c] for c in columns} for one in wanted]
    assert [one["read_at"] and one["read_at"].replace(tzinfo=None) for one in complete.records] == [one["read_at"] for one in wanted]
    for column in columns:
        assert len({one[column] for one in wanted}) > 1, f"{column} is always the same, and compares nothing"
    alone = [complete_records(harbour.store, SPEC, [one], NOW).records[0] for one in records[:40]]
    assert [{c: one[c] for c in columns} for one in alone] == [{c: one[c] for c in columns} for one in wanted[:40]]


def test_the_age_of_each_lookup_is_reported_and_the_time_of_the_request_stands_in(harbour: Harbour) -> None:
    at = datetime(2013, 6, 1, 2, 30)
    complete = complete_records(harbour.store, SPEC, [{"pier": "east"}, {"pier": "north"}], at)
    assert complete.ages["features_wind"] == [timedelta(minutes=30), None]
    assert complete.oldest["features_wind"] == timedelta(minutes=30)
    assert complete.versions == {"features.piers": 1, "features.wind": 1}
    assert [one["length"] for one in complete.records] == [40, -1]


def test_a_table_with_deletion_vectors_or_column_mapping_is_read_right_and_again_after_a_change(harbour: Harbour) -> None:
    spark, lake, store = harbour.lake.spark, harbour.lake, harbour.store
    for name in ("dv", "mapped"):
        publish(store, f"features.{name}", location(lake, f"features.{name}"))
    spark.sql(f"DELETE FROM {lake.name('features.dv')} WHERE k = 3")
    spark.sql(f"ALTER TABLE {lake.name('features.mapped')} RENAME COLUMN v TO w")
    values = {}
    for name, column in (("dv", "v"), ("mapped", "w")):
        assert publish(store, f"features.{name}", location(lake, f"features.{name}")).kind == "full"
        found = store.lookup({f"features.{name}": [{"k": k} for k in range(6)]}, NOW)[f"features.{name}"]
        values[name] = [one.values[column] for one in found]
    assert values == {"dv": [0.0, 1.0, 2.0, None, 4.0, 5.0], "mapped": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}


def test_a_table_feature_that_delta_rs_does_not_read_is_named(harbour: Harbour) -> None:
    with pytest.raises(ValueError, match=r"features.variant: delta-rs must be able to read the table, got the table feature variantType"):
        publish(harbour.store, "features.variant", location(harbour.lake, "features.variant"))


def test_a_merge_of_the_kit_is_published_by_its_changed_files(harbour: Harbour, tmp_path: Path) -> None:
    tables, store = FeatureEngineeringClient(spark=harbour.lake.spark, prefix="test_requests_"), OnlineStore(tmp_path / "online.db")
    rows = "SELECT int(id) AS boat, double(id) AS speed FROM range({})"
    tables.create_table("features.boats", "boat", harbour.lake.spark.sql(rows.format(20)))
    where = location(harbour.lake, "features.boats")
    publish(store, "features.boats", where)
    tables.write_table("features.boats", harbour.lake.spark.sql("SELECT 3 AS boat, 99D AS speed UNION ALL SELECT 50, 1D"))
    assert publish(store, "features.boats", where).kind == "changes"
    found = store.lookup({"features.boats": [{"boat": n} for n in (2, 3, 50, 51)]}, NOW)["features.boats"]
    assert [one.values["speed"] for one in found] == [2.0, 99.0, 1.0, None]


def test_what_a_request_cannot_get_is_refused_with_the_column(harbour: Harbour) -> None:
    wind = FeatureLookup("features.wind", "pier", timestamp_lookup_key="planned")
    for features, record, message in (
        ((wind,), {"trip": 1}, "a record must have pier to look up features in features.wind, got trip"),
        ((wind,), {"pier": 7}, "features.wind: the key pier must be of type string, got 7"),
        ((wind,), {"pier": "east", "planned": "soon"}, "planned must be a timestamp such as 2013-06-01T12:00:00Z, got 'soon'"),
        ((FeatureLookup("features.rain", "pier"),), {"pier": "east"}, "features.rain must be published to be looked up, got features"),
        ((FeatureLookup("features.wind", "pier"),), {"pier": "east"}, "timestamp_lookup_key must fit the time key at, got None"),
        ((FeatureLookup("features.wind", "pier", timestamp_lookup_key="planned", nulls="column"),), {"pier": "east"}, "nulls must be 'row' for requests, got 'column'"),
        ((FeatureLookup("features.piers", "pier", feature_names="depth"),), {"pier": "east"}, "its columns must be published, got depth"),
        ((FeatureFunction("cat.s.f", {"a": "pier"}, "out"),), {"pier": "east"}, r"must be module:function, got the SQL function cat.s.f: send out"),
        ((FeatureFunction("operator:neg", {"a": "depth"}, "out"),), {"pier": "east"}, "out: the records must have the columns depth, got pier"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            complete_records(harbour.store, FeatureSpec(features, {}), [record], NOW)


def test_a_request_by_one_id_takes_keys_and_time_from_the_entity_and_what_it_sends_is_kept(harbour: Harbour, tmp_path: Path) -> None:
    tables = FeatureEngineeringClient(spark=harbour.lake.spark, prefix="test_requests_")
    tables.create_table("gold.trips", "trip", harbour.labels)
    publish(harbour.store, "gold.trips", location(harbour.lake, "gold.trips"))
    spec = FeatureSpec((FeatureLookup("features.wind", "pier", feature_names="knots", timestamp_lookup_key="planned"),), {})
    trips = FeatureLookup("gold.trips", "trip")
    by_id, sent = complete_records(harbour.store, spec, [{"trip": 13}, {"trip": 13, "knots": 5.0}], NOW, [trips]).records
    (batch,) = with_features(harbour.lake, harbour.labels.where("trip = 13"), spec).collect()
    assert (by_id["knots"], sent["knots"]) == (batch.knots, 5.0)
    assert json.loads(json.dumps(by_id, default=str))["pier"] == batch.pier
