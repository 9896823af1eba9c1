"""Every regular expression of the workspace package ends, whatever text it is given; and a reference is read as its grammar says."""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import boathouse.workspace
from boathouse.workspace.bundle.interpolation import REFERENCE
from boathouse.workspace.spark import dialect

PACKAGE = Path(boathouse.workspace.__file__).parent
CALLS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
# A pattern that tries two ways for each letter does not come to the end of the shorter texts, one that needs the cube of a text's length not to
# that of the longer ones. The whole takes some seconds.
SHORT, LONG, DEADLINE = 100, 3_000, 90.0

# Run by an interpreter of its own, which can be killed. For each pattern: texts that it begins to match, with a part of it repeated, and
# that it cannot match in the end.
CHILD = """
import json, re, re._constants as c, re._parser as parser, sys

SHORT, LONG = int(sys.argv[1]), int(sys.argv[2])
PUMPS = ["a", "-", "_", ".", " ", "1", "0", "a-", "a_", "a.", "a1", "-_", "[0]", "${", "{{", "{{a.", "${a", "${a.b", "$", "%", "`", "'", '"', "(", "/",
         "\\\\", "\\n", "*", "\\t ", ".whl", " .whl ", "--a ", "/*", ":a", "COMMAND ", "a=", "#", "\\u00e9", "GMT+"]
STARTS = ["", "a", "${a", "${resources.a", "{{", "{{a", "[", "--a", "$a=", "CREATE WIDGET TEXT a DEFAULT '", "a.whl [", "/*"]
ENDS = ["", "!", "}", "}/x", "\\x00"]


def first_of(members):
    for kind, value in members:
        if kind is c.LITERAL:
            return chr(value)
        if kind is c.RANGE:
            return chr(value[0])
        if kind is c.CATEGORY:
            return {c.CATEGORY_DIGIT: "1", c.CATEGORY_SPACE: " ", c.CATEGORY_NOT_WORD: "-"}.get(value, "a")
    return "a"


def walk(parsed, before=""):
    "A text that the pattern matches; on the way, each repeated part with what stands before it."
    text = ""
    for kind, value in parsed:
        if kind is c.LITERAL:
            text += chr(value)
        elif kind in (c.NOT_LITERAL, c.ANY):
            text += "a"
        elif kind is c.IN:
            negated = value[0][0] is c.NEGATE
            text += next((x for x in "a1-. !" if re.fullmatch(_set(value), x)), "a") if negated else first_of(value)
        elif kind is c.SUBPATTERN:
            text += walk(value[3], before + text)
        elif kind is c.ATOMIC_GROUP:
            text += walk(value, before + text)
        elif kind is c.BRANCH:
            samples = [walk(one, before + text) for one in value[1]]
            repeats.append((before + text, "".join(samples)))
            text += samples[0]
        elif kind in (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT):
            once = walk(value[2], before + text)
            repeats.append((before + text, once))
            text += once * max(1, value[0])
    return text


def _set(members):
    names = {c.CATEGORY_DIGIT: r"\\d", c.CATEGORY_NOT_DIGIT: r"\\D", c.CATEGORY_SPACE: r"\\s", c.CATEGORY_NOT_SPACE: r"\\S",
             c.CATEGORY_WORD: r"\\w", c.CATEGORY_NOT_WORD: r"\\W"}
    inside = ""
    for kind, value in members[1:]:
        inside += re.escape(chr(value)) if kind is c.LITERAL else names[value] if kind is c.CATEGORY else f"{chr(value[0])}-{chr(value[1])}"
    return f"[^{inside}]"


for text in sys.stdin:
    where, pattern, flags = json.loads(text)
    print(json.dumps([where, pattern]), flush=True)
    repeats = []
    whole = walk(parser.parse(pattern, flags))
    compiled = re.compile(pattern, flags)
    own = [*repeats, *((whole, once) for _, once in repeats)]
    tried = [(SHORT, *one) for one in [*own, *((start, pump) for start in STARTS for pump in PUMPS)]] + [(LONG, *one) for one in own]
    for length, start, pump in tried:
        for end in ENDS:
            given = start + pump * (length // max(1, len(pump))) + end
            compiled.match(given)
            compiled.fullmatch(given)
            compiled.search(given)
print("done", flush=True)
"""


class _Values(dict[str, Any]):
    "The names that an expression of a module can use; one that only its function knows stands for a short text."

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, "name")


