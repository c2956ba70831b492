"""``utilityflow bench growth``: what a run costs as months, customers, days and late files come."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utilityflow.bench import _plot
from utilityflow.bench._report import keep, ready, table, told
from utilityflow.bench._world import World, month_end
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.settings import Settings
from utilityflow.simulate.reads import FEED

MONTHS, CUSTOMERS = 1.15, 16  # targets: the last month against the second; twenty times the customers
LATE_DAY = 9  # of month 2, from 0: its file arrives after all months
_KINDS = ("months", "customers")


def growth(
    settings: Settings, *, of: str = "months", customers: int = 100_000, months: int = 12, large: int = 2_000_000,
    form: str = "csv", driver_memory: str = "10g", publish_memory: str = "4GB", out: str = "", tell: Any,
) -> dict[str, Any]:  # fmt: skip
    """Time runs as a utility's history grows (``--of months``) or as there are more customers (``--of customers``).

    Months: each is landed and run; the file of one day of month 2 is held back. Then come the first day, the next two and the
    next six days of one more month, each in a run of its own, then the day that was held back, and a run that finds nothing.
    Customers: the second month of a small and of a large utility.

    :param customers: of the utility (of the small one). :param months: so many. :param large: customers of the large one.
    :param form: of the reads, csv or parquet. :param out: folder for JSON, Markdown and picture.
    """
    if of not in _KINDS:
        raise UtilityFlowError("UF-1004", f"growth of '{of}' is not known", hint=nearest(of, list(_KINDS)))
    if months < 3:
        raise UtilityFlowError("UF-1004", "growth needs 3 months or more")
    ready(out)

    def world(name: str, count: int) -> World:
        return World.make(settings, name, customers=count, form=form, driver_memory=driver_memory,
                          publish_memory=publish_memory, tell=tell)  # fmt: skip

    if of == "customers":
        result = _of_customers([world(f"bench-growth-{n}", n) for n in (customers, large)], tell)
    else:
        result = _of_months(world("bench-growth", customers), months, tell)
    keep(out, f"growth-{of}", result, summary(result), lambda: _picture(result))
    return result


def _of_customers(worlds: Sequence[World], tell: Any) -> dict[str, Any]:
    series = []
    for world in worlds:
        world.land(1)
        world.run(1)
        made = world.land(2)
        done = world.run(2)
        tell(f"{world.customers:,} customers: {done['seconds']} s")
        series.append({"customers": world.customers, "records": sum(made.rows.values()), **done})
        told_of = world.conditions()
        world.remove()
    return {"of": "customers", "series": series, "ratio": round(series[1]["seconds"] / series[0]["seconds"], 2),
            "records_ratio": round(series[1]["records"] / series[0]["records"], 2), "conditions": told_of}  # fmt: skip


def _of_months(world: World, months: int, tell: Any) -> dict[str, Any]:
    series, late = [], world.settings.home_path / "late"
    for number in range(1, months + 1):
        made = world.land(number)
        if number == 2:
            late.mkdir()
            held = _days(made.files)[LATE_DAY]
            shutil.move(held, late)
        done = _counted(world, number)
        files = {name: held["files"] for name, held in world.sizes()["tables"].items()}
        series.append({"month": number, **done, "data_files": files})
        tell(f"month {number}: {done['seconds']} s, {sum(files.values())} data files")
    increments = [_increment(world, days, months, tell) for days in _parted(world, months + 1)]
    (back,) = list(late.iterdir())
    shutil.move(back, held)
    increments.append({"what": f"the day of month 2 that was held back ({held.name})"} | _counted(world, months + 1))
    increments.append({"what": "nothing new"} | _counted(world, months + 1))
    result = {"of": "months", "customers": world.customers, "series": series, "increments": increments,
              "ratio": round(series[-1]["seconds"] / series[1]["seconds"], 2),
              "ratio_per_record": round(_each(series[-1]) / _each(series[1]), 2), "conditions": world.conditions()}  # fmt: skip
    world.remove()
    return result


def _each(done: Mapping[str, Any]) -> float:
    return float(done["seconds"] / done["records"])


def _days(files: Sequence[Path]) -> list[Path]:
    return sorted(f for f in files if f.parent.name == FEED)


def _parted(world: World, month: int) -> list[tuple[str, list[Path]]]:
    """The days of one more month, taken out of the landing root: the first, the next two, the next six."""
    made, away = world.land(month), world.settings.home_path / "away"
    away.mkdir()
    moved = [Path(shutil.move(file, away / file.name)) for file in made.files]
    days = sorted(file for file in moved if file.name.startswith(FEED))
    return [("1 day", days[:1]), ("2 days", days[1:3]), ("6 days", days[3:9])]


def _increment(world: World, given: tuple[str, list[Path]], months: int, tell: Any) -> dict[str, Any]:
    what, files = given
    for file in files:
        shutil.move(file, world.settings.landing_path / FEED / file.name)
    done = {"what": what} | _counted(world, months + 1)
    tell(f"{what}: {done['seconds']} s")
    return done


def _counted(world: World, month: int) -> dict[str, Any]:
    done = world.run(month)
    return {"records": done["files"]["rows_read"], **done}


def summary(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    if result["of"] == "customers":
        sizes = [(f"{s['customers']:,}", f"{s['records']:,}", s["seconds"]) for s in result["series"]]
        said = f"{result['records_ratio']} times the records cost {result['ratio']} times the time (target {CUSTOMERS})."
        title, rows_of = "# The second month of a small and of a large utility", table(("customers", "records", "s"), sizes)
        return "\n".join([title, "", rows_of, "", said, "", told(result["conditions"])])
    rows = [
        (s["month"], f"{month_end(s['month']):%Y-%m}", f"{s['records']:,}", s["seconds"], f"{1e6 * _each(s):.1f}", *_files(s))
        for s in result["series"]
    ]
    heads = ("month", "", "records", "s", "s per million", "files on disk: meter_reads", "fact_usage", "all tables")
    more = [(i["what"], f"{i['records']:,}", i["seconds"]) for i in result["increments"]]
    last = len(result["series"])
    return "\n".join([
        f"# {last} months of {result['customers']:,} customers", "", table(heads, rows), "",
        f"Month {last} costs {result['ratio']} times month 2 (target {MONTHS}), per record {result['ratio_per_record']} times.",
        "", "Then, each in a run of its own:", "", table(("what came", "records", "s"), more), "", told(result["conditions"]),
    ])  # fmt: skip


def _files(done: Mapping[str, Any]) -> tuple[int, int, int]:
    files = done["data_files"]
    return files.get("silver.meter_reads", 0), files.get("gold.fact_usage", 0), sum(files.values())


def _picture(result: Mapping[str, Any]) -> bytes:
    if result["of"] == "customers":
        bars = [(f"{s['customers']:,} customers", float(s["seconds"])) for s in result["series"]]
        return _plot.bar_picture({"seconds": bars}, "The second month of a small and of a large utility")
    panels = {
        "seconds of each month": [(float(s["month"]), float(s["seconds"])) for s in result["series"]],
        "data files of all tables on disk": [(float(s["month"]), float(_files(s)[2])) for s in result["series"]],
    }
    return _plot.line_picture(panels, f"{result['customers']:,} customers, month by month", "month", log=False)
