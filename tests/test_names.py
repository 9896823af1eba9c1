"""Names that say what they are: no bare participles, one owner per public name, sentences of at most 35 words. The lists of exceptions only shrink."""

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
PROTOCOLS = {"main"}  # what several packages define for the same caller

# Still to be renamed, or to be cut. What a test finds beyond its list is new; what it does not find there any more leaves the list.
STILL_THERE = words("""
boathouse/features/lookups.py:asked boathouse/features/lookups.py:known boathouse/features/training_sets.py:made
boathouse/ingest/files.py:Found boathouse/ingest/files.py:look boathouse/monitoring/drift.py:one boathouse/point_in_time/join.py:Asked
boathouse/point_in_time/match.py:whole boathouse/point_in_time/spark.py:Told boathouse/point_in_time/spark.py:told
boathouse/quality/quarantine.py:told boathouse/registry/cli.py:asked boathouse/registry/manifest.py:made boathouse/registry/manifest.py:one
boathouse/registry/manifest.py:told boathouse/registry/promotions.py:look boathouse/runtime.py:kept boathouse/serving/deployment.py:asked
boathouse/serving/feature_models.py:told boathouse/tables/evolution.py:made boathouse/tables/table.py:gone
boathouse/validation/explanation.py:told boathouse/validation/gate.py:Asked boathouse/validation/gate.py:known
boathouse/validation/gate.py:put boathouse/validation/leakage.py:alone boathouse/workspace/bundle/includes.py:_known
boathouse/workspace/bundle/yaml_tree.py:put boathouse/workspace/cluster/cluster.py:gone boathouse/workspace/cluster/query.py:said
boathouse/workspace/graph/state_machine.py:kept boathouse/workspace/notebooks/magics.py:Asked boathouse/workspace/notebooks/magics.py:asked
boathouse/workspace/packages/requirements.py:Asked boathouse/workspace/packages/requirements.py:_asked
boathouse/workspace/packages/requirements.py:asked boathouse/workspace/worker/notebook/streams.py:Kept flights/deployment.py:given
flights/monitoring.py:told
""")
STILL_SHARED = words("""
Asked BASELINE BITS CHAMPION CREATE DAY DAYS DEEPEST Decision EVENTS Evidence FAILED FIELD FILE FIRST Files Finding HOUR INK KINDS
LAST_LINES LEVELS LINE LONGEST Line MOST NAME NAMES OURS OWN OWNER PARTS PLAIN Policy QUIET REFERENCE RUN_HERE Rule SETTING SETTINGS SPACES
STYLE Section Span TAG TOLERANCE Wanted as_text asked better calibration chart check compared content_hash declared described environment
facts facts_of find hashes holds instants judge kept line_of listed look looked_at mark measure measured metrics missing named newest
perform places plain plan problem quoted read record refusals refuse register reject requeue resolve rounded run_sql search settled shadowed
short show shown source_of spread start status stop summary table_of text_of ticks told training_facts typed validate write written
""")
STILL_LONG = words("""
boathouse/point_in_time/ranges.py:smallest boathouse/training/search.py:chart boathouse/validation/leakage.py:like_training
flights/validation.py:held_out
""")


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
    "The names that a module defines at its top, without those that begin with an underscore."
    for node in tree_of(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        else:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            names = [leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


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
    assert forbidden_names() == STILL_THERE


def test_no_public_name_is_defined_in_two_packages() -> None:
    assert shared_names() == STILL_SHARED


def test_no_sentence_of_a_docstring_is_longer_than_35_words() -> None:
    assert long_sentences() == STILL_LONG
