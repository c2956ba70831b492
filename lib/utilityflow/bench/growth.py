"""``utilityflow bench growth``: what runs cost and how many files they leave as months, customers, days, late files come."""

from __future__ import annotations

import datetime as dt
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utilityflow.bench import _days, _plot
from utilityflow.bench._report import keep, ready, table, told
from utilityflow.bench._world import World, check_size, month_end
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.settings import Settings
from utilityflow.simulate.reads import FEED
from utilityflow.upkeep import SMALL, SPARE

# targets: the last month against the second; twenty times the customers; a run of days against the line through all of them; what
# the late file costs above the fixed part of a run, against a day
MONTHS, CUSTOMERS, OFF_LINE, LATE = 1.15, 16, 0.15, 2
RUN_ADDS = 4  # files that a run may add to a table of the runs, which are arranged when the next one begins
LATE_DAY = 9  # of month 2, from 0: its file arrives after all months
INCREMENTS = (1, 2, 6)  # days that come in a run of their own each
LARGE = 4  # tables whose files are shown: those with the most bytes
_KINDS = ("months", "customers", "daily")


def growth(
    settings: Settings, *, of: str = "months", customers: int = 100_000, months: int = 12, days: int = 0, large: int = 2_000_000,
    form: str = "csv", driver_memory: str = "10g", publish_memory: str = "4GB", out: str = "", tell: Any,
) -> dict[str, Any]:  # fmt: skip
    """Time runs as a utility's history grows (by ``months``, or in ``daily`` loads), or as there are more ``customers``.

    Months: each is landed and run; the file of one day of month 2 is held back. Then come the first day, the next two and the
    next six days of one more month, each in a run of its own, then the day that was held back, and a run that finds nothing.
    Daily: each day of each month is landed and run by itself; after each month the data files are counted. Nothing is
    maintained but by the runs themselves. Customers: the second month of a small and of a large utility.

    :param of: months, daily or customers. :param customers: of the utility (of the small one). :param months: so many.
    :param days: daily: no more than so many in all (0: all of the months). :param large: customers of the large one.
    :param form: of the reads, csv or parquet. :param out: folder for JSON, Markdown and picture.
    """
    _check(of, customers, months, days, large)
    ready(out)

    def world(name: str, count: int) -> World:
        return World.make(settings, name, customers=count, form=form, driver_memory=driver_memory,
                          publish_memory=publish_memory, tell=tell)  # fmt: skip

    if of == "customers":
        result = _of_customers([world(f"bench-growth-{n}", n) for n in (customers, large)], tell)
    elif of == "daily":
        result = _of_days(world("bench-growth", customers), months, days, tell)
    else:
        result = _of_months(world("bench-growth", customers), months, tell)
    keep(out, f"growth-{of}", result, summary(result), lambda: _picture(result))
    return result


def _check(of: str, customers: int, months: int, days: int, large: int) -> None:
    if of not in _KINDS:
        raise UtilityFlowError("UF-1004", f"growth of '{of}' is not known", hint=nearest(of, list(_KINDS)))
    least = 3 if of == "months" else 1
    if months < least:
        raise UtilityFlowError("UF-1004", f"growth of {of} needs {least} months or more, not {months}")
    if days < 0:
        raise UtilityFlowError("UF-1004", f"days are 0 (all) or more, not {days}")
    check_size(customers, 2 if of == "customers" else months + (of == "months"))  # one more, for the days
    if of == "customers":
        check_size(large, 2)


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
            held = _reads(made.files)[LATE_DAY]
            shutil.move(held, late)
        done = _counted(world, number) | {"data_files": world.current_files()}
        series.append({"month": number, **done})
        tell(f"month {number}: {done['seconds']} s, {_all_files(done)} data files")
    increments = _increments(world, months + 1, tell)
    (back,) = list(late.iterdir())
    shutil.move(back, held)
    what = f"the day of month 2 that was held back ({held.name})"
    increments.append({"what": what, "late": True} | _counted(world, months + 1))
    increments.append({"what": "nothing new"} | _counted(world, months + 1))
    line = _line(increments)
    result = {"of": "months", "customers": world.customers, "series": series, "increments": increments,
              "days": line, "late": _late(increments, line), "ratio": round(series[-1]["seconds"] / series[1]["seconds"], 2),
              "ratio_per_record": round(_each(series[-1]) / _each(series[1]), 2), "conditions": world.conditions()}  # fmt: skip
    world.remove()
    return result


