"""Read YAML and JSON files into trees whose every node has its file, line and column.

Mappings and sequences are plain `dict` and `list` subclasses. The container of a scalar keeps the scalar's position,
so that values stay ordinary Python values. Scalars follow YAML 1.2, as in the Databricks CLI:
`on`, `yes`, `12:30` and `2013-10-01` are strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from boathouse.workspace.errors import BundleError, Where


class Map(dict[str, Any]):
    "A mapping; `at` is its own place, `keys_at` and `values_at` are those of its entries."

    def __init__(self, at: Where) -> None:
        super().__init__()
        self.at = at
        self.keys_at: dict[str, Where] = {}
        self.values_at: dict[str, Where] = {}

    def add_entry(self, key: str, value: Any, key_at: Where, value_at: Where) -> None:
        "Set an entry together with its places."
        self[key] = value
        self.keys_at[key] = key_at
        self.values_at[key] = value_at

    def take(self, key: str) -> Any:
        "Remove an entry together with its places, and return its value."
        self.keys_at.pop(key, None)
        self.values_at.pop(key, None)
        return self.pop(key, None)

    def like(self) -> Map:
        "Return an empty mapping at the same place."
        return Map(self.at)


class List(list[Any]):
    "A sequence; `at` is its own place, `items_at` are those of its items."

    def __init__(self, at: Where) -> None:
        super().__init__()
        self.at = at
        self.items_at: list[Where] = []

    def add(self, value: Any, at: Where) -> None:
        "Append an item together with its place."
        self.append(value)
        self.items_at.append(at)


def where(node: Any, *path: str | int, key: bool = False) -> Where:
    """Return the place of the value at `path` below `node` (of its key if `key`).

    If it does not exist, return the place of the nearest node above it that does.
    """
    at = node.at
    for i, step in enumerate(path):
        if isinstance(node, Map) and step in node.values_at:
            at = node.keys_at[step] if key and i == len(path) - 1 else node.values_at[step]
        elif isinstance(node, List) and isinstance(step, int) and step < len(node):
            at = node.items_at[step]
        else:
            return at
        node = node[step]
    return at


class _Resolver(yaml.resolver.BaseResolver):
    "Resolve the scalars of YAML 1.2 and `<<`."


_Resolver.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Resolver.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0o[0-7]+|0x[0-9a-fA-F]+|[0-9]+)$"), list("-+0123456789"))
_Resolver.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    list("-+0123456789."),
)
_Resolver.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Resolver.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


class _Python(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer):
    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)


# libyaml reads ten times as fast; a PyYAML without it has the same parser in Python.
_Parser: Any = yaml.cyaml.CParser if yaml.__with_libyaml__ else _Python


class _Loader(_Parser, _Resolver):
    def __init__(self, text: str) -> None:
        _Parser.__init__(self, text)
        _Resolver.__init__(self)


def load(path: Path, shown: str | None = None) -> Map:
    "Return the mapping in a YAML or JSON file; `shown` is the file's name in messages."
    file = shown or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise BundleError(f"the file cannot be read ({e.strerror}).", Where(file)) from e
    except UnicodeDecodeError as e:
        raise BundleError("the file is not UTF-8 text.", Where(file)) from e
    return loads(text.replace("\t", " ") if path.suffix == ".json" else text, file)


def loads(text: str, file: str) -> Map:
    "Return the mapping in the text of one YAML document; an empty document is an empty mapping."
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        at = Where(file, mark.line + 1, mark.column + 1) if mark else Where(file)
        begun = e.context_mark.line + 1 if e.context and e.context_mark else at.line
        above = f" {e.context} that begins in line {begun}. Check the indentation and the quotes from there on" if begun != at.line else ""
        raise BundleError(f"not valid YAML: {e.problem or e.context}{above}.", at) from e
    except yaml.YAMLError as e:
        raise BundleError(f"not valid YAML: {e}", Where(file)) from e
    if node is None:
        return Map(Where(file, 1, 1))
    value = _build(node, file)
    if value is None:
        return Map(Where(file, 1, 1))
    if not isinstance(value, Map):
        raise BundleError("a bundle file holds a mapping at its top.", _at(node, file))
    return value


def anchors(path: Path, shown: str) -> set[Where]:
    "Return the places of all values of a file that have an anchor (`&name`)."
    try:
        events = list(yaml.parse(path.read_text(encoding="utf-8"), Loader=_Loader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return set()
    return {
        _at(event, shown)
        for event in events
        if isinstance(event, yaml.NodeEvent) and event.anchor and not isinstance(event, yaml.AliasEvent)
    }


def all_places(node: Any, at: Where) -> Iterator[Where]:
    "Yield the place `at` of a value, and those of all values below it."
    yield at
    if isinstance(node, Map):
        for key, value in node.items():
            yield from all_places(value, node.values_at[key])
    elif isinstance(node, List):
        for value, item_at in zip(node, node.items_at, strict=True):
            yield from all_places(value, item_at)


def _at(node: yaml.Node | yaml.Event, file: str) -> Where:
    return Where(file, node.start_mark.line + 1, node.start_mark.column + 1)


def _build(node: yaml.Node, file: str, above: tuple[yaml.Node, ...] = ()) -> Any:
    if node in above:
        raise BundleError("this anchor holds itself.", _at(node, file))
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, file, (*above, node))
    if isinstance(node, yaml.SequenceNode):
        items = List(_at(node, file))
        for item in node.value:
            items.add(_build(item, file, (*above, node)), _at(item, file))
        return items
    return _scalar(node, file)


def _mapping(node: yaml.MappingNode, file: str, above: tuple[yaml.Node, ...]) -> Map:
    own, merged = Map(_at(node, file)), Map(_at(node, file))
    for key_node, value_node in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            _merge_into(merged, _build(value_node, file, above), _at(value_node, file))
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise BundleError("a key must be a plain string.", _at(key_node, file))
        key = str(key_node.value)
        if key in own:
            raise BundleError(
                f"the key '{key}' appears twice in this mapping (first at line {own.keys_at[key].line}).", _at(key_node, file)
            )
        own.add_entry(key, _build(value_node, file, above), _at(key_node, file), _at(value_node, file))
    for key in merged:
        if key not in own:
            own.add_entry(key, merged[key], merged.keys_at[key], merged.values_at[key])
    return own


def _merge_into(merged: Map, source: Any, at: Where) -> None:
    for one in source if isinstance(source, List) else [source]:
        if not isinstance(one, Map):
            raise BundleError("'<<' takes a mapping or a list of mappings.", at)
        for key in one:
            if key not in merged:
                merged.add_entry(key, one[key], one.keys_at[key], one.values_at[key])


def _scalar(node: yaml.ScalarNode, file: str) -> Any:
    kind, text = node.tag.rsplit(":", 1)[-1], node.value
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text, 0 if text.lstrip("+-")[:2].lower() in ("0x", "0o") else 10)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as e:
        raise BundleError(f"'{text}' is not a valid {kind}.", _at(node, file)) from e
    if kind != "str" and node.tag.startswith("!"):
        raise BundleError(f"the tag '{node.tag}' means nothing in a bundle.", _at(node, file))
    return text


def copy_tree(node: Any) -> Any:
    "Return a copy of the tree with the same places, which can be changed without changing the first."
    if isinstance(node, Map):
        out = node.like()
        out.keys_at, out.values_at = dict(node.keys_at), dict(node.values_at)
        out.update((key, copy_tree(value)) for key, value in node.items())
        return out
    if isinstance(node, List):
        items = List(node.at)
        items.items_at = list(node.items_at)
        items.extend(copy_tree(value) for value in node)
        return items
    return node


def to_plain_tree(node: Any) -> Any:
    "Return the same tree without positions."
    if isinstance(node, dict):
        return {k: to_plain_tree(v) for k, v in node.items()}
    if isinstance(node, list):
        return [to_plain_tree(v) for v in node]
    return node
