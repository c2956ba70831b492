"""Strict YAML: a file becomes typed dataclasses, and what does not fit is refused with file, line and key.

The three kinds of files that people write (settings, feeds, contracts) are read by this one module. An unknown key is
an error that names the nearest known one; a wrong type names what was expected; a key given twice is refused.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from utilityflow.errors import UtilityFlowError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """A parsed YAML value that remembers where it stood: ``value`` is a scalar, a list of Nodes or a dict of Nodes.

    ``text``: a scalar as it was written, so that 007 given for a text stays 007.
    """

    value: Any
    source: str
    line: int
    key: str = ""
    text: str = ""

    @property
    def where(self) -> str:
        """Human place of the value, ``file:line``."""
        return f"{self.source}:{self.line}"

    def plain(self) -> Any:
        """The value without places: plain lists, dicts and scalars."""
        if isinstance(self.value, dict):
            return {k: v.plain() for k, v in self.value.items()}
        if isinstance(self.value, list):
            return [v.plain() for v in self.value]
        return self.value


class _Loader(yaml.SafeLoader):
    """SafeLoader without the YAML 1.1 surprises on/off/yes/no: such words stay text, dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rx) for tag, rx in pairs if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", __import__("re").compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load(text: str, source: str) -> Node:
    """Parse YAML text into Nodes.

    :param source: the name that errors carry, usually the file's path.
    :raises UtilityFlowError: UF-1003 when it is not YAML, UF-1001 when a key stands twice.
    """
    loader = None
    try:
        loader = _Loader(text)
        tree = loader.get_single_node()
        if tree is None:
            raise UtilityFlowError("UF-1003", f"{source}: the file is empty")
        return _convert(loader, tree, source, "")
    except RecursionError:
        raise UtilityFlowError("UF-1003", f"{source}: nested too deeply") from None
    except yaml.reader.ReaderError as error:
        line = f":{text.count(chr(10), 0, error.position) + 1}"
        raise UtilityFlowError("UF-1003", f"{source}{line}: holds a character that no YAML file may hold") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UtilityFlowError("UF-1003", f"{source}{line}: not valid YAML: {problem}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _convert(loader: _Loader, tree: yaml.Node, source: str, key: str, line: int = 0) -> Node:
    line = line or tree.start_mark.line + 1  # a value stands where its key does
    if isinstance(tree, yaml.MappingNode):
        result: dict[str, Node] = {}
        for key_node, value_node in tree.value:
            name = str(loader.construct_object(key_node, deep=True))
            at = key_node.start_mark.line + 1
            if name in result:
                raise UtilityFlowError("UF-1001", f"{source}:{at}: key '{name}' stands twice")
            result[name] = _convert(loader, value_node, source, f"{key}.{name}" if key else name, at)
        return Node(result, source, line, key)
    if isinstance(tree, yaml.SequenceNode):
        items = [_convert(loader, item, source, f"{key}[{i}]") for i, item in enumerate(tree.value)]
        return Node(items, source, line, key)
    try:
        value = loader.construct_object(tree, deep=True)
    except ValueError:
        raise UtilityFlowError("UF-1003", f"{source}:{line}: '{key}' is not what its tag says") from None
    return Node(value, source, line, key, tree.value if isinstance(tree, yaml.ScalarNode) else "")


def build(cls: type[T], node: Node, **given: Any) -> T:
    """Build the dataclass ``cls`` from a mapping node; field names are the keys that are known.

    A field may carry ``metadata={"key": "other"}`` when its key is no Python name. ``given`` fills fields that do not
    come from the file.

    :raises UtilityFlowError: UF-1001 for an unknown key, UF-1002 for a missing or ill-typed value.
    """
    if not isinstance(node.value, dict):
        raise UtilityFlowError("UF-1002", f"{node.where}: '{node.key or 'the file'}' must be a mapping of keys")
    hints = get_type_hints(cls)
    fields = {f.metadata.get("key", f.name): f for f in dataclasses.fields(cls) if f.init and f.name not in given}  # type: ignore[arg-type]
    for name, child in node.value.items():
        if name not in fields:
            place = f" under '{node.key}'" if node.key else ""
            raise UtilityFlowError(
                "UF-1001", f"{child.where}: unknown key '{name}'{place}", hint=nearest(name, list(fields))
            )
    values = dict(given)
    for name, field in fields.items():
        if name in node.value:
            values[field.name] = convert(hints[field.name], node.value[name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            place = f" under '{node.key}'" if node.key else ""
            raise UtilityFlowError("UF-1002", f"{node.where}: key '{name}' is missing{place}")
    return cls(**values)


def convert(hint: Any, node: Node) -> Any:
    """Convert one node to a type: scalars, ``X | None``, list, tuple, dict, Literal, nested dataclasses, Node, Any."""
    if hint is Any:
        return node.plain()
    if hint is Node:
        return node
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if node.value is None and type(None) in args:
            return None
        return _first_that_fits([a for a in args if a is not type(None)], node)
    if origin is typing.Literal:
        if node.value not in args:
            raise _wrong(
                node, f"one of {', '.join(str(a) for a in args)}", hint=nearest(str(node.value), map(str, args))
            )
        return node.value
    if origin in (list, tuple) and isinstance(node.value, list):
        items = [convert(args[0], child) for child in node.value]
        return tuple(items) if origin is tuple else items
    if origin is dict and isinstance(node.value, dict):
        return {name: convert(args[1], child) for name, child in node.value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, node)
    return _scalar(hint, node)


def _first_that_fits(options: list[Any], node: Node) -> Any:
    for option in options[:-1]:
        try:
            return convert(option, node)
        except UtilityFlowError:
            continue
    return convert(options[-1], node)


def _scalar(hint: Any, node: Node) -> Any:
    value = node.value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return node.text or str(value)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    raise _wrong(node, names.get(hint, getattr(get_origin(hint) or hint, "__name__", str(hint))))


def _wrong(node: Node, expected: str, hint: str | None = None) -> UtilityFlowError:
    shown = node.value if not isinstance(node.value, dict | list) else type(node.value).__name__
    return UtilityFlowError("UF-1002", f"{node.where}: '{node.key}' must be {expected}, not {shown!r}", hint=hint)
