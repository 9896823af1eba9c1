from __future__ import annotations

from random import Random

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from boathouse.quality import rules as quality
from boathouse.quality.rules import (
    QualityError,
    Rule,
    RuleError,
    broken_condition,
    check_rules,
    count_failures,
    evaluate_rules,
    observe_counts,
    passing_rows,
    raise_on_failures,
    rejected_rows,
    rule_set,
    wait_for_counts,
)

RULES = (
    Rule("positive", "n > 0"),
    Rule("small", "n < 10", action="warn"),
    Rule("named", "s IS NOT NULL", action="drop"),
    Rule("short", "length(s) < 3", applies="s IS NOT NULL"),
)
VALUES = [(1, "a"), (-1, "a"), (None, "a"), (11, "b"), (2, None), (-5, "long"), (3, "long")]


def test_a_condition_that_is_null_is_violated_and_one_that_does_not_apply_is_not(spark: SparkSession) -> None:
    judged = evaluate_rules(spark.createDataFrame(VALUES, "n int, s string"), RULES)
    assert [row._failed for row in judged.collect()] == [0, 1, 3, 2, 4, 9, 8]


def test_a_rule_says_of_a_row_what_is_wrong_with_it_where_it_can(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(1, None), (2, "no comma")], "n int, why string")
    one, other = (Rule("whole", "false", reason="it cannot be split", detail=detail) for detail in ("why", ""))
    assert [row._reason for row in rejected_rows(evaluate_rules(rows, [one]), [one]).orderBy("n").collect()] == [
        "it cannot be split",
        "no comma",
    ]
    assert rule_set([one]) != rule_set([other])


def test_every_row_is_kept_dropped_or_quarantined_and_counted_in_the_write_itself(spark: SparkSession) -> None:
    judged = evaluate_rules(spark.createDataFrame(VALUES, "n int, s string"), RULES)
    watched, watch = observe_counts(judged, RULES)
    rejected = [(row.n, row._failed_rules) for row in rejected_rows(watched, RULES).collect()]
    assert rejected == [(-1, ["positive"]), (None, ["positive", "small"]), (-5, ["positive", "short"]), (3, ["short"])]
    assert [row.n for row in passing_rows(judged, RULES).collect()] == [1, 11]
    counts = wait_for_counts(watch, judged, RULES)
    assert counts == count_failures(judged, RULES) == {"checked": 7, "positive": 3, "small": 2, "named": 1, "short": 2}


def test_counts_of_rows_that_the_optimiser_removed_are_zero_and_do_not_hang(spark: SparkSession) -> None:
    judged = evaluate_rules(spark.createDataFrame(VALUES, "n int, s string").where("false"), RULES)
    watched, watch = observe_counts(judged, RULES)
    watched.where("false").write.format("noop").mode("overwrite").save()
    assert wait_for_counts(watch, judged, RULES, seconds=1) == {"checked": 0, "positive": 0, "small": 0, "named": 0, "short": 0}


def test_more_faults_than_a_shared_sum_can_hold_are_counted_all_the_same(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "FIELD", 2)  # room for three faults, instead of two million
    judged = evaluate_rules(spark.range(7), many := [Rule(f"r{n}", f"id < {n}") for n in range(4)])
    watched, watch = observe_counts(judged, many)
    watched.write.format("noop").mode("overwrite").save()
    assert wait_for_counts(watch, judged, many) == {"checked": 7, "r0": 7, "r1": 6, "r2": 5, "r3": 4}


def test_a_rule_that_fails_the_batch_says_how_many_rows_broke_it() -> None:
    strict = (Rule("ours", "s = 'a'", action="fail", reason="another customer's rows"),)
    raise_on_failures({"checked": 3, "ours": 0}, strict)
    with pytest.raises(QualityError, match=r"ours \(2 of 3 rows\): another customer's rows"):
        raise_on_failures({"checked": 3, "ours": 2}, strict)


@pytest.mark.parametrize("number", [11, 63, 64, 130])
def test_any_number_of_rules_judges_as_each_rule_alone_does(spark: SparkSession, number: int) -> None:
    random = Random(number)
    parts = [(by := random.randint(30, 300), n % by, random.choice(["warn", "drop", "quarantine"])) for n in range(number)]
    rules = [Rule(f"r{n}", f"id % {by} != {rest}", action=action) for n, (by, rest, action) in enumerate(parts)]
    broken = {id: {n for n, (by, rest, _) in enumerate(parts) if id % by == rest} for id in range(200)}
    rows = spark.range(200)
    watched, watch = observe_counts(evaluate_rules(rows, rules), rules)
    seen = watched.select("*", broken_condition(rules, "drop", "quarantine").alias("out")).collect()
    assert {row.id for row in seen if row._failed != 0} == {id for id, those in broken.items() if those}
    assert {row.id for row in seen if row.out} == {id for id, those in broken.items() if any(parts[n][2] != "warn" for n in those)}
    assert wait_for_counts(watch, rows, rules) == {
        "checked": 200,
        **{f"r{n}": sum(n in those for those in broken.values()) for n in range(number)},
    }


