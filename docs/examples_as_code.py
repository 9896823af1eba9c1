"A griffe extension: the `>>>` examples of a docstring become blocks of code on the reference pages."

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^[ ]*>>> .*\n?(?:^[ ]*\S.*\n?)*)+", re.MULTILINE)


class ExamplesAsCode(griffe.Extension):
    "Puts each example into a fenced block."

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        "Rewrite the docstring of one object."
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", obj.docstring.value)
