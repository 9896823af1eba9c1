"""Errors about an argument state what was expected and what was found."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
ARGUMENT_ERRORS = {"ValueError", "TypeError"}
PLATFORM = ("Secret does not exist", "Must pass debugValue")  # in the words of Databricks
EXPECTED = re.compile(r"\b(must|expected|needs?|requires?|takes?|allowed|there are|it has|they have|are:)")


def text_of(node: ast.expr) -> str:
    "The text of a message in the source, `{}` for each value that it is filled with."
    match node:
        case ast.Constant(value=str() as value):
            return value
        case ast.JoinedStr(values=parts):
            return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left) + text_of(right)
        case ast.IfExp(body=body, orelse=other):
            return text_of(body) + text_of(other)
    return "{}"


def argument_errors(source: str) -> Iterator[tuple[int, str]]:
    "(line, message) of each ValueError or TypeError that the source raises with a message of its own."
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and getattr(node.exc.func, "id", "") in ARGUMENT_ERRORS
            and node.exc.args
        ):
            message = text_of(node.exc.args[0])
            if message != "{}" and not message.startswith(PLATFORM):
                yield node.lineno, message


def incomplete(message: str) -> bool:
    "Whether a message lacks what was expected, or the value that was found."
    return not EXPECTED.search(message) or "{}" not in message


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: path.relative_to(SRC).as_posix())
def test_an_argument_error_states_what_was_expected_and_what_was_found(path: Path) -> None:
    assert [f"{line}: {message}" for line, message in argument_errors(path.read_text(encoding="utf-8")) if incomplete(message)] == []


@pytest.mark.parametrize(
    "message",
    ["f\"boundary '{value}' is one of le, lt\"", "'the window is too short'", "'a length must be positive'"],
)
def test_a_message_that_lacks_one_of_the_two_is_noticed(message: str) -> None:
    [(_, found)] = argument_errors(f"raise ValueError({message})")
    assert incomplete(found)
