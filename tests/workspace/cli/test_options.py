"""What all commands share: the bundle around the working directory, examples in the help, aliases, completion, and refusals."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from boathouse.workspace.cli.commands import runs
from boathouse.workspace.cli.main import main
from boathouse.workspace.cli.refusals import EXTRA

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src"
BUNDLE = """
bundle: {name: tiny}
resources:
  jobs:
    small:
      description: Writes a table
      parameters: [{name: rows, default: "3"}, {name: text, default: ""}]
      tasks: [{task_key: write, spark_python_task: {python_file: write.py}}]
    smart: {tasks: [{task_key: t, spark_python_task: {python_file: write.py}}]}
targets: {local: {default: true}, prod: {}}
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "databricks.yml").write_text(BUNDLE)
    (tmp_path / "write.py").write_text("print(1)\n")
    (tmp_path / "src" / "deep").mkdir(parents=True)
    return tmp_path


def commands(group: click.Group = main, above: str = "") -> Iterator[tuple[str, click.Command]]:
    "Every command of boathouse itself with its words, those of groups too."
    for name, command in group.commands.items():
        yield f"{above}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")


def test_a_command_finds_the_bundle_from_any_folder_below_it(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle / "src" / "deep")
    for words in (["run"], ["runs"], ["validate"], ["graph"], ["tables"]):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    assert (bundle / ".boathouse" / "local").is_dir()
    assert not list((bundle / "src").glob("**/.boathouse"))


def test_outside_any_bundle_the_error_names_the_folders_that_were_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    done = CliRunner().invoke(main, ["run"])
    assert done.exit_code == 2
    assert f"Searched: {tmp_path}/a/b, {tmp_path}/a, {tmp_path}, " in done.stderr
    assert "--bundle DIR" in done.stderr


def test_the_option_bundle_names_one_folder_and_nothing_above_it_is_searched(bundle: Path) -> None:
    assert CliRunner().invoke(main, ["run", "--bundle", str(bundle)]).exit_code == 0
    done = CliRunner().invoke(main, ["run", "--bundle", str(bundle / "src")])
    assert (done.exit_code, done.stderr.split(". ")[0]) == (2, f"there is no databricks.yml in {bundle / 'src'}")


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"boathouse {version('boathouse')}\n"


def test_o_json_is_json_in_the_result_and_in_a_refusal(bundle: Path) -> None:
    at = ["--bundle", str(bundle)]
    plain, alias = (CliRunner().invoke(main, ["run", *at, *words]).stdout for words in (["--json"], ["-o", "json"]))
    assert json.loads(alias) == json.loads(plain)
    for words in (["run", "nowhere", *at, "-o", "json"], ["run", "--bogus", "--output=json"]):
        assert "message" in json.loads(CliRunner().invoke(main, words).stdout)["error"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--params", "rows=3,rwos=4"], "job 'small' declares no parameter 'rwos'. Did you mean 'rows'?"),
        (["--params", "rows=3,4"], "--params: '4' is not of the form NAME=VALUE. A value with a comma is given by --param."),
        (["--param", "rows=3", "--param", "txet=a,b=c"], "job 'small' declares no parameter 'txet'."),
    ],
)
def test_params_takes_several_values_and_param_one_with_commas(bundle: Path, words: list[str], expected: str) -> None:
    done = CliRunner().invoke(main, ["run", "small", "--bundle", str(bundle), *words])
    assert done.exit_code == 2
    assert expected in done.stderr


def test_every_command_has_examples_and_each_of_them_can_be_parsed() -> None:
    for name, command in [("", main), *commands()]:
        epilog = command.epilog or ""
        assert epilog.startswith("\b\nExamples:\n  boathouse "), name
        for line in epilog.splitlines()[2:]:
            words = [word for word in shlex.split(line.partition("  # ")[0]) if word not in ("<", ">", ">>")]
            assert words[0] == "boathouse"
            if "completion" not in words:
                parse(main, words[1:])


