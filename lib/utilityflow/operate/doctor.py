"""``doctor``: is the environment fit, and are the tables' files what their logs say? Each line is ok, warn or fail."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from utilityflow.contracts import load_contracts
from utilityflow.control import lease
from utilityflow.control.home import Home, open_home
from utilityflow.control.soundness import known_heads
from utilityflow.control.tablelog import Head, Log, findings, logs, way_out
from utilityflow.errors import CATALOGUE, EXIT_FAILED, EXIT_INTEGRITY, EXIT_OK, UtilityFlowError
from utilityflow.operate.scene import Scene, has_lakehouse, open_house
from utilityflow.publish import deltalog
from utilityflow.settings import Settings

LOW_SPACE = 5 * 1024**3
SOON_READ = 1024**3  # so many bytes of data files are read without being asked: about a second
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


def doctor(settings: Settings, *, deep: bool = False) -> dict[str, Any]:
    """Examine the environment.

    :param deep: compare every data file with its checksums, however many there are.
    :returns: ``status`` (the worst of ok, warn, fail) and ``lines`` (check, state, says, way_out, integrity).
    """
    lines = [*_engine(settings), *_packages()]
    try:
        home = open_home(settings, create=False)
    except UtilityFlowError as error:
        return _answer([*lines, _failed("home", error)])
    lines += [*_home(home), *_lock(home), *_feeds(settings)]
    if has_lakehouse(home):
        deep = deep or home.data_bytes(SOON_READ) <= SOON_READ
        damaged = list(_tables(home, deep))
        if not any(line.state == "fail" for line in damaged):
            read = "and agrees with its checksums" if deep else "(more than 1 GiB was not read: doctor --deep)"
            lines.append(Line("tables", "ok", f"every log is contiguous, every file that it names is there {read}"))
        lines += damaged
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
    from utilityflow.jvm import check_java, delta_jars

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
    if (holder := lease.at_work(home.path)) is not None:
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
        feeds = read_feeds(settings, whole=True)
        yield Line(
            "feeds",
            "ok" if feeds else "warn",
            f"{len(feeds)} feed(s) fit their contracts",
            "" if feeds else "put feed files into conf/feeds/ or name a folder with --feeds",
        )
    except UtilityFlowError as error:
        yield _failed("feeds", error)


# -- the tables' files -----------------------------------------------------------------------------------------------


def _tables(home: Home, deep: bool) -> Iterator[Line]:
    """What can be seen of the Delta tables without the engine."""
    found, known = logs(home.lakehouse), known_heads(home)
    for name in sorted(known.keys() - found.keys()):
        yield _gone(home, name)
    for name, log in found.items():
        yield from _table(home, log, known.get(name) if known else log.head(), deep)


def _gone(home: Home, name: str) -> Line:
    folder = home.lakehouse / name.replace(".", "/")
    if name.startswith(("silver.", "gold.")):
        return Line(name, "warn", f"the folder {folder} is gone", "'utilityflow run' makes the table anew")
    return Line(name, "fail", f"the folder {folder} is gone", f"restore {folder} from a backup", integrity=True)


def _table(home: Home, log: Log, head: Head | None, deep: bool) -> Iterator[Line]:
    wrong = list(findings(log, head))
    for one in wrong:
        yield Line(log.name, "fail", f"{one.code}: {one.says}", one.way_out, integrity=True)
    if any(one.code == "UF-3003" for one in wrong):
        return
    held = deltalog.files(log)
    for says in deltalog.damage(log, held, deep=deep):
        yield Line(log.name, "fail", f"UF-3003: {log.name}: {says}", way_out(log), integrity=True)
    older = sorted(set(range(log.versions[0], log.newest)) - set(log.versions)) if log.versions else []
    if older:
        says = f"commit {older[0]} is missing from the log; the checkpoint {log.base} goes without it"
        yield Line(log.name, "warn", says, "nothing: only versions before the checkpoint cannot be read any more")
    left = deltalog.orphans(log, held)
    if left and not lease.at_work(home.path):
        size = sum(p.stat().st_size for p in left) / 1024
        says = f"{len(left)} file(s) ({size:,.0f} KiB) that no commit names, left by a dead process: {left[0].name}"
        yield Line(log.name, "warn", says, "'utilityflow maintain' removes them once they are 168 hours old")


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
