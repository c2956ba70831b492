"""``feed check``: what a feed file makes of the files that lie in its landing folder, before any of it is loaded.

The records are judged by the very function of the silver step, over a lakehouse whose bronze table is the sample.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utilityflow.bronze.feeds import Feed, load_feed, load_feeds
from utilityflow.bronze.inspect import Inspection, Limits, find_files, inspect_file
from utilityflow.contracts import load_contracts
from utilityflow.control.home import Home, open_home
from utilityflow.control.ledger import Entry, Ledger
from utilityflow.control.run import Run
from utilityflow.operate.scene import Narrowed, open_house
from utilityflow.quality.rules import broken_any
from utilityflow.settings import Settings
from utilityflow.silver import snapshots
from utilityflow.silver.apply import ENTITIES, check_feeds, judged

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FAILURES = 10


def check(settings: Settings, file: Path, sample: int = 5) -> dict[str, Any]:
    """Check one feed file and, where files have landed for it, read and judge the first that can be read.

    :param sample: how many records to show, raw beside canonical.
    :returns: ``ok`` (no file was refused and no record broke an error rule), ``feed``, ``files``, ``sample``,
        ``records``, ``failed``, ``failures``. Nothing is written.
    :raises UtilityFlowError: UF-1001 to UF-1003, UF-1011 and UF-1012 for a feed file that does not fit.
    """
    feed = load_feed(str(file))
    check_feeds({feed.feed: feed}, load_contracts())
    landing = settings.landing_path
    limits = Limits(max_decompressed_bytes=settings.thresholds.max_decompressed_bytes)
    seen = [inspect_file(feed, path, landing, limits) for path in find_files(feed, landing)] if landing.is_dir() else []
    files = [_told(one) for one in seen]
    result: dict[str, Any] = {
        "ok": not any(f["reason"] for f in files), "feed": feed.feed, "file": str(file), "entity": feed.entity,
        "landing": str(landing), "files": files, "read": None, "records": 0, "failed": 0, "sample": [], "failures": [],
    }  # fmt: skip
    readable = [one for one in seen if one.stable and not one.reason]
    if readable:
        home = open_home(settings, create=False)
        with tempfile.TemporaryDirectory(prefix="utilityflow-") as scratch:
            result |= _judge(settings, home, feed, readable[0], sample, Path(scratch))
        result["read"] = readable[0].file_name
        result["ok"] = result["ok"] and not result["failed"]
    return result


def _told(one: Inspection) -> dict[str, Any]:
    return {
        "file": one.file_name,
        "sha256": one.sha256,
        "size": one.size,
        "records": one.records,
        "reason": None if one.reason is None else str(one.reason),
    }


def _judge(settings: Settings, home: Home, feed: Feed, one: Inspection, sample: int, scratch: Path) -> dict[str, Any]:
    from pyspark.sql import functions as F

    from utilityflow.bronze.readers import read_files

    house = open_house(settings, home)
    raw = read_files(house.spark, feed, [one], scratch / "read").withColumn("_batch_id", F.lit(1).cast("bigint"))
    entry = Entry(feed.feed, one.sha256, one.path.name, one.size, feed.definition_hash(), number=1)
    run = Run(
        settings,
        home,
        Narrowed(house, f"bronze.{feed.feed}", raw),
        Ledger([entry]),
        {feed.feed: feed},
        home.today(),
        "",
        {},
    )
    if feed.mode == "snapshot":
        snapshots.times(run, feed, [entry])
    frame, rules = judged(run, feed, [entry])
    frame = frame.withColumn("_bad", broken_any(rules))
    total = frame.agg(F.count(F.lit(1)), F.count_if("_bad")).collect()[0]
    bad = frame.where("_bad").select("_row_number", "_rules", "_reasons", "_record", "_corrupt_record").limit(FAILURES)
    return {"records": total[0], "failed": total[1], "sample": _beside(frame, feed, sample),
            "failures": [_failure(row) for row in bad.collect()]}  # fmt: skip


def _beside(frame: DataFrame, feed: Feed, sample: int) -> list[dict[str, Any]]:
    """The first records: raw columns, canonical columns, rules broken, flags."""
    filled = [n for n in ENTITIES[feed.entity].filled if n in frame.columns]
    derived = [
        n for n in ("unit", "period_start", "period_end", "usage_date") if n in frame.columns and n not in filled
    ]
    rows = frame.orderBy("_row_number").limit(sample).collect()
    return [
        {"row": r["_row_number"], "raw": _plain(r["_record"]), "canonical": {n: _text(r[n]) for n in filled + derived},
         "rules": list(r["_rules"]), "flags": list(r["quality_flags"])}
        for r in rows
    ]  # fmt: skip


def _failure(row: Any) -> dict[str, Any]:
    return {"row": row["_row_number"], "rules": list(row["_rules"]), "reasons": list(row["_reasons"]),
            "raw": row["_corrupt_record"] or _plain(row["_record"])}  # fmt: skip


def _plain(record: Any) -> dict[str, Any]:
    return dict(record.asDict()) if record is not None else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def text(result: dict[str, Any]) -> str:
    """The answer for people."""
    lines = [f"feed {result['feed']} fits its contract silver.{result['entity']}"]
    if not result["files"]:
        lines.append(f"no file has landed for it under {result['landing']}")
    for one in result["files"]:
        count = "" if one["records"] is None else f", {one['records']:,} records"
        lines.append(f"  {one['file']}: {one['reason'] or f'can be read{count}'}")
    if result["read"]:
        lines.append(f"{result['read']}: {result['records']:,} records, {result['failed']:,} break an error rule")
    for shown in result["sample"]:
        lines += [f"record {shown['row']}" + (f" breaks {', '.join(shown['rules'])}" if shown["rules"] else "")]
        lines += _columns(shown["raw"], shown["canonical"])
        if shown["flags"]:
            lines.append(f"  flags: {', '.join(shown['flags'])}")
    if result["failures"]:
        lines.append("first failures:")
    for one in result["failures"]:
        lines.append(f"  record {one['row']}: {'; '.join(one['reasons'])} ({', '.join(one['rules'])})")
    return "\n".join(lines)


def _columns(raw: dict[str, Any], canonical: dict[str, str | None]) -> list[str]:
    left = [f"{name} = {_quoted(value)}" for name, value in raw.items()]
    right = [f"{name} = {value}" for name, value in canonical.items() if value is not None]
    width = max([len(x) for x in left], default=0)
    both = list(_pairs(left, right))
    return [f"  {a:<{min(width, 60)}}  |  {b}" for a, b in both]


def _pairs(left: Sequence[str], right: Sequence[str]) -> list[tuple[str, str]]:
    size = max(len(left), len(right))
    return list(zip([*left, *[""] * (size - len(left))], [*right, *[""] * (size - len(right))], strict=True))


def _quoted(value: Any) -> str:
    return "null" if value is None else repr(str(value))


def listing(settings: Settings) -> dict[str, Any]:
    """The feeds in use: name, system, entity, format, path, mode, where the file is."""
    names = ("feed", "system", "entity", "format", "path", "mode", "source")
    return {"feeds": [{n: getattr(f, n) for n in names} for f in load_feeds(settings.feeds).values()]}


def listing_text(result: dict[str, Any]) -> str:
    """The answer for people."""
    rows = [f"{f['feed']:<28} {f['entity']:<14} {f['format']:<12} {f['path']}" for f in result["feeds"]]
    return "\n".join(rows or ["no feeds: put feed files into conf/feeds/ or name their folder with --feeds"])
