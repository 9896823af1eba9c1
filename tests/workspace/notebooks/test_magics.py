"""What a cell asks for, taken apart without running anything: Databricks' magics and SQL cells."""

from __future__ import annotations

import pytest

from boathouse.workspace.notebooks.magics import CellMagic, MagicError, fs_arguments, parse_cell, run_arguments, without_installs
from boathouse.workspace.worker.notebook.sql import bind_widgets, statements, substitute_widgets


@pytest.mark.parametrize(
    ("source", "wants"),
    [
        ("x = 1", CellMagic("python", "x = 1")),
        ("%python\nx = 1", CellMagic("python", "x = 1", "", 1)),
        ("%sql select 1", CellMagic("sql", "select 1", "select 1")),
        ("\n%sql\n\nselect 1", CellMagic("sql", "select 1", "", 3)),
        ("%md-sandbox\n# Boats", CellMagic("md", "# Boats", "", 1)),
        ("%run ./a $n=\"1\"", CellMagic("run", './a $n="1"', './a $n="1"')),
        ("%run ./a\n# a reason\n", CellMagic("run", "./a\n# a reason", "./a")),
        ("%%time\nx = 1", CellMagic("python", "%%time\nx = 1")),
        ("%matplotlib inline", CellMagic("python", "%matplotlib inline")),
        ("%skip\n1 / 0", CellMagic("skip", "1 / 0", "", 1)),
    ],
)  # fmt: skip
def test_a_cell_asks_by_its_first_word(source: str, wants: CellMagic) -> None:
    assert parse_cell(source) == wants


def test_a_cell_without_a_magic_is_in_the_notebooks_language() -> None:
    assert parse_cell("select 1", "sql") == CellMagic("sql", "select 1")
    assert parse_cell("%python\nx = 1", "sql").name == "python"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("%scala\nval x = 1", "a %scala cell cannot run in the local workspace, which has Python and SQL"),
        ("%r\nx <- 1", "a %r cell cannot run in the local workspace, which has Python and SQL"),
        ("%run ./a\nx = 1", "%run stands alone in its cell"),
    ],
)
def test_what_cannot_run_is_refused_by_name(source: str, message: str) -> None:
    with pytest.raises(MagicError) as refused:
        parse_cell(source)
    assert str(refused.value) == message


def test_installations_are_taken_out_and_the_lines_below_keep_their_numbers() -> None:
    code, left_out = without_installs("%pip install -q \\\n  oars\ndbutils.library.restartPython()\n! pip3 install sculls\nx = 7 %2\n")
    assert code == "\n\ndbutils.library.restartPython()\n\nx = 7 %2\n"
    assert left_out == ["%pip install -q \\", "oars", "! pip3 install sculls"]


def test_run_takes_a_path_and_values_for_widgets() -> None:
    assert run_arguments('"./a b" $x="1 2" $y=3') == ("./a b", {"x": "1 2", "y": "3"})
    for wrong, message in (("", "lacks the path"), ("./a x=1", "'x=1' is not of the form"), ('./a $x="1', "No closing quotation")):
        with pytest.raises(MagicError, match=message):
            run_arguments(wrong)


def test_fs_takes_a_command_its_paths_and_r() -> None:
    assert fs_arguments("cp -r /Volumes/c/s/v/a '/Volumes/c/s/v/b c'") == ("cp", ["/Volumes/c/s/v/a", "/Volumes/c/s/v/b c"], True)
    assert fs_arguments("ls /tmp") == ("ls", ["/tmp"], False)
    for wrong, message in (("", "lacks a command"), ("ls -l /tmp", "no option '-l'")):
        with pytest.raises(MagicError, match=message):
            fs_arguments(wrong)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("select 1;\nselect ';' as x", ["select 1", "select ';' as x"]),
        ("-- only a comment\n", []),
        ("", []),
        (
            "create temp view v as select 1;\n/* why */ select * from v;\n-- end",
            ["create temp view v as select 1", "/* why */ select * from v"],
        ),
        ("select case when 1 > 0 then 'a;b' else 'c' end; select 2", ["select case when 1 > 0 then 'a;b' else 'c' end", "select 2"]),
        ("BEGIN\n  DECLARE n INT;\n  SET n = 1;\n  SELECT n;\nEND;", ["BEGIN\n  DECLARE n INT;\n  SET n = 1;\n  SELECT n;\nEND"]),
    ],
)
def test_a_sql_cell_is_its_statements(text: str, parts: list[str]) -> None:
    found = statements(text)
    assert [part.split("\n-- end")[0] for part in found] == parts


def test_widgets_are_parameters_of_sql_by_colon_and_text_by_dollar() -> None:
    values = {"n": "8", "table": "dev.boats", "int": "9"}
    assert bind_widgets("select :n, x::int, raw:int, ':' from t", values) == {"n": "8"}
    assert substitute_widgets("select * from ${table} where n = '${ n }' and x = '${other}' or y = '\\${n}'", values) == (
        "select * from dev.boats where n = '8' and x = '${other}' or y = '\\${n}'"
    )
