"""What a training set knows of the future: nothing, wherever it is planted; and if it does, the report and the check say which feature."""

from __future__ import annotations

import datetime as dt
import pickle
import random
from dataclasses import replace

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.features.leak_report import LeakError, refuse_leaks, report_leaks
from boathouse.features.lookups import FeatureLookup
from boathouse.features.tables import read_declaration, table_from_schema
from boathouse.features.training_sets import FeatureFunction, TrainingSet, create_training_set, with_features
from boathouse.point_in_time.grid_windows import rolling
from boathouse.serving.client import FeatureEngineeringClient
from boathouse.tables.table import Lakehouse
from boathouse.tables.versions import fingerprint
from boathouse.tables.writes import append

HOUR = dt.timedelta(hours=1)
NOON = dt.datetime(2013, 6, 1, 12)


def at(hour: float) -> dt.datetime:
    return NOON.replace(hour=0) + hour * HOUR


def hours_between(later: pd.Series, earlier: pd.Series) -> pd.Series:
    return (later - earlier) / HOUR


def twice(value: pd.Series) -> pd.Series:
    return 2.0 * value


WIND = FeatureLookup("features.wind", "pier", feature_names=("knots", "at"), rename_outputs={"at": "read_at"}, timestamp_lookup_key="t")
BULLETIN = FeatureLookup("features.bulletins", "pier", timestamp_lookup_key="t", known_by="out", lookback_window=6 * HOUR)
LATENESS = FeatureLookup("features.lateness", "pier", timestamp_lookup_key="t", grid=HOUR)
PIERS = FeatureLookup("features.piers", "pier")
AGE = FeatureFunction("tests.kit.features.test_leak_report:hours_between", {"later": "t", "earlier": "read_at"}, "age")
FAR = FeatureFunction("tests.kit.features.test_leak_report:twice", {"value": "age"}, "age_twice")


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    "Two piers: wind as read, a bulletin for an hour that is out later, lateness on full hours, and the piers' length."
    lake = Lakehouse(spark, prefix="test_leaks_")
    wind = spark.createDataFrame([("x", at(9), 9.0), ("x", at(12), 12.0), ("y", at(8), 8.0)], "pier string, at timestamp, knots double")
    out = [("x", at(10), at(11), 10.0), ("x", at(11), at(13), 11.0)]
    told = spark.createDataFrame(out, "pier string, hour timestamp, out timestamp, gusts double")
    piers = spark.createDataFrame([("x", 40.0)], "pier string, metres double")
    late = lateness(spark)
    for name, rows, time in (("wind", wind, "at"), ("bulletins", told, "hour"), ("lateness", late, "tick"), ("piers", piers, None)):
        append(lake, table_from_schema(f"features.{name}", ["pier"], rows.schema, time), rows, unique=True)
    return lake


def lateness(spark: SparkSession, *more: tuple) -> DataFrame:
    events = spark.createDataFrame([("x", at(11.5), 30), ("y", at(10.5), 5), *more], "pier string, at timestamp, minutes int")
    return rolling(events, "pier", "at", {"late": ("avg", "minutes")}, {"2h": 2 * HOUR}, HOUR)


