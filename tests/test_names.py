"""Names that say what they are: no bare participles, one owner per public name, sentences of at most 35 words."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SRC = Path(__file__).parent.parent / "src"
MODULES = {path.relative_to(SRC).as_posix(): path for path in sorted(SRC.rglob("*.py"))}
LONGEST = 35  # words in a sentence of a docstring


def words(text: str) -> set[str]:
    return set(text.split())


FORBIDDEN = words("asked told said made gone found known one put look given whole alone kept lived twin harbour")
PLATFORM = {"boathouse/workspace/worker/dbutils/fs.py:put"}  # what Databricks calls so
PROTOCOLS = {"main", "Section"} | {
    "promote",
    "score",
    "validate",
}  # for the same caller; and one call per step (boathouse.steps) by its own word


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def forbidden_names() -> set[str]:
    "Functions, classes and modules that are called by a forbidden word alone, as `module:name`."
    found = {module for module, path in MODULES.items() if path.stem in FORBIDDEN}
    for module in MODULES:
        defined = (node.name for node in ast.walk(tree_of(module)) if isinstance(node, ast.FunctionDef | ast.ClassDef))
        found |= {f"{module}:{name}" for name in defined if name.strip("_").lower() in FORBIDDEN}
    return found - PLATFORM


def package_of(module: str) -> str:
    "The package that owns a module: `flights`, a package of the kit, or one of the workspace."
    steps = module.removesuffix(".py").split("/")[:-1]
    return "/".join(steps[:3] if steps[:2] == ["boathouse", "workspace"] else steps[:2])


def public_names(module: str) -> Iterator[str]:
    "The functions and classes that a module defines at its top, without those that begin with an underscore."
    for node in tree_of(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def shared_names() -> set[str]:
    "Public names that more than one package defines."
    owners = defaultdict(set)
    for module in MODULES:
        for name in public_names(module):
            owners[name].add(package_of(module))
    return {name for name, packages in owners.items() if len(packages) > 1} - PROTOCOLS


def long_sentences() -> set[str]:
    "Docstrings with a sentence of more than `LONGEST` words, as `module:name`; a block that click prints as it is, is no sentence."
    found = set()
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                blocks = [b for b in (ast.get_docstring(node) or "").split("\n\n") if not b.startswith("\b") and ">>>" not in b]
                if any(len(s.split()) > LONGEST for b in blocks for s in re.split(r"(?<=[.!?])\s", b)):
                    found.add(f"{module}:{getattr(node, 'name', '')}")
    return found


def test_no_function_class_or_module_is_called_by_a_bare_participle() -> None:
    assert forbidden_names() == set()


def test_no_public_name_is_defined_in_two_packages() -> None:
    assert shared_names() == set()


def test_no_sentence_of_a_docstring_is_longer_than_35_words() -> None:
    assert long_sentences() == set()
