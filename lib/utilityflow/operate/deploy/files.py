"""What is rendered and read back: files by their path below the output folder, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from utilityflow import __version__
from utilityflow.errors import UtilityFlowError
from utilityflow.strict import Node, load


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the file below the folder, the line or key, and the words."""

    file: str
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}{':' if self.place else ''}{self.place}: {self.message}"


def at(node: Node, message: str) -> Finding:
    """A finding at a node of a file."""
    return Finding(node.source, f"{node.line} {node.key}".strip(), message)


def as_yaml(value: Any) -> str:
    """YAML text with a head that says where it comes from."""
    head = f"# Rendered by `utilityflow deploy render` {__version__}; `utilityflow deploy check` judges it, also after changes.\n"
    return head + yaml.safe_dump(value, sort_keys=False, width=120, allow_unicode=True)


def as_json(value: Any) -> str:
    """JSON text, indented; the order of keys is that of the value."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@lru_cache(maxsize=64)  # a text is judged, then told about
def parse(name: str, text: str) -> Node | Finding:
    """The nodes of a YAML or JSON file, each with its line; not to be changed."""
    try:
        if name.endswith(".json"):
            json.loads(text, object_pairs_hook=_once)
        return load(text, name)
    except ValueError as error:
        return Finding(name, "", f"not valid JSON: {error}")
    except UtilityFlowError as error:
        return Finding(name, "", error.message.removeprefix(f"{name}: "))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ValueError(f"key '{twice}' stands twice")
    return dict(pairs)


def get(node: Node | None, *path: str | int) -> Node | None:
    """The node below by keys and positions, None where there is none."""
    for step in path:
        if node is None:
            return None
        if isinstance(step, int):
            node = node.value[step] if isinstance(node.value, list) and step < len(node.value) else None
        else:
            node = node.value.get(step) if isinstance(node.value, dict) else None
    return node


def items(node: Node | None) -> list[Node]:
    """The members of a list node; empty for anything else."""
    return node.value if node is not None and isinstance(node.value, list) else []


def plain(node: Node | None, *path: str | int) -> Any:
    """The plain value below, None where there is none."""
    found = get(node, *path)
    return None if found is None else found.plain()


def scalars(node: Node) -> Iterator[Node]:
    """Every text and number below a node."""
    children: Iterable[Node] = ()
    if isinstance(node.value, dict):
        children = node.value.values()
    elif isinstance(node.value, list):
        children = node.value
    else:
        yield node
    for child in children:
        yield from scalars(child)