def _of_days(world: World, months: int, days: int, tell: Any) -> dict[str, Any]:
    series: list[dict[str, Any]] = []
    left = days or 31 * months
    for number in range(1, months + 1):
        runs = []
        for day, files in _days.part(world.land(number).files, world.settings.home_path / "away")[:left]:
            _days.land(files, world.settings.landing_path)
            runs.append({"day": day.isoformat()} | _counted(world, number, day))
            tell(f"{day}: {runs[-1]['seconds']} s")
        left -= len(runs)
        seconds = [run["seconds"] for run in runs]
        done = {"month": number, "records": sum(run["records"] for run in runs), "seconds": round(sum(seconds), 2),
                "median": round(statistics.median(seconds), 2), "data_files": world.current_files(), "runs": runs}  # fmt: skip
        series.append(done)
        tell(f"month {number}: {len(runs)} days, {done['seconds']} s, {_all_files(done)} data files")
        if not left:
            break
    result = {"of": "daily", "customers": world.customers, "series": series, "small": _small(series),
              "conditions": world.conditions()}  # fmt: skip
    world.remove()
    return result


def _each(done: Mapping[str, Any]) -> float:
    return float(done["seconds"] / done["records"])


def _reads(files: Sequence[Path]) -> list[Path]:
    return sorted(f for f in files if f.parent.name == FEED)


def _increments(world: World, month: int, tell: Any) -> list[dict[str, Any]]:
    """The first days of one more month with the customers' changes of those days: so many at once, then so many."""
    left = _days.part(world.land(month).files, world.settings.home_path / "away")
    increments = []
    for count in INCREMENTS:
        came, left = left[:count], left[count:]
        _days.land([file for _, files in came for file in files], world.settings.landing_path)
        done = {"what": "1 day" if count == 1 else f"{count} days", "days": count} | _counted(world, month)
        tell(f"{done['what']}: {done['seconds']} s")
        increments.append(done)
    return increments


