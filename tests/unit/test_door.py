"""Every Delta commit and file rename passes the one door of ``lakehouse.py``: other modules have no way of their own.

Bench and simulate are left out: what they write is no part of a home's lakehouse or warehouse.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

DOOR = "lakehouse.py"
# who renames by itself, and why that loses nothing
EXCEPTIONS = {"control/lease.py": "the lease holds no data, and its check stands before each pass of the door"}
SAVES = {"save", "saveAsTable", "insertInto", "writeTo", "executeCompaction", "restoreToVersion", "vacuum"}
MOVES = {"replace", "rename"}  # of a path: one positional argument (a text's replace has two, a dataclass's has keywords)
MODULES = {("os", "rename"), ("os", "replace"), ("shutil", "move")}
VERBS = "MERGE|DELETE|UPDATE|INSERT|ALTER|CREATE|REPLACE|DROP|TRUNCATE|RESTORE|OPTIMIZE|VACUUM"
STATEMENT = re.compile(rf"\s*({VERBS})\s", re.IGNORECASE)


def ways(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each call that commits to a Delta table or renames a file."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, node.func.value
        of_module = isinstance(owner, ast.Name) and (owner.id, name) in MODULES
        of_path = name in MOVES and len(node.args) == 1 and not node.keywords
        if of_module or of_path or (name in SAVES and not _nowhere(owner)):
            yield node.lineno, name
        elif name == "sql" and node.args and STATEMENT.match(_text(node.args[0])):
            yield node.lineno, _text(node.args[0]).split()[0]


def _nowhere(owner: ast.expr) -> bool:
    """A write to the format `noop` only reads."""
    return any(isinstance(n, ast.Constant) and n.value == "noop" for n in ast.walk(owner))


def _text(node: ast.expr) -> str:
    """The beginning of a text or f-string."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return _text(node.values[0])
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_nobody_writes_past_the_door(repository: Path) -> None:
    lib = repository / "lib" / "utilityflow"
    found = {}
    for path in sorted(lib.rglob("*.py")):
        name = path.relative_to(lib).as_posix()
        if name != DOOR and not name.startswith(("bench/", "simulate/")) and (calls := list(ways(path.read_text("utf-8")))):
            found[name] = calls
    assert found.keys() == EXCEPTIONS.keys(), found


@pytest.mark.parametrize(
    "source",
    [
        "frame.write.format('delta').mode('append').save(path)",
        "spark.sql(f'MERGE INTO delta.`{path}` USING x')",
        'spark.sql("""\n  delete from t where true""")',
        "draft.replace(target)",
        "os.replace(a, b)",
        "shutil.move(a, b)",
        "DeltaTable.forPath(spark, path).restoreToVersion(3)",
    ],
)
def test_a_way_past_the_door_is_seen(source: str) -> None:
    assert list(ways(source))


@pytest.mark.parametrize(
    "source",
    ["text.replace('a', 'b')", "replace(settings, home=1)", "moment.replace(tzinfo=utc)", "spark.sql('SELECT 1')",
     "frame.write.format('noop').mode('overwrite').save()", "frame.write.parquet(folder)"],
)  # fmt: skip
def test_what_writes_nothing_passes(source: str) -> None:
    assert not list(ways(source))


def test_the_door_has_ways(repository: Path) -> None:
    assert len(list(ways((repository / "lib" / "utilityflow" / DOOR).read_text("utf-8")))) >= 3
