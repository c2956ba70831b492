"""How measurements are told: their conditions, the files that are kept, tables."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from utilityflow import __version__
from utilityflow.bench import _plot
from utilityflow.errors import UtilityFlowError


def conditions(spark: Any) -> dict[str, Any]:
    """Where and when it was measured, and what: the suite's version and commit."""
    return {**code(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "spark": spark.version,
            "python": platform.python_version(),
            "at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")}  # fmt: skip


@cache
def code() -> Mapping[str, Any]:
    """What is measured, as ``code_of`` tells it of this package.

    Asked once in a process, so that what somebody edits or checks out meanwhile is not taken for what was measured.
    """
    return code_of(Path(__file__).resolve().parent.parent)


def code_of(package: Path) -> dict[str, Any]:
    """``version`` of the suite; ``commit`` of a package's git checkout; ``dirty``: whether a file is not as that commit has it.

    The last two are None without git, and where git does not know the package, as it was installed.
    """
    known = _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None
    commit = _git(package, "rev-parse", "HEAD") if known else None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"version": __version__, "commit": commit or None, "dirty": None if changed is None else changed != ""}


def _git(folder: Path, *words: str) -> str | None:
    """What git says in a folder; None where it is not there, knows nothing or takes too long."""
    command = ["git", "--no-optional-locks", *words]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - fixed
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def ready(out: str) -> None:
    """Look for what ``keep`` needs before hours of measuring: a folder to write to, and what draws the picture.

    :raises UtilityFlowError: UF-1004 for a folder that cannot be written to, UF-1007 without matplotlib.
    """
    code()
    if not out:
        return
    _plot.canvas()
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UtilityFlowError("UF-1004", f"--out {out}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise UtilityFlowError("UF-1004", f"--out {out}: nothing can be written there")


def keep(out: str, name: str, result: Mapping[str, Any], text: str, picture: Callable[[], bytes] | None = None,
         ending: str = "md") -> None:  # fmt: skip
    """Write ``name``.json, .md (or the text's other ending) and .png into a folder; nothing where ``out`` is empty.

    :param picture: draws it; asked last, so that what cannot be drawn takes no figure along.
    """
    if not out:
        return
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")
    (folder / f"{name}.{ending}").write_text(text + "\n", encoding="utf-8")
    if picture is not None:
        (folder / f"{name}.png").write_bytes(picture())


def told(conditions: Mapping[str, Any]) -> str:
    """Conditions as a line."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in conditions.items())


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