def test_the_names_of_rejected_rows_reach_beyond_the_first_word(spark: SparkSession) -> None:
    many = [Rule(f"r{n}", f"id != {n}") for n in range(100)]
    rejected = rejected_rows(evaluate_rules(spark.range(60, 102), many), many).orderBy("id").collect()
    assert [(row.id, row._failed_rules) for row in rejected] == [(n, [f"r{n}"]) for n in range(60, 100)]
    assert rejected[0].asDict().keys() == {"id", "_failed_rules", "_reason"}


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("m > 0", "'m > 0': .*UNRESOLVED_COLUMN"),
        ("n > ", "'n > ': .*PARSE_SYNTAX_ERROR"),
        ("n > 0) OR (true", "PARSE_SYNTAX_ERROR"),
        ("n + 1", "'n \\+ 1' is int, not boolean"),
        ("s", "'s' is string, not boolean"),
        ("sum(n) > 0", "INVALID_WHERE_CONDITION"),
        ("row_number() OVER (ORDER BY n) = 1", "window|WINDOW"),
        ("rand() > 0.5", "'rand' gives another result at each evaluation"),
        ("current_date > date'2013-01-01'", "'current_date' gives another result"),
        ("nosuch(n)", "UNRESOLVED_ROUTINE"),
    ],
)
def test_a_rule_that_cannot_be_judged_is_refused_by_its_name_before_anything_runs(spark: SparkSession, condition: str, why: str) -> None:
    rows = spark.createDataFrame([], "n int, s string")
    with pytest.raises(RuleError, match=f"^wrong: .*{why}"):
        evaluate_rules(rows, (*RULES, Rule("wrong", condition)))
    with pytest.raises(RuleError, match=f"^wrong: .*{why}"):
        evaluate_rules(rows, (*RULES, Rule("wrong", "true", applies=condition)))


def test_a_rule_that_raises_on_a_row_is_named_and_an_error_of_the_rows_is_not_its_fault(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(2, 1, "7"), (2, 0, "x")], "a int, b int, s string")
    spark.udf.register("strict_upper", lambda text: text.no_such_method(), "string")
    raising = (
        Rule("ratio", "a / b > 0"),
        Rule("number", "cast(s AS int) > 0 -- as text"),
        Rule("upper", "strict_upper(s) = s", applies="b = 0"),
        Rule("sum", "a > 0", applies="a % b = 0"),
        Rule("fine", "try_divide(a, b) > 0 AND a / b > 0", applies="b > 0"),
    )
    with pytest.raises(RuleError) as error:
        count_failures(evaluate_rules(rows, raising), raising)
    assert [part.partition(" on a row")[0].rpartition(" raises ")[::2] for part in str(error.value).split("; ")] == [
        ("ratio: 'a / b > 0'", "DIVIDE_BY_ZERO"),
        ("number: 'cast(s AS int) > 0 -- as text'", "CAST_INVALID_INPUT"),
        ("upper: 'strict_upper(s) = s'", "PythonException"),
        ("sum: 'a > 0'", "REMAINDER_BY_ZERO"),
    ]
    broken = rows.withColumn("a", F.expr("cast(s AS int)"))
    with pytest.raises(PySparkException, match="CAST_INVALID_INPUT"):
        count_failures(evaluate_rules(broken, [few := Rule("positive", "a > 0")]), [few])


def test_rows_with_a_column_of_the_result_are_refused(spark: SparkSession) -> None:
    with pytest.raises(RuleError, match=r"^the rows have a column _Failed, and this name is reserved"):
        evaluate_rules(spark.createDataFrame([(1,)], "_Failed int"), [Rule("positive", "_failed > 0")])


def test_words_in_quotes_and_comments_are_no_reason_to_refuse_a_rule(spark: SparkSession) -> None:
    rules = (Rule("quoted", "s != 'now()' -- rand()"), Rule("after", "n > 0 /* uuid() */"))
    assert [
        row._failed for row in evaluate_rules(spark.createDataFrame([(1, "now()"), (-1, "a")], "n int, s string"), rules).collect()
    ] == [1, 2]


def test_two_rules_of_one_name_or_one_called_checked_are_refused(spark: SparkSession) -> None:
    with pytest.raises(RuleError, match="positive: the name of a rule must be unique, 2 rules have it; checked: the name is reserved"):
        check_rules(spark.createDataFrame([], "n int, s string"), (*RULES, RULES[0], Rule("checked", "n > 0")))


def test_the_name_of_a_set_of_rules_changes_with_each_part_of_it() -> None:
    rule = Rule("a", "n > 0", "warn", "why", "true")
    others = [
        Rule("b", "n > 0", "warn", "why"),
        Rule("a", "n > 1", "warn", "why"),
        Rule("a", "n > 0", "drop", "why"),
        Rule("a", "n > 0", "warn", "x"),
    ]
    assert len({rule_set([r]) for r in (rule, *others, Rule("a", "n > 0", "warn", "why", "n < 9"))}) == 6
    assert rule_set([rule]) == rule_set([Rule("a", "n > 0", "warn", "why")])