def labels(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(
        [(1, "x", NOON, 5.0), (2, "y", NOON, 6.0), (3, "z", NOON, None)], "n int, pier string, t timestamp, load double"
    )


def training(lake: Lakehouse, *features: FeatureLookup | FeatureFunction) -> TrainingSet:
    return create_training_set(lake, labels(lake.spark), features, None, match="seen")


def test_each_feature_has_a_row_with_its_source_counts_and_ages(lake: Lakehouse) -> None:
    made = training(lake, WIND, BULLETIN, LATENESS, PIERS, AGE, FAR)
    report = report_leaks(made, ["load", "knots", "gusts", "late_2h", "metres", "age", "age_twice"])
    ages = report.set_index("feature")[["table", "key", "matched", "unmatched", "later", "youngest_seconds", "median_seconds"]]
    none = (None, None, None)
    assert {
        name: tuple(None if pd.isna(v) else v for v in row) for name, row in zip(ages.index, ages.to_numpy().tolist(), strict=True)
    } == {
        "load": ("label row", "", 2, 1, *none),
        "knots": ("features.wind", "pier", 2, 1, 0, 0.0, 0.0),
        "gusts": ("features.bulletins", "pier", 1, 2, 0, 3600.0, 3600.0),  # of the bulletin that was out at 11
        "late_2h": ("features.lateness", "pier", 2, 1, 0, 0.0, 0.0),
        "metres": ("features.piers", "pier", 1, 2, *none),
        "age": (AGE.udf_name, "t, read_at", 2, 1, 0, 0.0, 0.0),
        "age_twice": (FAR.udf_name, "age", 2, 1, 0, 0.0, 0.0),
    }
    newest = dict(zip(report.feature, report.newest, strict=True))
    assert (newest["age"], newest["gusts"]) == (NOON, at(11))
    assert pd.isna(newest["metres"])
    assert "before the tick" in report.rule[3]


def test_rows_of_a_spec_are_reported_on_like_a_training_set(lake: Lakehouse) -> None:
    spec = training(lake, WIND, AGE).spec
    requests = labels(lake.spark).withColumn("age", F.lit(0.5))  # a request brings a value that is not computed then
    made = TrainingSet(lake, with_features(lake, requests, spec, match="seen"), spec, "seen", tuple(requests.columns))
    report = report_leaks(made, ["knots", "age"]).set_index("feature")
    assert report.table.tolist() == ["features.wind", "label row"]
    assert report.matched.tolist() == [2, 3]


def test_the_instants_are_no_feature_and_change_no_fingerprint(lake: Lakehouse) -> None:
    made, plain = training(lake, WIND), create_training_set(lake, labels(lake.spark), [WIND], None)
    assert made.load_df().columns == plain.load_df().columns
    assert fingerprint(made.load_df()) == fingerprint(plain.load_df())


def test_a_late_match_is_refused_with_feature_table_count_and_labels(lake: Lakehouse) -> None:
    made = training(lake, WIND, LATENESS, AGE)
    later = F.when(F.col("n") < 3, F.struct(F.expr("t + n * INTERVAL 1 MINUTE").alias("features_wind"), F.col("seen.features_lateness")))
    with pytest.raises(
        LeakError, match=r"age, from .*hours_between.* 2 times, such as for n 2; n 1\. The same holds for knots, read_at"
    ) as caught:
        refuse_leaks(replace(made, df=made.df.withColumn("seen", later)), ["age", "knots", "late_2h", "read_at"], label_key=["n"])
    assert caught.value.count == 2
    assert caught.value.examples == [{"n": 2}, {"n": 1}]
    assert caught.value.report.set_index("feature").later.to_dict() == {"age": 2, "knots": 2, "late_2h": 0, "read_at": 2}
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert len(refuse_leaks(made)) == len(made.df.columns) - 1  # as it came, nothing is refused


def test_a_time_key_earlier_than_what_was_known_is_caught_by_the_column_that_knows(lake: Lakehouse) -> None:
    told = replace(BULLETIN, known_by=None)
    made = training(lake, told, replace(WIND, feature_names=("knots",)))
    assert made.df.where("n = 1").first().gusts == 11.0  # of the bulletin that is out at 13
    refuse_leaks(made)  # the time key says 11
    with pytest.raises(
        LeakError, match=r"from features.bulletins, is later than .* 1 times, such as for pier x, t 2013-06-01 12:00:00"
    ) as caught:
        refuse_leaks(made, ["knots", "gusts"], known={"features.bulletins": "out"})
    assert caught.value.feature == "gusts"
    kept = training(lake, replace(BULLETIN, feature_names=("gusts", "out")))
    assert refuse_leaks(kept, known={"features.bulletins": "out"}).newest.max() == at(11)


def test_a_lookup_as_of_a_wrong_instant_is_caught_by_the_right_one(lake: Lakehouse) -> None:
    rows = labels(lake.spark).withColumns({"landed": F.col("t"), "t": F.expr("t - INTERVAL 2 HOURS")})
    made = create_training_set(lake, rows, [replace(WIND, timestamp_lookup_key="landed"), PIERS], None, match="seen")
    refuse_leaks(made)  # nothing is later than the landing
    with pytest.raises(LeakError, match=r"knots, from features.wind, .* 1 times, such as for pier x, t 2013-06-01 10:00:00") as caught:
        refuse_leaks(made, ["metres", "knots"], instant="t")
    assert caught.value.report.youngest_seconds.tolist()[1] == -7200.0


def test_strictly_before_means_that_the_same_instant_is_too_late(lake: Lakehouse) -> None:
    made = training(lake, WIND)
    assert report_leaks(made, ["knots"]).later.tolist() == [0]  # read at noon, for noon
    strict = replace(made.spec, features=(replace(WIND, boundary="lt"),))
    assert report_leaks(replace(made, spec=strict), ["knots"]).later.tolist() == [1]
    assert report_leaks(training(lake, replace(WIND, boundary="lt")), ["knots"]).later.tolist() == [0]


def test_a_report_needs_the_instants_and_says_so(lake: Lakehouse) -> None:
    rows = labels(lake.spark)
    with pytest.raises(ValueError, match="created with match="):
        report_leaks(create_training_set(lake, rows, [WIND], None))
    with pytest.raises(ValueError, match="needs the column t in the training set"):
        report_leaks(create_training_set(lake, rows, [WIND], None, exclude_columns=["t"], match="seen"))
    with pytest.raises(ValueError, match="has no knot: it has"):
        report_leaks(training(lake, WIND), ["knot"])


def test_any_number_of_features_is_reported_in_one_aggregation(lake: Lakehouse) -> None:
    tracker = lake.spark.sparkContext.statusTracker()

    def jobs(made: TrainingSet, group: str) -> int:
        lake.spark.sparkContext.setJobGroup(group, group)
        try:
            report_leaks(made)
        finally:
            lake.spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
        return len(tracker.getJobIdsForGroup(group))

    few = training(lake, replace(WIND, feature_names=("knots",), rename_outputs={}))
    names = [{"knots": f"knots{n}"} for n in range(6)]
    wind = [replace(WIND, feature_names=("knots",), rename_outputs=name) for name in names]
    many = training(lake, *wind, replace(BULLETIN, feature_names=("gusts",)), replace(LATENESS, feature_names=("late_2h",)))
    assert len(many.df.schema["seen"].dataType.names) == 8
    assert jobs(few, "few") == jobs(many, "many") > 0


def test_a_future_planted_anywhere_changes_no_value(lake: Lakehouse) -> None:
    spark, tables, rng = lake.spark, FeatureEngineeringClient(spark=lake.spark, prefix=lake.prefix), random.Random(4)
    untouched = training(lake, WIND, BULLETIN, LATENESS).df.orderBy("n").collect()

    def soon(count: int) -> list[tuple[str, dt.timedelta, int]]:
        "Piers, how long from noon, and values: a microsecond, an hour less one, and what is between."
        ahead = [dt.timedelta(microseconds=n) for n in (1, 59 * 60_000_000, *rng.sample(range(2, 59 * 60_000_000), count))]
        return [(pier, time, rng.randint(100, 200)) for pier in "xyz" for time in ahead]

    wind = spark.createDataFrame([(pier, NOON + ahead, float(v)) for pier, ahead, v in soon(8)], "pier string, at timestamp, knots double")
    append(lake, read_declaration(lake, "features.wind"), wind, unique=True)
    # About hours that are over, and out after noon.
    told = [(pier, NOON - ahead, NOON + ahead, float(v)) for pier, ahead, v in soon(8)]
    out = spark.createDataFrame(told, "pier string, hour timestamp, out timestamp, gusts double")
    append(lake, read_declaration(lake, "features.bulletins"), out, unique=True)
    # Events from noon on: the tick of noon is made of what was before it.
    happened = [(pier, NOON + ahead - dt.timedelta(microseconds=1), v) for pier, ahead, v in soon(8)]
    tables.write_table("features.lateness", lateness(spark, *happened))
    again = training(lake, WIND, BULLETIN, LATENESS)
    assert again.df.orderBy("n").collect() == untouched
    assert refuse_leaks(again).later.sum() == 0
