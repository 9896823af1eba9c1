"""Parse the magics of Databricks in a notebook's cells, without running anything."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

MAGIC = re.compile(r"%(md-sandbox|[a-z]+)\b[ \t]*", re.IGNORECASE)
OURS = {"md", "sql", "run", "sh", "fs", "python", "skip"}
FOREIGN = {"scala", "r"}
INSTALL = re.compile(r"[ \t]*(%(pip|conda|uv)|![ \t]*(pip3?|uv)|%uv[ \t]+pip)\b", re.IGNORECASE)
ARGUMENT = re.compile(r"\$([\w.-]+)=(.*)", re.DOTALL)


class MagicError(Exception):
    "Signal that a cell uses a magic wrongly, or one that the local workspace does not have."


@dataclass(frozen=True)
class CellMagic:
    """Hold a parsed cell. `name` is the magic, else the notebook's language.

    `body` is the text for it, which begins at line `line` of the cell (0 is the first). `rest` is the rest of the magic's own line.
    """

    name: str
    body: str
    rest: str = ""
    line: int = 0


def parse_cell(source: str, language: str = "python") -> CellMagic:
    "Return the parsed cell. A cell without a magic is in the notebook's language; one with a magic of IPython's own is Python."
    text = source.lstrip()
    above = source[: len(source) - len(text)].count("\n")
    found = MAGIC.match(text)
    name = found[1].lower().removesuffix("-sandbox") if found else ""
    if name in FOREIGN:
        raise MagicError(f"a %{name} cell cannot run in the local workspace, which has Python and SQL")
    if found is None or name not in OURS:
        return CellMagic(language if found is None else "python", source)
    body = text[found.end() :]
    rest = body.split("\n", 1)[0].strip()
    if name == "run" and any(line.strip() and not line.lstrip().startswith("#") for line in body.split("\n")[1:]):
        raise MagicError("%run stands alone in its cell")
    return CellMagic(name, body.strip("\n"), rest, above + len(body) - len(body.lstrip("\n")))


def without_installs(source: str) -> tuple[str, list[str]]:
    "Return a Python cell with its `%pip` and `!pip` lines blank, and those lines."
    kept, left_out, going_on = [], [], False
    for line in source.split("\n"):
        if going_on or INSTALL.match(line):
            left_out.append(line.strip())
            going_on = line.rstrip().endswith("\\")
            kept.append("")
        else:
            kept.append(line)
    return "\n".join(kept), left_out


def run_arguments(rest: str) -> tuple[str, dict[str, str]]:
    """Return the path and the values of `%run path $name="value" ...`."""
    words = _words(rest)
    if not words:
        raise MagicError("%run lacks the path of a notebook")
    values = {}
    for word in words[1:]:
        found = ARGUMENT.fullmatch(word)
        if found is None:
            raise MagicError(f"%run: '{word}' is not of the form $name=\"value\"")
        values[found[1]] = found[2]
    return words[0], values


def fs_arguments(rest: str) -> tuple[str, list[str], bool]:
    "Return, for `%fs command ...`, the command of `dbutils.fs`, its arguments, and whether it is recursive (`-r`)."
    words = _words(rest)
    flags = [word for word in words if word.startswith("-")]
    if unknown := [flag for flag in flags if flag not in ("-r", "--recurse")]:
        raise MagicError(f"%fs has no option '{unknown[0]}'; there is -r")
    plain = [word for word in words if not word.startswith("-")]
    if not plain:
        raise MagicError("%fs lacks a command: ls, head, put, cp, mv, rm or mkdirs")
    return plain[0], plain[1:], bool(flags)


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise MagicError(f"'{rest}': {error}") from None
