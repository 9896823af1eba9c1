"""`boathouse sql`, `tables`, `show` and `shell` as real commands that share one background cluster."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.environment import clean_environment

from boathouse.workspace.cli.main import main
from boathouse.workspace.cli.query import split_statements
from boathouse.workspace.cli.tables import format_size
from boathouse.workspace.cluster import client

CODE = "from boathouse.workspace.cli.entry import main; main()"
SETUP = """
create schema silver; -- one; comment
create table silver.boats (boat string comment 'the name; of it', knots int not null) using delta
  comment 'One row per boat' tblproperties ('boathouse.primaryKey' = 'boat');
insert into silver.boats values ('a;b', 3), ('c', 5);
create temporary view fast as select * from silver.boats where knots > 4;
select boat from fast;
/* the end; */
"""


def environ() -> dict[str, str]:
    return {name: value for name, value in clean_environment().items() if name != "BOATHOUSE_CLUSTER"}


def command(bundle: Path, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", CODE, *words]
    return subprocess.run(line, cwd=bundle / "src", env=environ(), input=text, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    "A bundle with one table, made by `boathouse sql -f`; its cluster ends with the tests."
    folder = tmp_path_factory.mktemp("data")
    (folder / "databricks.yml").write_text("bundle: {name: tiny}\nvariables: {catalog: {default: dev}}\n")
    (folder / "src").mkdir()
    (folder / "src" / "harbour.py").write_text("DEPTH = 7\n")
    (folder / "src" / "setup.sql").write_text(SETUP)
    made = command(folder, "sql", "-f", "setup.sql")
    assert made.returncode == 0, made.stderr
    assert re.search(r"┃ boat ┃\s.*│ c ", made.stdout, re.DOTALL)  # the view of the fourth statement is there for the fifth
    yield folder
    client.stop_background(folder / ".boathouse" / "default", force=True)


def test_statements_are_separated_by_semicolons_outside_strings_and_comments() -> None:
    assert [s.split()[0] for s in split_statements(SETUP)] == ["create", "create", "insert", "create", "select"]
    assert split_statements("select ';' as `a;b` -- c;d\n;;\n") == ["select ';' as `a;b` -- c;d"]
    assert split_statements("-- nothing\n; /* at all */ ;") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "Give either QUERY or --file."), (["select 1", "-f", "-"], "Give either QUERY or --file."), ([" ; "], "no SQL statement")],
)
def test_sql_without_a_statement_or_with_two_sources_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "databricks.yml").write_text("bundle: {name: tiny}\n")
    done = CliRunner().invoke(main, ["sql", "--bundle", str(tmp_path), *words])
    assert done.exit_code == 2
    assert message in done.stderr


def test_sql_reads_standard_input_and_prints_one_array_per_statement(bundle: Path) -> None:
    done = command(bundle, "sql", "-", "-o", "json", text="select ';' c; select count(*) n from dev.silver.boats")
    assert json.loads(done.stdout) == [[{"c": ";"}], [{"n": 2}]]


def test_sql_stops_at_the_first_statement_that_fails_and_names_it(bundle: Path) -> None:
    done = command(bundle, "sql", "-", text="select 1 as one; select * from nowhere; create schema never")
    assert done.returncode == 1
    assert "statement 2 of 3: [TABLE_OR_VIEW_NOT_FOUND]" in done.stderr
    assert "one" in done.stdout
    assert json.loads(command(bundle, "sql", "show schemas like 'never'", "--json").stdout) == []


def test_tables_lists_rows_size_version_and_last_change_without_a_cluster(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle / "src")
    (found,) = json.loads(CliRunner().invoke(main, ["tables", "-o", "json"]).stdout)["tables"]
    assert (found["catalog"], found["schema"], found["table"], found["rows"], found["version"], found["operation"]) == (
        *("dev", "silver", "boats", 2, 1, "WRITE"),
    )
    lines = CliRunner().invoke(main, ["tables", "dev.silver"]).stdout.splitlines()
    assert lines[1].split() == ["dev.silver"]
    assert re.fullmatch(r"  boats +2 +[\d.]+ (?:Ki)?B +\d +1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +WRITE *", lines[2])
    done = CliRunner().invoke(main, ["tables", "sliver"])
    assert (done.exit_code, done.stderr) == (2, "schema 'sliver' has no Delta table in target 'default'. Did you mean 'silver'?\n")


def test_a_table_whose_log_is_damaged_is_listed_with_where_to_find_a_fix(tmp_path: Path) -> None:
    (tmp_path / "databricks.yml").write_text("bundle: {name: tiny}\n")
    log = tmp_path / ".boathouse" / "default" / "warehouse" / "silver.db" / "boats" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("{")
    done = CliRunner().invoke(main, ["tables", "--bundle", str(tmp_path)])
    assert "log cannot be read" in done.stdout
    assert "`boathouse doctor` prints a fix." in done.stderr


def test_show_prints_columns_keys_history_and_first_rows(bundle: Path) -> None:
    found = json.loads(command(bundle, "show", "silver.boats", "-o", "json").stdout)
    assert found["columns"] == [
        {"name": "boat", "type": "string", "nullable": True, "comment": "the name; of it"},
        {"name": "knots", "type": "int", "nullable": False, "comment": ""},
    ]
    assert (found["comment"], found["keys"]) == ("One row per boat", {"primary key": ["boat"]})
    assert [version["operation"] for version in found["history"]] == ["WRITE", "CREATE TABLE"]
    assert sorted(row["boat"] for row in found["rows"]) == ["a;b", "c"]
    shown = command(bundle, "show", "dev.silver.boats", "--rows", "1").stdout
    assert [text for text in ("One row per boat", "NOT NULL", "primary key: boat", "CREATE TABLE") if text not in shown] == []
    assert ("│ a;b " in shown) != ("│ c " in shown)


def test_show_of_a_view_has_no_history_and_one_of_nothing_ends_with_1(bundle: Path) -> None:
    assert command(bundle, "sql", "create view silver.all_boats as select * from silver.boats").returncode == 0
    found = json.loads(command(bundle, "show", "silver.all_boats", "-o", "json").stdout)
    assert (found["type"], len(found["rows"]), "history" in found) == ("VIEW", 2, False)
    done = command(bundle, "show", "silver.nothing")
    assert done.returncode == 1
    assert "TABLE_OR_VIEW_NOT_FOUND" in done.stderr


def test_the_shell_runs_standard_input_with_spark_dbutils_and_the_bundles_modules(bundle: Path) -> None:
    script = """
