"""The house has rooms in one order: a module imports only from its own room and from rooms before it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# The total order. errors, resources, strict and sqltypes are the ground floor under settings (docs/decisions).
ROOMS = (
    "errors",
    "resources",
    "strict",
    "sqltypes",
    "settings",
    "contracts",
    "keys",
    "jvm",
    "session",
    "parallel",
    "migration",
    "lakehouse",
    "control",
    "bronze",
    "extract",
    "quality",
    "silver",
    "scd2",
    "gold",
    "publish",
    "upkeep",
    "graph",
    "running",
    "pipeline",
    "operate",
    "simulate",
    "bench",
    "words",
    "commands",
    "cli",
)
# Rooms that may use fewer than all rooms before them.
ONLY = {"simulate": {"errors", "resources", "strict", "sqltypes", "settings", "contracts", "session"}}
# Folders whose code may import anything of utilityflow, but never under the name `lib`.
OUTSIDE = ("jobs", "tests", "notebooks", "requirements")


def imported_modules(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Every module that the code imports, wherever in the file, with its line; relative imports made absolute.

    ``from utilityflow import x`` counts as ``utilityflow.x``, since x is a room, or a plain name.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            if origin == "utilityflow":
                yield from ((f"{origin}.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield origin, node.lineno
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value, node.lineno


def offences(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What a module of utilityflow imports against the order, one line each; ``module`` is its dotted name."""
    room = module.split(".")[1] if "." in module else ""
    if room == "__main__":
        room = "cli"
    if room and room not in ROOMS:
        return [f"{module}: the room '{room}' is not in the order; add it to ROOMS and to the design"]
    allowed = set(ROOMS[: ROOMS.index(room)]) if room else set()  # the package itself imports none of its rooms
    allowed = allowed & ONLY.get(room, allowed) | {room}
    found = []
    for name, line in imported_modules(ast.parse(source), module, is_package):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if top in ("lib", "jobs"):
            found.append(f"{module}:{line}: imports {name}; nothing imports {top}")
        elif top == "utilityflow" and target and not target.startswith("__") and target not in allowed:
            found.append(f"{module}:{line}: '{room or 'utilityflow'}' imports '{target}', which is not before it")
    return found


def modules(folder: Path) -> list[tuple[Path, str, bool]]:
    """(file, dotted name, is a package) of every module under lib/utilityflow."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found.append((path, ".".join(parts[:-1] if is_package else parts), is_package))
    return found


def test_rooms_import_only_from_rooms_before_them(repository: Path) -> None:
    found = modules(repository / "lib" / "utilityflow")
    assert len(found) > 5, "the modules were not found, so nothing was checked"
    bad = [line for path, name, pkg in found for line in offences(path.read_text("utf-8"), name, is_package=pkg)]
    assert not bad, "\n".join(bad)


def test_nobody_imports_lib(repository: Path) -> None:
    bad = []
    for folder in OUTSIDE:
        for path in sorted((repository / folder).rglob("*.py")):
            for name, line in imported_modules(ast.parse(path.read_text("utf-8")), path.stem, is_package=False):
                if name.split(".")[0] == "lib":
                    bad.append(f"{path.relative_to(repository)}:{line}: imports {name}")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("utilityflow.settings", "from utilityflow.contracts import load"),
        ("utilityflow.settings", "import utilityflow.contracts"),
        ("utilityflow.settings", "from utilityflow import contracts"),
        ("utilityflow.settings", "def late():\n    from utilityflow.cli import main"),
        ("utilityflow.settings", "import importlib\nimportlib.import_module('utilityflow.session')"),
        ("utilityflow.silver.customers", "from ..gold import facts"),
        ("utilityflow.silver.customers", "from ..cli import main"),
        ("utilityflow.errors", "from .strict import load"),
        ("utilityflow.resources", "if TYPE_CHECKING:\n    from utilityflow.settings import Settings"),
        ("utilityflow.gold.facts", "import jobs.ingest"),
        ("utilityflow.gold.facts", "from lib.utilityflow.errors import UtilityFlowError"),
        ("utilityflow.simulate.ledger", "from utilityflow.pipeline import STEPS"),
        ("utilityflow.simulate.ledger", "from utilityflow.lakehouse import Lakehouse"),
        ("utilityflow.attic", "import os"),
    ],
)
def test_a_forbidden_import_is_seen(module: str, source: str) -> None:
    assert offences(source, module)


def test_the_package_itself_imports_no_room() -> None:
    assert offences("from .errors import UtilityFlowError", "utilityflow", is_package=True)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("utilityflow.contracts", "from utilityflow.settings import Settings\nfrom utilityflow import __version__"),
        ("utilityflow.silver.customers", "from ..bronze.feeds import Feed\nfrom .reads import final\nimport pandas"),
        ("utilityflow.simulate.ledger", "from utilityflow.session import get_session"),
        ("utilityflow.cli", "import utilityflow.bench.run\nfrom utilityflow.operate import doctor"),
        ("utilityflow.__main__", "from utilityflow.cli import main"),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert offences(source, module) == []
