"""``explain``: a gold row back to the files and lines that it comes from, with every step in between.

The answer is for the engineer who may see the data: personal columns are shown, and listed as such.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import and_
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.contracts import Contract
from utilityflow.control.ledger import Entry
from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.gold import (
    application,
    compliance,
    customer360,
    efficiency,
    eia861,
    identity,
    monthly,
    outages,
    receivables,
    satisfaction,
)
from utilityflow.gold.changes import final_states, identified, latest_first
from utilityflow.gold.events import EVENT_FACTS
from utilityflow.gold.facts import EARLY, GAP, INCOMPLETE, MIXED, OVERLONG, final_reads, quality_rank, without_overlaps
from utilityflow.gold.scorecard import NAME as SCORECARD
from utilityflow.gold.scorecard import SERVICE
from utilityflow.gold.service_reliability import KPI, THRESHOLD
from utilityflow.gold.usage import NAME as USAGE
from utilityflow.gold.usage import READS
from utilityflow.operate.checks.history import sources
from utilityflow.operate.scene import Scene, open_scene
from utilityflow.scd2 import UNKNOWN_KEY, Dimension
from utilityflow.scd2.hashing import local_day
from utilityflow.settings import Settings
from utilityflow.silver.judging import ENTITIES

MOST = 50  # records shown of a kind
_PLACE = ("_file_sha256", "_row_number")
_EVENTS = {fact.grain.name: fact for fact in EVENT_FACTS}
_FLAGS = {
    EARLY: "the fact lies before the customer's first version and has that version's key",
    GAP: "the fact lies where the customer is deleted and has the unknown member's key",
    INCOMPLETE: "the intervals do not cover the whole local day",
    OVERLONG: "the intervals cover more time than the local day has",
    MIXED: "the intervals of the day differ in quality",
    outages.NO_POINTS: "no active service point is known on the element that day",
    outages.DIFFER: "the source states another number of customers than hang on the element",
    outages.SEVERAL: "those interrupted hang on several circuits",
    outages.OVERLAP: "another step says that the same element was without supply at the same time",
}


def explain(settings: Settings, table: str, key: str) -> dict[str, Any]:
    """Lead one gold row (of a dimension also: all versions of a natural key) back to its sources.

    :param key: the surrogate or fact key; of a dimension also the natural key.
    :returns: ``table``, ``key``, ``rows`` (gold rows), ``records`` (what is behind them: silver values, ``final`` and
        why, flags explained, file, sha256, row number, raw record, feed, run), ``why`` in words, ``personal`` columns.
    :raises UtilityFlowError: UF-3001 for a table that is not there, UF-4006 for a key that it does not hold.
    """
    scene = open_scene(settings)
    contract = _contract(scene, table)
    if contract.property("scd2"):
        answer = _dimension(scene, contract, key)
    else:
        answer = _ways().get(contract.name, _calendar)(scene, contract, key)
    tagged = [c.name for c in contract.columns if c.private]
    return {"table": contract.name, "key": key, **answer, "personal": [*tagged, "raw"]}


def _ways() -> dict[str, Callable[[Scene, Contract, str], dict[str, Any]]]:
    """Table without history -> what leads its rows back."""
    from utilityflow.operate import explain_customers as customers  # it uses what is here

    return dict.fromkeys(_EVENTS, _event) | {
        USAGE: _fact, outages.NAME: _outage, satisfaction.NAME: _satisfaction, efficiency.NAME: _efficiency,
        receivables.NAME: _receivables, KPI: _reliability, monthly.NAME: customers.usage, customer360.NAME: customers.customer,
        compliance.NAME: _compliance, eia861.NAME: _benchmark, identity.NAME: customers.whom, application.NAME: _application,
    }  # fmt: skip


def _contract(scene: Scene, table: str) -> Contract:
    names = [c.name for c in scene.contracts.of_layer("gold")]
    found = [n for n in names if table in (n, n.partition(".")[2])]
    if not found:
        raise UtilityFlowError("UF-3001", f"there is no gold table '{table}'", hint=nearest(table, names))
    return scene.contracts[found[0]]


def _number(key: str) -> int | None:
    return int(key) if re.fullmatch(r"-?\d{1,19}", key) and -(2**63) <= int(key) < 2**63 else None


def _rows(scene: Scene, contract: Contract, test: Column | None) -> list[dict[str, Any]]:
    table = scene.house.table(contract.name)
    if table.version() <= 0 or test is None:
        return []
    return [row.asDict() for row in table.read().where(test).limit(MOST).collect()]


def _row(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """The row with a primary key.

    :raises UtilityFlowError: UF-4006 when there is none.
    """
    name, number = contract.primary_key[0], _number(key)
    rows = _rows(scene, contract, None if number is None else F.col(name) == number)
    if not rows:
        raise _no_such(contract, name)
    return rows[0]


def _no_such(contract: Contract, what: str) -> UtilityFlowError:
    # the key may be personal data and messages are logged: it is not repeated
    key = contract.primary_key[0]
    return UtilityFlowError(
        "UF-4006", f"{contract.name} holds no row with that {what}", hint=f"look up a {key} in the warehouse"
    )


# -- facts -----------------------------------------------------------------------------------------------------------


def _fact(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    fact = _row(scene, contract, key)
    reads = scene.house.table(READS)
    same = (F.col("billing_period") == fact["billing_period"]) & (F.col("_identity") == fact["usage_key"])
    mine = reads.read().where(same)
    final, of_interval = final_reads(mine, reads.contract), F.col("period_kind") == "interval"
    chosen = final.where(~of_interval).unionByName(without_overlaps(final.where(of_interval), reads.contract))
    chosen = chosen.select(*_PLACE, F.lit(True).alias("_final"))
    ranked = mine.withColumn("_rank", quality_rank(reads.contract))
    found = ranked.join(chosen, list(_PLACE), "left")
    ordered = [
        r.asDict()
        for r in found.orderBy("interval_start", "_rank", F.desc("_batch_id"), F.desc("_row_number"))
        .limit(MOST)
        .collect()
    ]
    records = _with_sources(scene, ordered, reads.contract)
    for record, read in zip(records, ordered, strict=True):
        record["final"] = bool(read["_final"])
        record["why"] = _why_final(read, ordered)
    return {"rows": [_shown(fact)], "records": records, "why": _why_fact(fact, ordered),
            "flags": _flags(fact["quality_flags"], reads.contract)}  # fmt: skip


def _event(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """A fact of one event: the states that the source told of, the final one first."""
    fact, spec = _row(scene, contract, key), _EVENTS[contract.name]
    source = scene.house.table(spec.grain.source)
    mine = identified(source.read(), source.contract).where(F.col("_identity") == fact[spec.grain.key])
    ordered = [r.asDict() for r in mine.orderBy(*latest_first()).limit(MOST).collect()]
    records = _with_sources(scene, ordered, source.contract)
    for place, record in enumerate(records):
        record["final"] = place == 0
        record["why"] = "the final state" if place == 0 else "not final: an earlier state, or an older delivery of it"
    return {"rows": [_shown(fact)], "records": records, "flags": _flags(fact["quality_flags"], source.contract),
            "why": f"the final state of {len(ordered)} standing record(s) of this {spec.what}"}  # fmt: skip


def _satisfaction(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """A row of the mart: the requests that it counts."""
    row, spec = _row(scene, contract, key), _EVENTS[satisfaction.REQUESTS]
    facts = scene.house.table(spec.grain.name).read()
    month = int(row["date_key"]) // 100
    own = facts.where((F.expr("date_key div 100") == month) & (F.col("request_type_key") == row["request_type_key"]))
    own = own.where(F.coalesce("district", F.lit("?")) == row["district"])
    return {"rows": [_shown(row)], "records": _counted(scene, spec.grain.source, own, MOST), "flags": {},
            "why": f"made of {row['requests']:,} request(s); up to {MOST} are shown"}  # fmt: skip


def _efficiency(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """A row of the mart: some facts of the month, of each table that it counts."""
    row = _row(scene, contract, key)
    # the states of requests are shown as the facts that are made of them
    names = [n for n in efficiency.INPUTS if n in scene.consumed.get(efficiency.NAME, {}) and n != efficiency.STATES]
    month, most = int(row["date_key"]) // 100, MOST // max(len(names), 1)
    sources = {USAGE: READS} | {spec.grain.name: spec.grain.source for spec in EVENT_FACTS}
    records = []
    for name in names:
        own = scene.house.table(name).read().where(F.expr("date_key div 100") == month)
        records += _counted(scene, sources[name], own, most)
    return {"rows": [_shown(row)], "records": records, "flags": {},
            "why": f"made of the month's facts; up to {most} of each table are shown"}  # fmt: skip


def _receivables(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """A row of the mart: bills and money of the account."""
    row, names = _row(scene, contract, key), (receivables.BILLS, receivables.PAYMENTS)
    bills, payments = (scene.house.table(name).read() for name in names)
    mine = [F.col(n) == F.lit(row[n]) for n in ("account_id", "is_account", "currency")]
    every = receivables.located(*receivables.until(bills, payments, row["as_of_date"]))
    records = []
    for name, facts in zip(names, every, strict=True):
        records += _counted(scene, _EVENTS[name].grain.source, facts.where(mine[0] & mine[1] & mine[2]), MOST)
    return {"rows": [_shown(row)], "records": records, "flags": {},
            "why": f"the account's bills and money until {row['as_of_date']}; up to {MOST} of each are shown"}  # fmt: skip


def _application(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """A bill with what was applied to it: its lines and, where the pool paid some of it, all money of the account."""
    row = _row(scene, contract, key)
    as_of = dt.date.fromisoformat(scene.consumed[contract.name]["as_of"])
    bills, payments = (scene.house.table(name).read() for name in application.INPUTS)
    lines, moved = receivables.located(*receivables.until(bills, payments, as_of))
    account = reduce(and_, (F.col(n) == F.lit(row[n]) for n in receivables.ACCOUNT))
    own = account & (F.col("_bill") == row["bill_id"])
    paid = account if row["paid_from_pool"] else own
    records = [
        record for name, some in zip(application.INPUTS, (lines.where(own), moved.where(paid)), strict=True)
        for record in _counted(scene, _EVENTS[name].grain.source, some, MOST)
    ]  # fmt: skip
    why = "the account's money, as its pool paid" if row["paid_from_pool"] else "the money that names it"
    return {"rows": [_shown(row)], "records": records, "flags": {},
            "why": f"the lines of the bill and {why}, until {as_of}; up to {MOST} of each are shown"}  # fmt: skip


def _benchmark(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """A row of the benchmark: the final filings that it pools."""
    row, table = _row(scene, contract, key), scene.house.table(eia861.FILINGS)
    final = final_states(table.read().where(F.col("report_year") == row["report_year"]), *eia861.FILING)
    counted = eia861.filed(final)
    for name, every in (("state", eia861.COUNTRY), ("method", eia861.BOTH)):
        counted = counted if row[name] == every else counted.where(F.col(name) == row[name])
    own = final.join(counted, list(eia861.FILING), "left_semi")
    return {"rows": [_shown(row)], "records": _counted(scene, table.name, own, MOST), "flags": {},
            "why": f"the average over {row['filings']:,} filing(s), weighted by customers; up to {MOST} are shown"}  # fmt: skip


def _counted(scene: Scene, source: str, facts: DataFrame, most: int) -> list[dict[str, Any]]:
    """The records behind some of the facts that a row of a mart counts, in the order of their places."""
    table = scene.house.table(source)
    places = facts.select(*_PLACE).orderBy(*_PLACE).limit(most)
    some = table.read().join(F.broadcast(places), list(_PLACE), "left_semi").orderBy(*_PLACE)
    found = _with_sources(scene, [r.asDict() for r in some.collect()], table.contract)
    return [record | {"final": True, "why": "counted"} for record in found]


def _why_final(read: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Why a read is final or not, against those of the same identity (and interval)."""
    same = [o for o in others if o["interval_start"] == read["interval_start"]]
    final = next((o for o in same if o["_final"]), None)
    if final is None:
        return "not final: a better read overlaps its interval"
    if len(same) == 1:
        return "the only read"
    pairs = (("_rank", "quality"), ("_batch_id", "delivery"), ("_row_number", "record of its file"))
    if read is final:
        second = next(o for o in same if o is not final)
        column, what = next((p for p in pairs if second[p[0]] != final[p[0]]), pairs[-1])
        return "best quality" if column == "_rank" else f"newest {what} among reads of equal quality"
    column, what = next((p for p in pairs if read[p[0]] != final[p[0]]), pairs[-1])
    return (
        f"not final: {read['read_quality']} is worse than {final['read_quality']}"
        if column == "_rank"
        else f"not final: an older {what}"
    )


