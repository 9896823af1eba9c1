"What mkdocs does besides: the front page of the site is the README, with links as seen from docs/."

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

README = Path(__file__).parent.parent / "README.md"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    "The text of a page; the front page is the README with each relative link rewritten."
    return seen_from_docs(README.read_text(encoding="utf-8")) if page.file.src_uri == "index.md" else markdown


def seen_from_docs(text: str) -> str:
    "The README's text with its relative links as a page of docs/ writes them: `docs/x.md` is `x.md`, anything else lies one folder up."
    return re.sub(r"(\]\(|src=\")(?![a-z]+:|#)(docs/)?", lambda found: found[1] + ("" if found[2] else "../"), text)
