from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from boathouse.quality import QualityError, Rule, constraints, judge, kept_rows, measure, observe, observed, refuse, rejected_rows

RULES = (
    Rule("positive", "n > 0"),
    Rule("small", "n < 10", action="warn"),
    Rule("named", "s IS NOT NULL", action="drop"),
    Rule("short", "length(s) < 3", applies="s IS NOT NULL"),
)
VALUES = [(1, "a"), (-1, "a"), (None, "a"), (11, "b"), (2, None), (-5, "long"), (3, "long")]


def test_a_condition_that_is_null_is_violated_and_one_that_does_not_apply_is_not(spark: SparkSession) -> None:
    judged = judge(spark.createDataFrame(VALUES, "n int, s string"), RULES)
    assert [row._failed for row in judged.collect()] == [0, 1, 3, 2, 4, 9, 8]


def test_every_row_is_kept_dropped_or_quarantined_and_counted_in_the_write_itself(spark: SparkSession) -> None:
    judged = judge(spark.createDataFrame(VALUES, "n int, s string"), RULES)
    watched, watch = observe(judged, RULES)
    rejected = [(row.n, row._failed_rules) for row in rejected_rows(watched, RULES).collect()]
    assert rejected == [(-1, ["positive"]), (None, ["positive", "small"]), (-5, ["positive", "short"]), (3, ["short"])]
    assert [row.n for row in kept_rows(judged, RULES).collect()] == [1, 11]
    counts = observed(watch, judged, RULES)
    assert counts == measure(judged, RULES) == {"checked": 7, "positive": 3, "small": 2, "named": 1, "short": 2}


def test_counts_of_rows_that_the_optimiser_removed_are_zero_and_do_not_hang(spark: SparkSession) -> None:
    judged = judge(spark.createDataFrame(VALUES, "n int, s string").where("false"), RULES)
    watched, watch = observe(judged, RULES)
    watched.where("false").write.format("noop").mode("overwrite").save()
    assert observed(watch, judged, RULES, seconds=1) == {"checked": 0, "positive": 0, "small": 0, "named": 0, "short": 0}


def test_a_rule_that_fails_the_batch_says_how_many_rows_broke_it() -> None:
    strict = (Rule("ours", "s = 'a'", action="fail", reason="another customer's rows"),)
    refuse({"checked": 3, "ours": 0}, strict)
    with pytest.raises(QualityError, match=r"ours \(2 of 3 rows\): another customer's rows"):
        refuse({"checked": 3, "ours": 2}, strict)


def test_the_constraint_of_a_rule_agrees_with_its_judgement(spark: SparkSession) -> None:
    rule = Rule("short", "length(s) < 3", action="fail", applies="n > 0")
    rows = judge(spark.createDataFrame(VALUES, "n int, s string").where("n IS NOT NULL"), (rule,))
    assert rows.where(f"({constraints((rule,))['short']}) != (_failed = 0)").isEmpty()


def test_sixty_three_rules_fit_and_more_are_refused(spark: SparkSession) -> None:
    many = tuple(Rule(f"r{n}", f"id != {n}") for n in range(64))
    judged = judge(spark.range(62, 63), many[:63])
    assert judged.first()._failed == 1 << 62
    with pytest.raises(ValueError, match="at most 63"):
        judge(spark.range(1), many)
    with pytest.raises(ValueError, match="different names"):
        judge(spark.range(1), (many[0], many[0]))