def _why_fact(fact: Mapping[str, Any], reads: Sequence[Mapping[str, Any]]) -> str:
    final = sum(bool(r["_final"]) for r in reads if r["period_kind"] == "interval")
    # a day can have come as a total too: the fact names the read, or the first of the intervals, that it is made of
    if any(r["period_kind"] == "interval" and all(r[n] == fact[n] for n in _PLACE) for r in reads):
        return f"the sum of {final} interval read(s) of the local day, out of {len(reads)} standing read(s)"
    return f"the final read of {len(reads)} standing read(s) of this customer, meter, register and period"


def _outage(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    row = _row(scene, contract, key)
    records = _states(scene, [row])
    why = f"the final one of {len(records)} standing state(s) of this step; its service points are those on its day"
    told = scene.contracts[outages.OUTAGES]
    return {"rows": [_shown(row)], "records": records, "why": why, "flags": _flags(row["quality_flags"], told)}


def _states(scene: Scene, facts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The states behind facts of outages, the final one of each step first."""
    table = scene.house.table(outages.OUTAGES)
    mine = table.read().where(F.col("outage_id").isin(*{f["outage_id"] for f in facts}))
    steps = {(f["outage_id"], f["step_id"]) for f in facts}
    ordered = [r.asDict() for r in mine.orderBy(*outages.STEP, *latest_first()).collect()]
    ordered = [r for r in ordered if (r["outage_id"], r["step_id"]) in steps][:MOST]
    final = {(f["_file_sha256"], f["_row_number"]) for f in facts}
    records = _with_sources(scene, ordered, table.contract)
    for record, state in zip(records, ordered, strict=True):
        record["final"] = (state["_file_sha256"], state["_row_number"]) in final
        record["why"] = "the final state" if record["final"] else "not final: a newer state, file or record tells otherwise"
    return records


def _compliance(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """A filing: the states that the register told of, the final one first, then the audit events that name it."""
    row = _row(scene, contract, key)
    filings, audits = (scene.house.table(n) for n in (compliance.FILINGS, compliance.AUDITS))
    mine = filings.read().where(F.col("filing_id") == row["filing_id"])
    states = [r.asDict() for r in mine.orderBy(*latest_first()).limit(MOST).collect()]
    tellings = compliance.telling_of(audits.read(), mine).orderBy("event_id", F.desc("_batch_id"), F.desc("_row_number"))
    events = [r.asDict() for r in tellings.limit(MOST).collect()]
    last = {event["event_id"]: event for event in reversed(events)}
    records = _with_sources(scene, states, filings.contract)
    for place, record in enumerate(records):
        why = "an earlier state: it tells of submissions and figures" if place else "the final state"
        record |= {"final": place == 0, "why": why}
    for record, event in zip(_with_sources(scene, events, audits.contract), events, strict=True):
        counts = last[event["event_id"]] is event and event["filing_id"] == row["filing_id"]
        records.append(record | {"final": counts, "why": "an audit event that names it" if counts else "told otherwise later"})
    why = f"the final state of {len(states)} standing record(s) of this filing, with {len(events)} of audit events"
    return {"rows": [_shown(row)], "records": records, "why": why, "flags": _flags(row["quality_flags"], filings.contract)}


def _reliability(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    """An index back to the interruptions of its month that lie in its place, or in several."""
    row = _row(scene, contract, key)
    here = [F.coalesce(F.col(n), F.lit(row[n])) == row[n] for n in ("district", "circuit_id")]
    month = F.col("date_key").between(row["date_key"], row["date_key"] + 30)
    facts = _rows(scene, scene.contracts[outages.NAME], month & here[0] & here[1])
    why = (
        f"{len(facts)} interruption(s) of the month in this place or in several places ({MOST} at most are shown), before "
        f"exclusions ({row['exclusions']}), over active service points of {row['days']} day(s)"
    )
    return {"rows": [_shown(row)], "records": _states(scene, facts), "why": why, "flags": {}}


# -- dimensions ------------------------------------------------------------------------------------------------------


def _dimension(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    d = Dimension.from_contract(contract)
    number = _number(key)
    rows = _rows(scene, contract, None if number is None else F.col(d.surrogate_key) == number)
    whole = d.key if rows else d.key[:1]  # a surrogate key is of one natural key, a number may stand in several
    rows = rows or sorted(_rows(scene, contract, F.col(d.key[0]) == key), key=lambda r: r[d.valid_from])
    if not rows:
        raise _no_such(contract, f"{d.surrogate_key} or {d.key[0]}")
    natural = rows[0][d.key[0]]
    if rows[0][d.surrogate_key] == UNKNOWN_KEY:
        return {
            "rows": [_shown(r) for r in rows],
            "records": [],
            "flags": {},
            "why": "the reserved row for what is unknown; no source says it",
        }
    source, facts = sources(scene, contract.name)
    if all(r[d.inferred] for r in rows):
        needed = _needing(scene, facts, natural)
        return {"rows": [_shown(r) for r in rows], "flags": {}, **needed}
    assert source is not None  # noqa: S101 - a row that is not inferred comes from events
    mine = (
        source.read()
        .where(reduce(and_, (F.col(n) == rows[0][n] for n in whole)))
        .orderBy("effective_at", F.col("sequence").asc_nulls_first(), "_batch_id", "_row_number")
        .withColumn("_began", local_day(F.col("effective_at"), scene.home.zone) if d.grain == "day" else F.col("effective_at"))
    )
    ordered = [r.asDict() for r in mine.limit(MOST).collect()]
    records = _with_sources(scene, ordered, source.contract)
    events_of = Counter((e["_file_sha256"], e["_row_number"]) for e in ordered)
    for record, event in zip(records, ordered, strict=True):
        place = event["_file_sha256"], event["_row_number"]
        # a record of a snapshot that came again is an event at several times
        made = [r[d.surrogate_key] for r in rows if (r["_file_sha256"], r["_row_number"]) == place
                and (events_of[place] == 1 or r[d.valid_from] == event["_began"])]  # fmt: skip
        record["made"] = made
        record["why"] = _why_event(event, made)
    codes = [code for event in ordered for code in event["quality_flags"]]
    why = f"{len(rows)} version(s) from {len(ordered)} standing event(s), folded to the last of each local day"
    why += ", which keeps what those before it told of and it does not" if d.partial else ""
    return {
        "rows": [_shown(r) for r in rows],
        "records": records,
        "flags": _flags(codes, source.contract),
        "why": why,
    }


def _why_event(event: Mapping[str, Any], made: Sequence[int]) -> str:
    if made:
        return f"begins version {made[0]}"
    if event["operation"] == "delete":
        derived = " (the snapshot lacks the key)" if event["_row_number"] == 0 else ""
        return f"ends what was valid{derived}"
    return "begins no version shown here: a later event of its day counts, or nothing changed"


def _needing(scene: Scene, facts: Mapping[str, str], natural: str) -> dict[str, Any]:
    """The facts that need an inferred member."""
    records: list[dict[str, Any]] = []
    total = 0
    for name, column in facts.items():
        table = scene.house.table(name)
        mine = table.read().where(F.col(column) == natural)
        mine = identified(mine, table.contract) if table.contract.property("identity") else mine
        total += mine.count()
        day = ENTITIES[table.contract.table].day or "_batch_id"
        some = [r.asDict() for r in mine.orderBy(day, "_batch_id", "_row_number").limit(10).collect()]
        for record, row in zip(_with_sources(scene, some, table.contract), some, strict=True):
            of_key = f", by the fact with the key {row['_identity']}" if "_identity" in row else ""
            records.append(record | {"why": f"needs the member{of_key}"})
    return {"records": records, "why": f"an inferred member: no event tells of it, {total:,} standing record(s) name it"}


def _calendar(scene: Scene, contract: Contract, key: str) -> dict[str, Any]:
    row = _row(scene, contract, key)
    made = {
        SCORECARD: f"added up from {SERVICE.get(row.get('metric_code', ''), (KPI,))[0]} over all districts, circuits and types",
        THRESHOLD: f"from the days of {outages.NAME} before the year",
    }
    why = made.get(contract.name, "made by the suite, from no file")
    return {"rows": [_shown(row)], "records": [], "flags": {}, "why": why}


# -- sources ---------------------------------------------------------------------------------------------------------


def _with_sources(scene: Scene, rows: Sequence[Mapping[str, Any]], contract: Contract) -> list[dict[str, Any]]:
    """Each silver row with its file, its record as it came, its feed and the run that brought it."""
    raw: dict[tuple[str, str, int], dict[str, Any]] = {}
    for feed in sorted({r["_feed"] for r in rows}):
        wanted = [r for r in rows if r["_feed"] == feed and r["_row_number"] > 0]
        raw |= {(feed, *place): record for place, record in _raw(scene, feed, wanted).items()}
    result = []
    for row in rows:
        feed, sha, number = row["_feed"], row["_file_sha256"], row["_row_number"]
        entry = scene.ledger.entries.get((feed, sha))
        result.append({
            "silver": contract.name,
            "values": {n: _plain(row[n]) for n in contract.column_names if not n.startswith("_")},
            "feed": feed, "file": _file_of(entry, row) if entry else None, "names": sorted(entry.names) if entry else [],
            "sha256": sha, "row_number": number, "raw": raw.get((feed, sha, number)), "batch_id": row["_batch_id"],
            "run_id": entry.run_id if entry else None, "flags": _flags(row["quality_flags"], contract),
        })  # fmt: skip
    return result


def _file_of(entry: Entry, row: Mapping[str, Any]) -> str:
    """The name under which a record came: of a content that is several snapshots, the one of the event's time."""
    at = row.get("effective_at")
    told = sorted(n for n, time in entry.times.items() if at is not None and time == at.astimezone(dt.timezone.utc))
    return entry.file_name if entry.file_name in told or not told else told[0]


def _raw(scene: Scene, feed: str, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """(sha256, row number) -> raw columns, as bronze holds them."""
    if not rows:
        return {}
    table = scene.house.table(f"bronze.{feed}")
    bronze: DataFrame = table.read()
    test = F.col("_file_sha256").isin(*{r["_file_sha256"] for r in rows}) & F.col("_row_number").isin(
        *{r["_row_number"] for r in rows}
    )
    own = set(table.contract.column_names)
    return {
        (r["_file_sha256"], r["_row_number"]): {
            n: _plain(v) for n, v in r.asDict().items() if n not in own and v is not None
        }
        for r in bronze.where(test).collect()
    }


def _flags(codes: Sequence[str] | None, contract: Contract) -> dict[str, str]:
    told = {rule.flag: f"{rule.id}: {rule.description}" for rule in contract.rules} | _FLAGS
    return {code: told.get(code, "") for code in codes or ()}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | list) else str(value)


def text(result: dict[str, Any]) -> str:
    """The answer for people."""
    lines = []
    for row in result["rows"]:
        lines.append(result["table"])
        lines += [f"  {name} = {value}" for name, value in row.items() if value is not None]
    lines.append(result["why"])
    lines += [f"  flag {code}: {what}" for code, what in result["flags"].items()]
    for record in result["records"]:
        lines.append(
            f"{record['file'] or record['sha256'][:12]}, record {record['row_number']} ({record['feed']}): "
            f"{record['why']}"
        )
        lines.append("  " + ", ".join(f"{n}={v}" for n, v in record["values"].items() if v not in (None, [])))
        if record["raw"]:
            lines.append("  as it came: " + ", ".join(f"{n}={v!r}" for n, v in record["raw"].items()))
        others = [n for n in record["names"] if n != record["file"]]
        if others:
            lines.append(f"  also under {', '.join(others)}")
    lines.append(f"personal: {', '.join(result['personal'])}")
    return "\n".join(lines)
