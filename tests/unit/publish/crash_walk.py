"""Kills a publication at each point of its way and publishes again; run by test_crash.py as a process of its own.

One Spark session serves all: each attempt is a fork that dies by SIGKILL, as the process would.
Usage: crash_walk.py FOLDER. Prints one JSON object: point -> [what a reader saw right after, what it saw in the end].
"""

from __future__ import annotations

import datetime as dt
import gc
import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from conftest import NAMES, fill, frame, query, usage

from utilityflow.contracts import load_contracts
from utilityflow.control.publication import last
from utilityflow.lakehouse import Lakehouse
from utilityflow.publish.duckdb import beside, warehouse
from utilityflow.publish.publication import publish
from utilityflow.session import SMALL, get_session


def seen(home: Path) -> list[Any]:
    """What a reader sees: number, rows, sum."""
    number = query(warehouse(home), "SELECT publication FROM gold.publication")[0][0]
    rows, total = query(warehouse(home), "SELECT count(*), sum(usage_kwh) FROM gold.fact_usage")[0]
    return [number, rows, str(total)]


def attempt(house: Lakehouse, home: Path, run_id: str, **environment: str) -> int:
    """Publish in a fork; its wait status (9: killed)."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    os.environ.update(environment)
    try:
        publish(house, home, NAMES, as_of=dt.date(2024, 4, 1), zone="UTC", run_id=run_id)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main(folder: Path) -> None:
    spark = get_session(master="local[2]", extra=SMALL, scratch=folder / "spark")
    start = folder / "start"
    house = Lakehouse(spark, str(start / "lakehouse"), load_contracts(), run_id="r")
    fill(house)
    publish(house, start, NAMES, as_of=dt.date(2024, 4, 1), zone="UTC", run_id="first")
    house.table("gold.fact_usage").append(frame(house, "gold.fact_usage", [usage(9, "2024-02", 12, "7.00")]))
    gc.collect()
    gc.freeze()  # a fork must not release Java objects of its parent
    log = folder / "points"
    result = {}
    for point in range(1, 100):
        home = folder / f"at{point}"
        shutil.copytree(start, home)
        house = Lakehouse(spark, str(home / "lakehouse"), load_contracts(), run_id="r")
        log.unlink(missing_ok=True)
        status = attempt(house, home, f"killed{point}", UF_CRASH_AT=str(point), UF_CRASH_LOG=str(log))
        if status == 0:
            break
        name = log.read_text().splitlines()[-1].split(" ", 1)[1].partition("#")[0]
        after = seen(home)
        again = attempt(house, home, f"again{point}")
        left = beside(home).exists() or (home / "tmp" / "publish").exists()
        published = last(house)
        result[f"{point} {name}"] = [status, after, again, seen(home), left, published.number if published else None]
        shutil.rmtree(home)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