def _patterns_of(file: Path, name: str) -> Iterator[tuple[str, str, int]]:
    "File and line, text and flags of every pattern that the code of a module hands to `re`."
    module = importlib.import_module(name)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    plain = {t.id: n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re"):
            continue
        first = node.args[0]
        if isinstance(first, ast.Name) and not hasattr(module, first.id):
            first = plain[first.id]
        values = _Values(vars(module))
        pattern = eval(compile(ast.Expression(first), str(file), "eval"), {}, values)
        flags = [word.value for word in node.keywords if word.arg == "flags"]
        flags += (
            node.args[1:2] if node.func.attr == "compile" else node.args[2:3] if node.func.attr in ("match", "fullmatch", "search") else []
        )
        number = eval(compile(ast.Expression(flags[0]), str(file), "eval"), {}, values) if flags else 0
        yield f"{file.relative_to(PACKAGE)}:{node.lineno}", pattern, int(number)


def every_pattern() -> list[tuple[str, str, int]]:
    "The patterns of all modules of the package, and those of the Java classes in `dialect`."
    files = sorted(PACKAGE.rglob("*.py"))
    names = {file: ".".join(["boathouse.workspace", *file.relative_to(PACKAGE).with_suffix("").parts]) for file in files}
    found = [one for file, name in names.items() for one in _patterns_of(file, name.removesuffix(".__init__"))]
    in_java = re.findall(r'Pattern\.compile\("((?:[^"\\]|\\.)*)"', dialect.SOURCE)
    return found + [("dialect.py (Java)", text.replace("\\\\", "\\").replace('\\"', '"'), re.IGNORECASE) for text in in_java]


def spent(patterns: list[tuple[str, str, int]]) -> str:
    "Where the pattern stands that is not done at the deadline, and the pattern; empty if all are."
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(SHORT), str(LONG)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        out, _ = child.communicate("".join(json.dumps(one) + "\n" for one in patterns), timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        child.kill()
        out, _ = child.communicate()
    last = out.splitlines()[-1]
    return "" if last == "done" else " ".join(json.loads(last))


def test_every_pattern_is_done_with_a_text_made_against_it() -> None:
    patterns = every_pattern()
    assert {
        "bundle/interpolation.py",
        "parameters/references.py",
        "worker/notebook/sql.py",
        "packages/requirements.py",
        "cluster/query.py",
        "dialect.py (Java)",
    } <= {w.split(":")[0] for w, _, _ in patterns}
    assert spent(patterns) == ""


@pytest.mark.parametrize(
    "pattern",
    [
        r"\$\{([^\W\d_]+(?:[-_]*[^\W_]+)*(?:\.[^\W\d_]+(?:[-_]*[^\W_]+)*)*)\}",  # references were read by this one
        r"(a*)*b",
    ],
)
def test_a_pattern_that_tries_exponentially_many_ways_is_found(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "DEADLINE", 2.0)
    assert spent([("here:1", "fine+", 0), ("here:2", pattern, 0)]) == f"here:2 {pattern}"


TEXTS = [
    "${resources.volumes.landing.volume_path}/incoming",
    "${resources.postgres_projects.my_project.id}/branches/main",
    "${" + "a" * 5_000 + "}/x",
    "${" + "a" * 5_000,
    "${a" + "-" * 5_000 + "b",
    "${a" + "-_" * 5_000 + "}",
    "${a" + "-b_c" * 5_000 + "}/x",
    "${a" + ".b" * 5_000 + "}/x",
    "${a" + "." * 5_000 + "}",
    "${a" + "[0]" * 5_000 + "}/x",
    "${a" + "[" * 5_000 + "}",
    "${a[" + "0" * 5_000 + "}",
    "${" * 5_000,
    "${a" * 5_000 + "}",
]


def test_a_text_that_begins_with_a_reference_and_goes_on_is_read_at_once() -> None:
    code = "import json, sys\nfrom boathouse.workspace.bundle.interpolation import REFERENCE\n"
    code += "print(json.dumps([[REFERENCE.fullmatch(t) is not None, len(REFERENCE.findall(t))] for t in json.load(sys.stdin)]))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(TEXTS), capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    found = [1, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1]
    assert json.loads(done.stdout) == [[False, number] for number in found]


def is_reference(text: str) -> bool:
    "The grammar of a reference, read from the left, one character after the other."
    if not (text.startswith("${") and text.endswith("}") and len(text) > 3):
        return False
    return all(_is_step(step) for step in text[2:-1].split("."))


def _is_step(step: str) -> bool:
    name, *indexes = step.split("[")
    return _is_name(name) and all(i.endswith("]") and i[:-1] and set(i[:-1]) <= set("0123456789") for i in indexes)


def _is_name(name: str) -> bool:
    def is_letter(x: str) -> bool:
        return x.isalnum() and not x.isdecimal()

    return bool(name) and is_letter(name[0]) and name[-1].isalnum() and all(x.isalnum() or x in "-_" for x in name)


@given(st.text("aZé1²-_.[]0${} ", max_size=12))
def test_a_reference_is_what_the_grammar_says(inside: str) -> None:
    for text in (inside, f"${{{inside}}}", f"${{a{inside}}}", f"${{a.b{inside}}}"):
        assert (REFERENCE.fullmatch(text) is not None) == is_reference(text), text
