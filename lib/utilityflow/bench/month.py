"""``utilityflow bench month``: a whole month against the floor, one plain Spark job per feed that only copies its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from utilityflow.bench import _plot
from utilityflow.bench._floor import floor
from utilityflow.bench._report import keep, ready, told
from utilityflow.bench._world import World, check_size, peak_memory
from utilityflow.errors import UtilityFlowError
from utilityflow.operate import profiles
from utilityflow.settings import Settings
from utilityflow.simulate import CORE, SYSTEMS

TARGETS, MEMORY_GIB = {"core": 3.5, "all": 4.0}, 20


def month(
    settings: Settings, *, customers: int = 2_000_000, systems: str = "core", form: str = "csv", rounds: int = 1,
    driver_memory: str = "10g", publish_memory: str = "4GB", out: str = "", keep_home: int = 0, tell: Any,
) -> dict[str, Any]:  # fmt: skip
    """Time the second month of a utility on a lakehouse that holds the first, whole: ledger to DuckDB.

    The floor: one Spark job per feed that reads the month's files with explicit types and writes them once to Delta (zstd, no
    statistics, no constraint, no order), one after the other, best of three.

    :param customers: of the utility. :param systems: core (customer management and usage monitoring) or all six.
    :param form: in which the reads come, csv or parquet. :param rounds: months after the first, each measured.
    :param driver_memory: of the process. :param publish_memory: of DuckDB.
    :param out: folder for JSON, Markdown and picture. :param keep_home: 1 leaves the home there.
    """
    if systems not in TARGETS:
        raise UtilityFlowError("UF-1004", f"systems are core or all, not {systems}")
    if rounds < 1:
        raise UtilityFlowError("UF-1004", f"at least one month is measured after the first: --rounds 1 or more, not {rounds}")
    check_size(customers, rounds + 1)
    ready(out)
    world = World.make(settings, "bench-month", customers=customers, form=form, driver_memory=driver_memory,
                       publish_memory=publish_memory, tell=tell, systems=CORE if systems == "core" else SYSTEMS)  # fmt: skip
    made = world.land(1)
    first = world.run(1) | {"rows": made.rows, "landed_bytes": made.bytes, "simulated_in": made.seconds}
    result: dict[str, Any] = {"customers": customers, "systems": systems, "form": form, "first": first}
    result["months"] = [_measured(world, number) for number in range(2, rounds + 2)]
    result["sizes"], result["conditions"] = world.sizes(), world.conditions()
    keep(out, f"month-{systems}-{form}-{customers}", result, summary(result), lambda: _picture(result))
    if not keep_home:
        world.remove()
    return result


def _measured(world: World, number: int) -> dict[str, Any]:
    """Simulate a month, copy it plainly, run it."""
    made = world.land(number)
    least = floor(world, made.files)
    _same("the floor copied", {feed: made.rows[feed] for feed in least["rows"]}, least["rows"])
    with peak_memory() as memory:
        done = world.run(number)
    _same("the run read", sum(made.rows.values()), done["files"]["rows_read"])
    ratio = round(done["seconds"] / least["seconds"], 2)
    world.tell(f"month {number}: {done['seconds']} s, floor {least['seconds']} s, ratio {ratio}")
    return done | {"month": number, "rows": made.rows, "landed_bytes": made.bytes, "floor": least,
                   "simulated_in": made.seconds, "ratio": ratio, "peak_gib": memory.get("gib")}  # fmt: skip


def _same(what: str, landed: Any, taken: Any) -> None:
    """A measurement of other rows than those that landed is none."""
    if landed != taken:
        raise UtilityFlowError("UF-3006", f"the simulator wrote {landed} rows, {what} {taken}")


def summary(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = [f"# A month of {result['customers']:,} customers, {result['systems']} systems, reads as {result['form']}", ""]
    for done in result["months"]:
        lines += [
            f"Month {done['month']}: {sum(done['rows'].values()):,} records ({done['landed_bytes'] / 1e9:.2f} GB landed) in "
            f"{done['seconds']:.1f} s; floor {done['floor']['seconds']:.1f} s (of {done['floor']['all']}); "
            f"**ratio {done['ratio']}** (target {TARGETS[result['systems']]}); "
            f"peak of resident memory {done['peak_gib']} GiB (bound {MEMORY_GIB}).",
            "", f"Records: {done['files']}", "", f"The warehouse was built {done['warehouse']}.", "",
            profiles.markdown(done["steps"]), "",
        ]  # fmt: skip
    lines += [f"First month, on an empty lakehouse: {result['first']['seconds']:.1f} s.", _simulated(result), ""]
    return "\n".join([*lines, f"{told(result['conditions'])}."])


def _simulated(result: Mapping[str, Any]) -> str:
    parts = []
    for done in (result["first"] | {"month": 1}, *result["months"]):
        rows, seconds = sum(done["rows"].values()), done["simulated_in"]
        parts.append(f"month {done['month']} in {seconds:.1f} s ({rows:,} records, {rows / seconds:,.0f} a second)")
    return f"Simulated: {', '.join(parts)}."


def _picture(result: Mapping[str, Any]) -> bytes:
    last = result["months"][-1]
    steps = sorted(((s["step"], float(s["seconds"])) for s in last["steps"] if s["status"] != "skipped"), key=lambda s: -s[1])
    panels = {"seconds": [("whole run", last["seconds"]), ("floor", last["floor"]["seconds"])], "seconds of each step": steps}
    return _plot.bar_picture(panels, f"A month of {result['customers']:,} customers, reads as {result['form']}")
