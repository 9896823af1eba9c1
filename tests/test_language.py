"The README and the pages of docs/ are plain: no sentence is long, and words that only their authors read do not come back."

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")), *sorted((ROOT / "docs").rglob("*.md"))]
LONGEST = 35  # words of a sentence

# Sentences that may be longer, by page and first words: each names many figures or names of one kind.
LONG = {
    "CHANGELOG.md": ("In `boathouse`: `platform`", "In `boathouse.validation`: `Answer`"),
    "docs/measurements.md": (
        "A process of its own for each way",
        "Against the aims, for `auto`",
        "Where `auto` spends its CPU seconds on A",
    ),
}

# Words that the glossary replaces. Generated pages and the glossary itself, which lists them, are not searched.
REPLACED = re.compile(r"\b(told|surely|anew|whoever|lives through|golden rows|of its own|a look at|puts? right)\b", re.IGNORECASE)
GENERATED = ("docs/glossary.md", "docs/dirt.md", "docs/tables.md", "docs/validate.md", "docs/measurements.md", "CHANGELOG.md")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def paragraphs(text: str) -> Iterator[str]:
    "The prose of a page: paragraphs, items of lists and cells of tables; no headings and no code."
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    paragraph: list[str] = []
    for line in (*text.splitlines(), ""):
        bare = line.strip()
        apart = not bare or bare[0] in "#<!|>" or re.match(r"([-*]|\d+\.) ", bare)
        if apart and paragraph:
            yield " ".join(paragraph)
            paragraph = []
        if not bare or bare[0] in "#<!" or (line.startswith("    ") and not paragraph):
            continue
        if bare.startswith("|"):
            yield from (cell.strip() for cell in re.split(r"(?<!\\)\|", bare.strip("|")) if cell.strip(" -:"))
        else:
            paragraph.append(re.sub(r"^([-*]|\d+\.|>) ", "", bare))


def sentences(text: str) -> Iterator[str]:
    "The sentences of a page's prose, links by their text."
    for paragraph in paragraphs(text):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)
        code = re.sub(r"`[^`]+`", lambda found: re.sub(r"[.!?]\s", "_", found[0]), plain)
        yield from re.split(r"(?<=[.!?])\s+", code)


def words_in(sentence: str) -> int:
    "How many words a sentence has; code is one."
    return len(re.sub(r"``.*?``|`[^`]*`", "code", sentence).split())


def too_long(text: str) -> list[str]:
    return [sentence for sentence in sentences(text) if words_in(sentence) > LONGEST]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_sentence_of_a_page_is_long(page: Path) -> None:
    text, allowed = page.read_text(encoding="utf-8"), LONG.get(name_of(page), ())
    found = too_long(text)
    assert [f"{words_in(s)} words: {s}" for s in found if not s.startswith(allowed or ("\0",))] == []
    assert [start for start in allowed if not any(s.startswith(start) for s in found)] == [], "no longer there: take it off the list"


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) not in GENERATED], ids=name_of)
def test_a_page_uses_the_words_of_the_glossary(page: Path) -> None:
    found = {word: sentence for sentence in sentences(page.read_text(encoding="utf-8")) for word in REPLACED.findall(sentence)}
    assert found == {}


def test_a_long_sentence_is_found_wherever_it_stands() -> None:
    long = "word " * 36 + "end."
    assert [too_long(text) != [] for text in (long, f"- {long}", f"| a | {long} |", f"Short one. {long}", f"1. {long}")] == [True] * 5
    assert [too_long(text) for text in (f"# {long}", f"    {long}", f"```\n{long}\n```", "word " * 34 + "end.", f"`{long}`")] == [[]] * 5


def test_each_term_of_the_glossary_has_one_line() -> None:
    terms = [
        row.split("|")[1].strip()
        for row in (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
        if row.startswith("| ")
    ]
    terms = [term for term in terms if term != "term"]
    assert len(terms) > 80
    assert sorted({term for term in terms if terms.count(term) > 1}) == []
