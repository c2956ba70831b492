"""``feed check``: what a feed file makes of the files that lie in its landing folder, before any of it is loaded.

The records are judged by the very function of the silver step, over a lakehouse whose bronze table is the sample.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utilityflow.bronze.feeds import Feed, load_feed, load_feeds
from utilityflow.bronze.inspect import Inspection, Limits, find_files, inspect_file
from utilityflow.contracts import load_contracts
from utilityflow.control.home import Home, open_home
from utilityflow.control.ledger import Entry, Ledger
from utilityflow.control.run import Run
from utilityflow.extract.steps import missing_secrets, plan_of
from utilityflow.operate.scene import Narrowed, open_house
from utilityflow.quality.rules import broken_any, broken_rules, reasons
from utilityflow.settings import Settings
from utilityflow.silver import snapshots
from utilityflow.silver.judging import check_feeds, judged, problem_of

SHOWN, FAILURES = 3, 10


def check(settings: Settings, file: Path, sample: int = 1000) -> dict[str, Any]:
    """Check one feed file and, where files have landed for it, judge their first records.

    :param sample: how many records to try, spread over the files from the first record on.
    :returns: ``ok`` (no file is refused and no record breaks an error rule), ``feed``, ``files`` (file, sha256, size,
        records, reason), ``records`` and ``failed`` (tried, breaking an error rule), ``sample`` (some records, raw
        beside canonical), ``failures`` (file, row, rules, reasons, raw), ``source`` (of a feed whose files an extract
        lands: what the next one would ask for, and which secrets are missing here). Nothing is written, no source is asked.
    :raises UtilityFlowError: UF-1001 to UF-1003, UF-1011 and UF-1012 for a feed file that does not fit.
    """
    feed = load_feed(str(file))
    check_feeds({feed.feed: feed}, load_contracts())
    landing = settings.landing_path
    limits = Limits(max_decompressed_bytes=settings.thresholds.max_decompressed_bytes)
    found = (
        [inspect_file(feed, path, landing, limits) for path in find_files(feed, landing)] if landing.is_dir() else []
    )
    files = [_told(one) for one in found]
    result: dict[str, Any] = {
        "ok": not any(f["reason"] for f in files), "feed": feed.feed, "entity": feed.entity, "landing": str(landing),
        "files": files, "records": 0, "failed": 0, "sample": [], "failures": [], "source": None,
    }  # fmt: skip
    if feed.extract is not None:
        result["source"] = {"asks": plan_of(feed, landing, Ledger()), "missing_secrets": missing_secrets(feed)}
    readable = [one for one in found if one.stable and not one.reason]
    if readable:
        home = open_home(settings, create=False)
        with tempfile.TemporaryDirectory(prefix="utilityflow-") as scratch:
            result |= _judge(settings, home, feed, readable, sample, Path(scratch))
        result["ok"] = result["ok"] and not result["failed"]
    return result


def _told(one: Inspection) -> dict[str, Any]:
    reason = None if one.reason is None else str(one.reason)
    return {"file": one.file_name, "sha256": one.sha256, "size": one.size, "records": one.records, "reason": reason,
            "stable": one.stable}  # fmt: skip


def _judge(
    settings: Settings, home: Home, feed: Feed, files: Sequence[Inspection], sample: int, scratch: Path
) -> dict[str, Any]:
    from pyspark.sql import functions as F

    from utilityflow.bronze.readers import read_files

    house = open_house(settings, home)
    first: dict[str, Inspection] = {}
    for file in files:
        first.setdefault(file.sha256, file)
    entries = [
        Entry(feed.feed, f.sha256, f.file_name, f.size, feed.definition_hash(), number=i,
              names={g.file_name for g in files if g.sha256 == f.sha256})
        for i, f in enumerate(first.values(), start=1)
    ]  # fmt: skip
    raw = read_files(house.spark, feed, list(first.values()), scratch / "read").withColumn("_batch_id", F.lit(1).cast("bigint"))
    raw = raw.where(F.col("_row_number") <= max(1, -(-sample // len(files))))
    narrowed = Narrowed(house, f"bronze.{feed.feed}", raw)
    run = Run(settings, home, narrowed, Ledger(entries), {feed.feed: feed}, home.today(), "", {})
    if feed.mode == "snapshot":
        snapshots.times(run, feed, entries)
    frame, rules = judged(run, feed, [e for e in entries if e.stands])
    canonical = [n for n in house.contracts[f"silver.{feed.entity}"].column_names if not n.startswith("_")]
    asked = {"_bad": broken_any(rules), "_rules": broken_rules(rules), "_reasons": reasons(rules, problem_of(feed))}
    kept = frame.withColumns(asked).select("_file_name", "_row_number", *asked, "_record", "_corrupt_record", *canonical)
    rows = kept.orderBy("_file_name", "_row_number").limit(sample).collect()
    bad = [r for r in rows if r["_bad"]]
    refused = [{"file": e.file_name, "reason": e.reason} for e in entries if not e.stands]
    refused += [{"file": name, "reason": told[0]} for e in entries for name, told in e.refused.items()]
    return {
        "records": len(rows), "failed": len(bad) + len(refused), "sample": [_beside(r, canonical) for r in rows[:SHOWN]],
        "failures": [{**one, "row": None, "rules": [], "reasons": [one["reason"]], "raw": {}} for one in refused]
                    + [_failure(r) for r in bad[:FAILURES]],
    }  # fmt: skip


def _beside(row: Any, canonical: Sequence[str]) -> dict[str, Any]:
    values = {n: _text(row[n]) for n in canonical if n != "quality_flags"}
    return {"file": row["_file_name"], "row": row["_row_number"], "raw": _plain(row["_record"]), "canonical": values,
            "rules": list(row["_rules"]), "flags": list(row["quality_flags"])}  # fmt: skip


def _failure(row: Any) -> dict[str, Any]:
    raw = {"_corrupt_record": row["_corrupt_record"]} if row["_corrupt_record"] else _plain(row["_record"])
    return {"file": row["_file_name"], "row": row["_row_number"], "rules": list(row["_rules"]),
            "reasons": list(row["_reasons"]), "raw": raw}  # fmt: skip


def _plain(record: Any) -> dict[str, Any]:
    return dict(record.asDict()) if record is not None else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def text(result: dict[str, Any]) -> str:
    """The answer for people."""
    lines = [f"feed {result['feed']} fits its contract silver.{result['entity']}"]
    if result["source"]:
        lines.append(f"an extract {result['source']['asks']}")
        lines += [f"  {problem}" for problem in result["source"]["missing_secrets"]]
    if not result["files"]:
        lines.append(f"no file has landed for it under {result['landing']}")
    for one in result["files"]:
        count = "" if one["records"] is None else f", {one['records']:,} records"
        good = f"can be read{count}" if one["stable"] else "is not taken yet, it may still be being written"
        lines.append(f"  {one['file']}: {one['reason'] or good}")
    if result["records"]:
        lines.append(f"{result['records']:,} records were tried, {result['failed']:,} break an error rule")
    for shown in result["sample"]:
        broken = f" breaks {', '.join(shown['rules'])}" if shown["rules"] else ""
        lines.append(f"{shown['file']}, record {shown['row']}{broken}")
        lines += _columns(shown["raw"], shown["canonical"])
        if shown["flags"]:
            lines.append(f"  flags: {', '.join(shown['flags'])}")
    if result["failures"]:
        lines.append("first failures:")
    for one in result["failures"]:
        lines.append(f"  {one['file']}, record {one['row']}: {'; '.join(one['reasons'])} ({', '.join(one['rules'])})")
        lines.append("    " + ", ".join(f"{n} = {_quoted(v)}" for n, v in one["raw"].items()))
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
