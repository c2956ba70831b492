"""``doctor``: is the environment fit, and are the tables' files what their logs say? Each line is ok, warn or fail."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from utilityflow.contracts import load_contracts
from utilityflow.control import lease
from utilityflow.control.home import Home, open_home
from utilityflow.errors import CATALOGUE, EXIT_FAILED, EXIT_INTEGRITY, EXIT_OK, UtilityFlowError
from utilityflow.operate.deltalog import damage
from utilityflow.operate.scene import Scene, has_lakehouse, open_house
from utilityflow.settings import Settings

LOW_SPACE = 5 * 1024**3
_PACKAGES = ("pyspark", "delta-spark", "pyarrow", "pandas", "duckdb", "PyYAML")
State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Line:
    """One finding. ``way_out`` says what to do; ``integrity`` marks damage of the data (exit status 5)."""

    check: str
    state: State
    says: str
    way_out: str = ""
    integrity: bool = False


def doctor(settings: Settings) -> dict[str, Any]:
    """Examine the environment.

    :returns: ``status`` (the worst of ok, warn, fail) and ``lines`` (check, state, says, way_out, integrity).
    """
    lines = [*_engine(settings), *_packages()]
    try:
        home = open_home(settings, create=False)
    except UtilityFlowError as error:
        return _answer([*lines, _failed("home", error)])
    lines += [*_home(home), *_lock(home), *_feeds(settings)]
    if has_lakehouse(home):
        damaged = list(_files(home))
        lines += damaged or [Line("tables", "ok", "every log is contiguous and every file that it names is there")]
        if not any(line.state == "fail" for line in lines):
            lines += _with_engine(Scene(settings, home, open_house(settings, home)))
    else:
        lines.append(Line("lakehouse", "warn", f"{home.path} holds no lakehouse yet", "'utilityflow run' makes it"))
    return _answer(lines)


def _answer(lines: list[Line]) -> dict[str, Any]:
    states = {line.state for line in lines}
    worst = "fail" if "fail" in states else "warn" if "warn" in states else "ok"
    return {"status": worst, "lines": [asdict(line) for line in lines]}


def _failed(check: str, error: UtilityFlowError) -> Line:
    return Line(
        check,
        "fail",
        str(error),
        error.hint or CATALOGUE[error.code].title,
        integrity=error.exit_code == EXIT_INTEGRITY,
    )


# -- the environment -------------------------------------------------------------------------------------------------


def _engine(settings: Settings) -> Iterator[Line]:
    from utilityflow.session import check_java, delta_jars

    if settings.platform != "local":
        yield Line("engine", "ok", f"platform {settings.platform} brings its own engine")
        return
    for name, look in (("java", check_java), ("delta jars", delta_jars)):
        try:
            look()
            yield Line(name, "ok", "there")
        except UtilityFlowError as error:
            yield _failed(name, error)


def _packages() -> Iterator[Line]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Line("packages", "fail", f"the Python package {name} is missing", "run 'make setup'")
    python = ".".join(map(str, sys.version_info[:3]))
    yield Line("packages", "ok", f"Python {python}, " + ", ".join(f"{n} {v}" for n, v in found.items()))


def _home(home: Home) -> Iterator[Line]:
    place = next(p for p in (home.path, *home.path.parents) if p.exists())
    free = shutil.disk_usage(place).free
    state: State = "ok" if free >= LOW_SPACE else "warn"
    yield Line(
        "disk",
        state,
        f"{free / 1024**3:.1f} GiB free at {place}",
        "" if state == "ok" else "free some space: a publication needs room for a second warehouse file",
    )
    if not home.path.is_dir():
        return
    mode = stat.S_IMODE(home.path.stat().st_mode)
    if mode & 0o077:
        yield Line("permissions", "warn", f"{home.path} is open to others (mode {mode:o})", f"chmod 700 {home.path}")
    else:
        yield Line("permissions", "ok", f"{home.path} is its owner's alone")
    if not os.access(home.path, os.W_OK):
        yield Line(
            "permissions",
            "fail",
            f"{home.path} cannot be written",
            "give the user that runs the suite the right to write",
        )


def _lock(home: Home) -> Iterator[Line]:
    holder = lease.read(home.path)
    if holder is not None and lease.held(home.path, holder, time.time()):
        yield Line("lock", "warn", f"the home is held by {holder}", "wait until it ends")
        return
    yield Line("lock", "ok", "nobody holds the home")
    left = sorted(p.name for p in home.tmp.iterdir()) if home.tmp.is_dir() else []
    if left:
        yield Line(
            "tmp",
            "warn",
            f"{len(left)} leftover(s) of an interrupted process in {home.tmp}",
            "the next run removes them",
        )


def _feeds(settings: Settings) -> Iterator[Line]:
    from utilityflow.pipeline import read_feeds

    try:
        feeds = read_feeds(settings)
        yield Line(
            "feeds",
            "ok" if feeds else "warn",
            f"{len(feeds)} feed(s) fit their contracts",
            "" if feeds else "put feed files into conf/feeds/ or name a folder with --feeds",
        )
    except UtilityFlowError as error:
        yield _failed("feeds", error)


# -- the tables' files -----------------------------------------------------------------------------------------------


def _files(home: Home) -> Iterator[Line]:
    """Damage of the Delta tables that can be seen without the engine."""
    for log in sorted(home.lakehouse.glob("*/*/_delta_log")):
        name = f"{log.parent.parent.name}.{log.parent.name}"
        for says in damage(log):
            yield Line(
                name,
                "fail",
                says,
                "restore the table's folder from a backup, or move it away and run again",
                integrity=True,
            )


# -- with the engine -------------------------------------------------------------------------------------------------


def _with_engine(scene: Scene) -> Iterator[Line]:
    yield from _readable(scene)
    yield from _warehouse(scene)


def _readable(scene: Scene) -> Iterator[Line]:
    from utilityflow.operate.plan import drift

    try:
        moved = drift(scene)
    except UtilityFlowError as error:
        yield _failed("contracts", error)
        return
    except Exception as failure:
        first = (str(failure).splitlines() or [""])[0][:200]
        yield Line(
            "contracts",
            "fail",
            f"a table cannot be read: {type(failure).__name__}: {first}",
            "restore it from a backup",
            integrity=True,
        )
        return
    if moved:
        yield Line(
            "contracts",
            "warn",
            f"the next run migrates: {', '.join(moved)}",
            "'utilityflow plan' shows it, 'utilityflow run' does it",
        )
    else:
        yield Line("contracts", "ok", f"{len(load_contracts())} contracts, and the tables have their columns")


def _warehouse(scene: Scene) -> Iterator[Line]:
    from utilityflow.publish import duckdb as target

    try:
        publication = scene.publication
    except UtilityFlowError as error:
        yield _failed("publication", error)
        return
    if publication is None:
        yield Line("warehouse", "warn", "nothing is published yet", "'utilityflow run' publishes")
    elif target.behind(scene.home.path, publication):
        held = target.number(scene.home.path)
        says = "is missing or cannot be read" if held is None else f"holds publication {held}"
        yield Line(
            "warehouse",
            "warn",
            f"the warehouse {says}, the last one is {publication.number}",
            "'utilityflow run' brings it up",
        )
    else:
        yield Line("warehouse", "ok", f"holds publication {publication.number} as of {publication.as_of}")


def exit_code(result: dict[str, Any]) -> int:
    """5 for damaged data, 1 for another failure, else 0."""
    failed = [line for line in result["lines"] if line["state"] == "fail"]
    if any(line["integrity"] for line in failed):
        return EXIT_INTEGRITY
    return EXIT_FAILED if failed else EXIT_OK


def text(result: dict[str, Any]) -> str:
    """The answer for people."""
    lines = [
        f"{x['state']:<5} {x['check']:<24} {x['says']}" + (f" -> {x['way_out']}" if x["way_out"] else "")
        for x in result["lines"]
    ]
    return "\n".join(
        [
            *lines,
            {"ok": "all is well", "warn": "usable, with warnings", "fail": "something needs mending"}[result["status"]],
        ]
    )