def _line(increments: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The line through the runs of days, by least squares: seconds of a run that has no day, and of each day.

    ``off``: by which part of its seconds the run is away from the line that is so most. ``per_million``: the seconds of as many
    days as bring a million records.
    """
    runs = [one for one in increments if "days" in one]
    points = [(one["days"], one["seconds"]) for one in runs]
    each, fixed = statistics.linear_regression(*zip(*points, strict=True))
    off = max(abs(fixed + each * x - y) / y for x, y in points)
    records = sum(one["records"] for one in runs) / sum(one["days"] for one in runs)
    return {"fixed": round(fixed, 2), "each": round(each, 2), "off": round(off, 3),
            "per_million": round(1e6 * each / records, 1)}  # fmt: skip


def _late(increments: Sequence[Mapping[str, Any]], line: Mapping[str, float]) -> dict[str, float | None]:
    """What the late file costs ``above`` the fixed seconds of a run, and how many ``times`` a day's that is.

    Times is None where a day costs nothing by the line: then there is nothing to compare it with.
    """
    (late,) = (one for one in increments if one.get("late"))
    above = late["seconds"] - line["fixed"]
    return {"above": round(above, 2), "times": round(above / line["each"], 2) if line["each"] > 0 else None}


def _small(series: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Of each table its worst month: ``small`` data files after it, and ``most`` that are there by design.

    Their number is a sawtooth: a run arranges a table once it has SPARE to spare beside one for each partition (upkeep). So two
    months say nothing when they are compared; all of them lie under the teeth.
    """
    found: dict[str, dict[str, int]] = {}
    for done in series:
        for name, held in done["data_files"].items():
            most = SPARE + held["partitions"] + RUN_ADDS * name.startswith("ops.")
            told = {"month": done["month"], "small": held["small"], "most": most}
            if name not in found or told["small"] - most > found[name]["small"] - found[name]["most"]:
                found[name] = told
    return found


def _large(series: Sequence[Mapping[str, Any]]) -> list[str]:
    held = series[-1]["data_files"]
    return sorted(sorted(held, key=lambda name: -held[name]["bytes"])[:LARGE])


def _all_files(done: Mapping[str, Any]) -> int:
    return sum(held["files"] for held in done["data_files"].values())


def _counted(world: World, month: int, day: dt.date | None = None) -> dict[str, Any]:
    done = world.run(month, day)
    return {"records": done["files"]["rows_read"], **done}


def summary(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    text = {"months": _months_text, "daily": _daily_text, "customers": _customers_text}[result["of"]](result)
    return "\n".join([*text, "", told(result["conditions"])])


def _customers_text(result: Mapping[str, Any]) -> list[str]:
    sizes = [(f"{s['customers']:,}", f"{s['records']:,}", s["seconds"]) for s in result["series"]]
    said = f"{result['records_ratio']} times the records cost {result['ratio']} times the time (target {CUSTOMERS})."
    return ["# The second month of a small and of a large utility", "", table(("customers", "records", "s"), sizes), "", said]


def _months_text(result: Mapping[str, Any]) -> list[str]:
    series = result["series"]
    rows = [(*_month(s), f"{s['records']:,}", s["seconds"], f"{1e6 * _each(s):.1f}", _all_files(s)) for s in series]
    heads = ("month", "", "records", "s", "s per million", "data files")
    more = [(i["what"], f"{i['records']:,}", i["seconds"]) for i in result["increments"]]
    last = len(series)
    return [
        f"# {last} months of {result['customers']:,} customers", "", table(heads, rows), "",
        f"Month {last} costs {result['ratio']} times month 2 (target {MONTHS}), per record {result['ratio_per_record']} times.",
        "", "Then, each in a run of its own (days: reads, and the changes of customers since those days):", "",
        table(("what came", "records", "s"), more), "",
        *_days_text(result), "", *_files_text(series),
    ]  # fmt: skip


def _days_text(result: Mapping[str, Any]) -> list[str]:
    """The two verdicts of single days: that they cost by their number, and that a late one costs as others do."""
    line, late = result["days"], result["late"]
    # a line that does not rise fits best where days cost nothing, or where nothing of them was done
    verdict = "in proportion" if line["off"] <= OFF_LINE and line["each"] > 0 else "not in proportion"
    met = late["times"] is not None and late["times"] <= LATE
    times = "a day's share is not known" if late["times"] is None else f"{late['times']} times what a day does"
    return [
        f"Days: {line['fixed']} s for a run, and {line['each']} s for each day (least squares), which is {line['per_million']} s "
        f"per million records; no run of days is further than {line['off']:.1%} from that (target {OFF_LINE:.0%}): **{verdict}** "
        "to the days.",
        "",
        f"The late file costs {late['above']} s above the {line['fixed']} s of a run: {times} (target {LATE}): "
        f"**{'met' if met else 'missed'}**.",
    ]


def _daily_text(result: Mapping[str, Any]) -> list[str]:
    series = result["series"]
    rows = [(*_month(s), len(s["runs"]), f"{s['records']:,}", s["seconds"], s["median"], _all_files(s)) for s in series]
    more = sorted(name for name, held in result["small"].items() if held["small"] > held["most"])
    shown = [(name, result["small"][name]) for name in dict.fromkeys([*_large(series), *more])]
    told = [f"{name} {held['small']} of {held['most']} (month {held['month']})" for name, held in shown]
    verdict = f"missed in {', '.join(more)}" if more else "met"
    return [
        f"# Daily loads of {result['customers']:,} customers", "",
        table(("month", "", "days", "records", "s", "median s of a day", "data files"), rows), "", *_files_text(series), "",
        f"Small files after a month, in the worst one of each table, and how many are there by design ({SPARE}, and one for each "
        f"partition): {', '.join(told)}; of all {len(result['small'])} tables: **{verdict}**.",
    ]  # fmt: skip


def _files_text(series: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the current versions of the large tables hold, month by month."""
    names = _large(series)
    rows = [(*_month(s), *(_held(s["data_files"].get(name)) for name in names)) for s in series]
    said = f"Data files of the current versions: how many, their mean MiB, and how many have less than {SMALL // 1024**2} MiB."
    return [said, "", table(("month", "", *names), rows)]


def _held(told: Mapping[str, int] | None) -> str:
    if not told or not told["files"]:
        return "0"
    return f"{told['files']}, {told['bytes'] / told['files'] / 1024**2:.1f}, {told['small']}"


def _month(done: Mapping[str, Any]) -> tuple[int, str]:
    return done["month"], f"{month_end(done['month']):%Y-%m}"


def _picture(result: Mapping[str, Any]) -> bytes:
    if result["of"] == "customers":
        bars = [(f"{s['customers']:,} customers", float(s["seconds"])) for s in result["series"]]
        return _plot.bar_picture({"seconds": bars}, "The second month of a small and of a large utility")
    series, names = result["series"], _large(result["series"])
    seconds, what = ("median", "median seconds of a day") if result["of"] == "daily" else ("seconds", "seconds of each month")
    small = [(float(s["month"]), float(sum(s["data_files"].get(n, {}).get("small", 0) for n in names))) for s in series]
    panels = {
        what: [(float(s["month"]), float(s[seconds])) for s in series],
        "data files of all tables": [(float(s["month"]), float(_all_files(s))) for s in series],
        "small ones of the largest tables": small,
    }
    return _plot.line_picture(panels, f"{result['customers']:,} customers, month by month", "month", log=False)