from databricks.sdk.runtime import dbutils as same
from harbour import DEPTH
table("silver.boats").createOrReplaceTempView("boats_view")
dbutils.fs.put("/Volumes/dev/silver/v/a.txt", "x")
print(DEPTH, spark.table("silver.boats").count(), sql("select max(knots) from boats_view").first()[0], same is dbutils)
display(table("dev.silver.boats"))
"""
    done = command(bundle, "shell", text=script)
    assert done.returncode == 0, done.stderr
    assert "7 2 5 True" in done.stdout
    assert "| a;b|" in done.stdout
    assert (bundle / ".boathouse/default/volumes/dev/silver/v/a.txt").read_text() == "x"


def test_on_a_terminal_the_shell_is_interactive(bundle: Path) -> None:
    ours, theirs = pty.openpty()
    line = [sys.executable, "-c", CODE, "shell"]
    shell = subprocess.Popen(line, cwd=bundle, env={**environ(), "TERM": "dumb"}, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = ""

    def read_until(text: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + 120
        while text not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 65536).decode(errors="replace")

    read_until("In [1]")
    assert "target default, catalog dev: dbutils, display, spark, sql, table" in shown
    os.write(ours, b"print('knots', spark.table('silver.boats').agg({'knots': 'sum'}).first()[0])\n")
    read_until("knots 8")
    os.write(ours, b"exit\n")
    assert shell.wait(60) == 0
    os.close(ours)


def test_sizes_have_the_unit_that_fits() -> None:
    assert [format_size(n) for n in (0, 812, 4200, 13 * 2**20, 5 * 2**40)] == ["0 B", "812 B", "4.1 KiB", "13.0 MiB", "5.0 TiB"]
