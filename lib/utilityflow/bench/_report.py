"""How measurements are told: their conditions, the files that are kept, tables."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from utilityflow.bench import _plot
from utilityflow.errors import UtilityFlowError


def conditions(spark: Any) -> dict[str, Any]:
    """Where and when it was measured."""
    return {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "spark": spark.version,
            "python": platform.python_version(),
            "at": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")}  # fmt: skip


def ready(out: str) -> None:
    """Look for what ``keep`` needs before hours of measuring: a folder to write to, and what draws the picture.

    :raises UtilityFlowError: UF-1004 for a folder that cannot be written to, UF-1007 without matplotlib.
    """
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
