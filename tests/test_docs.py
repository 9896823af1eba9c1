"The pages of docs/ and the README: their code and commands run, their links resolve, and the site builds without a warning."

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import click
import mlflow
import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from pyspark.sql import SparkSession

from boathouse.workspace.cli.main import main as command_line

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")), *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def without_blocks(text: str) -> str:
    "A page without its fenced and indented code."
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    "The anchors of a page's headings, as GitHub and mkdocs make them."
    headings = re.findall(r"^#+ (.+)$", without_blocks(page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading)).strip().lower() for heading in headings)
    return {text.replace(" ", "-") for text in plain}


def broken_links(page: Path) -> list[str]:
    "The relative links and pictures of a page that lead nowhere."
    found = []
    text = without_blocks(page.read_text(encoding="utf-8"))
    for link in (*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r"src=\"([^\"]+)\"", text)):
        target, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or ROOT not in file.parents or (anchor and file.suffix == ".md" and anchor not in anchors_of(file)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_list_begins_after_an_empty_line(page: Path) -> None:
    "Else mkdocs shows it as a part of the paragraph before."
    lines = without_blocks(page.read_text(encoding="utf-8")).splitlines()
    item = re.compile(r"([-*]|\d+\.) ")
    assert [b for a, b in itertools.pairwise(lines) if item.match(b) and a.strip() and not item.match(a.lstrip()) and a[0] != " "] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_of_a_page_resolves(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_without_a_target_is_found() -> None:
    page = ROOT / "docs" / "operations.md"
    here = ROOT / "docs" / "_test_links.md"
    here.write_text("[a](operations.md) [b](nothing.md) [c](differences.md#nowhere) [d](differences.md#catalogs) ![e](img/none.png)\n")
    try:
        assert broken_links(here) == ["nothing.md", "differences.md#nowhere", "img/none.png"]
        assert "catalogs" in anchors_of(page.parent / "differences.md")
    finally:
        here.unlink()


def test_the_site_builds_without_a_warning_and_without_a_network(tmp_path: Path) -> None:
    "As `mkdocs build --strict`; no page loads a font, script, style or picture from elsewhere."
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True)
    build(config)
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= 25
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^\s\"'>]+")
    elsewhere = {(page.name, found) for page in pages for found in loads.findall(page.read_text(encoding="utf-8"))}
    assert {found for _, found in elsewhere if 'rel="canonical"' not in found} == set()
    front = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "Run the jobs of your Databricks bundle" in front
    assert 'href="operations.html"' in front
    assert {"card.png", "run.svg"} <= {
        Path(source).name for source in re.findall(r'src="(img/[^"]+)"', front) if (tmp_path / "site" / source).is_file()
    }
    assert "point_in_time" in (tmp_path / "site" / "reference" / "point_in_time.html").read_text(encoding="utf-8")


def blocks_of(page: Path) -> list[tuple[int, str]]:
    "(line, code) of each block of Python in a page."
    text = page.read_text(encoding="utf-8")
    return [
        (text[: found.start(1)].count("\n"), found[1]) for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


def commands_of(page: Path) -> list[str]:
    "The commands `boathouse ...` and `make ...` that a page shows: lines of code, and code within a sentence."
    text = page.read_text(encoding="utf-8")
    indented = re.findall(r"^ {4}((?:boathouse|make) [^\n#]+)", text, re.MULTILINE)
    inline = re.findall(r"`((?:boathouse|make) [^`]+)`", without_blocks(text))
    return [found.strip() for found in (*indented, *inline)]


def wrong_with(command: str) -> str:
    "What keeps a shown command from being typed: an unknown subcommand, option or target; empty if nothing does."
    words = shlex.split(command)
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        return next((f"make has no target {word}" for word in words[1:] if "=" not in word and word not in targets), "")
    context, rest, name = click.Context(command_line), words[1:], "boathouse"
    known: click.Command = command_line
    while isinstance(known, click.Group) and rest and not rest[0].startswith("-"):
        inner = known.get_command(context, rest[0])
        if inner is None:
            return f"{name} has no command {rest[0]}"
        known, name, rest = inner, f"{name} {rest[0]}", rest[1:]
    if known.context_settings.get("ignore_unknown_options"):  # a command of a package parses its words itself
        return ""
    options = {name for parameter in known.get_params(context) for name in (*parameter.opts, *parameter.secondary_opts)}
    options |= set(known.get_help_option_names(context))
    return next((f"{name} has no option {word}" for word in rest if re.match(r"--?[a-z]", word) and word.split("=")[0] not in options), "")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_a_page_shows_exists(page: Path) -> None:
    wrong = {command: why for command in commands_of(page) if (why := wrong_with(command))}
    assert wrong == {}


def test_a_command_that_does_not_exist_is_found() -> None:
    assert wrong_with("boathouse run ingest --param as_of=2013-03-01 -t dev") == ""
    assert wrong_with("boathouse cluster stop --force") == ""
    assert wrong_with("boathouse fly") == "boathouse has no command fly"
    assert wrong_with("boathouse run ingest --parm a=1") == "boathouse run has no option --parm"
    assert wrong_with("make fly") == "make has no target fly"


def test_the_page_on_your_own_tables_runs(spark: SparkSession) -> None:
    "Its blocks run in order, in one namespace; afterwards the first model serves, and nine orders without a price lie in the quarantine."
    page = ROOT / "docs" / "your-tables.md"
    blocks, names = blocks_of(page), {}
    try:
        for line, code in blocks:
            exec(compile("\n" * line + code, str(page), "exec"), names)
        assert names["written"].counts["amount_is_positive"] == 9
        assert names["verdict"].accepted, [(a.name, a.reason) for a in names["verdict"].answers if not a.passed]
        assert names["champion"] == names["version"] == 1
        assert len(blocks) == 11
    finally:
        spark.sql("DROP SCHEMA IF EXISTS spark_catalog.shop CASCADE")
        client = mlflow.MlflowClient()
        if client.search_registered_models("name = 'spark_catalog.shop.returns'"):
            client.delete_registered_model("spark_catalog.shop.returns")


def test_the_bundle_of_the_page_is_valid_and_runs(tmp_path: Path) -> None:
    "The files of the page in an empty folder, and the page's own commands on a background cluster: validated, and run from the checkout and from the wheel."
    page = (ROOT / "docs" / "your-bundle.md").read_text(encoding="utf-8")
    files = re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(files) == 6
    for name, text in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    shown = page[page.index("Now run it.") :]
    commands = re.findall(r"^ {4}(boathouse .+)$", shown[: shown.index("<img")], re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["validate", "run", "run"]

    def typed(command: str) -> str:
        words = [Path(sys.executable).parent / "boathouse", *shlex.split(command)[1:]]
        shared = {name: value for name, value in os.environ.items() if name != "BOATHOUSE_CLUSTER"}
        done = subprocess.run(words, cwd=tmp_path, env=shared, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    try:
        valid, whole, small = map(typed, commands)
    finally:
        typed("boathouse cluster stop --force")
    assert valid == "Valid: dev.\n"
    north = [int(re.search(r"north: (\d+)", out)[1]) for out in (whole, small)]
    assert north[0] > 30 * north[1] > 0