def test_the_commands_of_installed_packages_have_examples_too() -> None:
    context = click.Context(main)
    brought = [name for name in main.list_commands(context) if name not in main.commands]
    assert brought == ["models", "reproduce", "serve", "trace"]
    for name in brought:
        command = main.get_command(context, name)
        assert command is not None
        assert f"\b\nExamples:\n  boathouse {name}" in (command.help or "")


def parse(command: click.Command, words: list[str]) -> None:
    "Parse a command line down to its last command, without running it; click raises UsageError if it cannot."
    if isinstance(command, click.Group) and (words or not command.invoke_without_command):
        inner = command.commands[words[0]]
        parse(inner, words[1:])
    else:
        operands = [w for w in words if not re.search(r"\.(sql|mmd|py)$", w) or "-f" in words]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(click.File, "convert", lambda self, value, *_: value)  # report.sql need not be there
            if "--help" not in operands:
                command.make_context("boathouse", operands)


def test_the_help_shows_the_first_sentence_of_each_command_whole() -> None:
    shown = " ".join(CliRunner().invoke(main, ["--help"]).stdout.partition("Jobs:")[2].split())
    assert "..." not in shown
    for name, command in commands():
        if " " not in name:
            sentence = " ".join((command.help or "").split()).partition(". ")[0].rstrip(".")
            assert f"{name} {sentence}." in shown


def test_bash_completes_jobs_and_targets_of_the_bundle(bundle: Path) -> None:
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        environ = {**os.environ, "_BOATHOUSE_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        code = "from boathouse.workspace.cli.entry import main; main()"
        done = subprocess.run([sys.executable, "-c", code], cwd=bundle / "src", env=environ, capture_output=True, text=True, check=True)
        return [found.partition(",")[2] for found in done.stdout.split()]

    assert complete("boathouse run sm") == ["small", "smart"]
    assert complete("boathouse run small -t ") == ["local", "prod"]
    assert complete("boathouse comp") == ["completion"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str) -> None:
    assert f"_BOATHOUSE_COMPLETE={shell}_complete" in CliRunner().invoke(main, ["completion", shell]).stdout


def test_an_unexpected_error_is_one_line_and_with_debug_a_traceback(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(runs.runs, "callback", fail)
    done = CliRunner().invoke(main, ["runs", "--json"])
    assert (done.exit_code, done.stderr) == (
        1,
        "unexpected error: ZeroDivisionError: by zero. Repeat the command with --debug for the traceback.\n",
    )
    assert "ZeroDivisionError" in json.loads(done.stdout)["error"]["message"]
    for words in (["runs", "--debug"], ["-v", "runs"]):
        assert isinstance(CliRunner().invoke(main, words).exception, ZeroDivisionError)


def bare_python(*words: str, beside: Path | None = None) -> subprocess.CompletedProcess[str]:
    "boathouse in an interpreter that has the standard library alone, and what lies in the folder `beside`."
    path = os.pathsep.join(map(str, [SOURCE, *([beside] if beside else [])]))
    code = "from boathouse.workspace.cli.entry import main; main()"
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *words],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_extra_local_the_command_line_prints_how_to_install_it() -> None:
    done = bare_python("run", "small", "--json")
    assert done.returncode == 2
    assert done.stderr == "the package 'click' is not installed. Install what running jobs needs: pip install \"boathouse[local]\"\n"
    assert 'pip install "boathouse[local]"' in json.loads(done.stdout)["error"]["message"]


def test_with_click_alone_the_help_works_and_a_command_prints_how_to_install_the_rest(bundle: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "click").symlink_to(Path(click.__file__).parent)
    assert "Run the jobs of a Databricks bundle" in bare_python("--help", beside=beside).stdout
    for words in (["run"], ["validate"], ["sql", "select 1"], ["doctor"]):
        done = bare_python(*words, "--bundle", str(bundle), beside=beside)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert re.fullmatch(r"the package '\S+' is not installed\. .*pip install \"boathouse\[local\]\"\n", done.stderr)


def test_the_list_of_the_extras_modules_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = {re.split(r"[=<>~\[]", requirement)[0] for requirement in project["optional-dependencies"]["local"]}
    assert set(EXTRA.values()) == stated
