"""Invariant 5: the history of every dimension is whole, and a pure function of its standing events and facts."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from pyspark.sql import Column, Window
from pyspark.sql import functions as F

from utilityflow.errors import UtilityFlowError, nearest
from utilityflow.gold.dimensions import events_of, members_named, naming
from utilityflow.lakehouse import Table
from utilityflow.operate.checks.base import Check, Evidence, Found, any_of, rows_of, together
from utilityflow.operate.scene import Scene
from utilityflow.scd2 import Dimension, local_day, refusals, unknown_member, versions
from utilityflow.scd2.difference import ACTION, DELETE, INSERT, MOVED, SAME, UPDATE, compared
from utilityflow.scd2.dimension import END
from utilityflow.scd2.timeline import valid_on

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def dimensions(scene: Scene) -> dict[str, Dimension]:
    """Table name -> dimension, for those with history that exist."""
    found = {c.name: Dimension.from_contract(c) for c in scene.contracts.of_layer("gold") if c.property("scd2")}
    return {name: d for name, d in found.items() if scene.house.table(name).version() > 0}


def sources(scene: Scene, name: str) -> tuple[Table | None, dict[str, str]]:
    """Where a dimension comes from: the table of its events, and the tables (with their column) that name members."""
    events = events_of(scene.house, name)
    return scene.house.table(events) if events else None, naming(scene.house, name)


# -- the table by itself ---------------------------------------------------------------------------------------------


def spans(rows: DataFrame, d: Dimension, zone: str, as_of: dt.date) -> DataFrame:
    """The rows with ``_next`` (start of the key's next version), ``_currents`` (current rows of the key), ``_alike``
    (rows with the surrogate key) and ``_valid`` (valid on the as-of date).
    """  # noqa: D205
    key = Window.partitionBy(*d.key)
    return rows.withColumns({
        "_next": F.lead(d.valid_from).over(key.orderBy(d.valid_from, d.valid_to, d.surrogate_key)),
        "_currents": F.count_if(F.col(d.current)).over(key),
        "_alike": F.count(F.lit(1)).over(Window.partitionBy(d.surrogate_key)),
        "_valid": valid_on(d, F.col(d.valid_from), F.col(d.valid_to), zone, as_of),
    })  # fmt: skip


def span_tests(d: Dimension) -> dict[str, Column]:
    """What a single table can break, by what is said of it; over the columns of ``spans``."""
    start, end = F.col(d.valid_from), F.col(d.valid_to)
    return {
        "starts on or after its end": start >= end,
        "overlaps the next version of its key": F.col("_next") < end,
        "shares its surrogate key with another row": F.col("_alike") > 1,
        "is one of several current rows of its key": F.col(d.current) & (F.col("_currents") > 1),
        "says the wrong thing of being current on the as-of date": F.col(d.current) != F.col("_valid"),
    }


def history_is_whole(evidence: Evidence) -> Found:
    """No overlap, from < to, one current row at most, ``is_current`` right, surrogate keys unique."""
    return together(_whole(evidence.scene, name, d) for name, d in dimensions(evidence.scene).items())


def _whole(scene: Scene, name: str, d: Dimension) -> Found:
    rows = spans(scene.house.table(name).read(), d, scene.home.zone, _as_of(scene, name))
    bad = rows.withColumn("_what", any_of(span_tests(d))).where(F.col("_what").isNotNull())
    return rows_of(bad, lambda r: f"{name} {r[d.surrogate_key]} (from {r[d.valid_from]}): {r['_what']}")


def gaps_have_deletes(evidence: Evidence) -> Found:
    """A version that ends before the next begins, or for good, ends on the day of a delete event of its key."""
    return together(_gaps(evidence.scene, name, d) for name, d in dimensions(evidence.scene).items())


def _gaps(scene: Scene, name: str, d: Dimension) -> Found:
    source, _ = sources(scene, name)
    rows = spans(scene.house.table(name).read(), d, scene.home.zone, _as_of(scene, name))
    deletes = None if source is None else source.read().where("operation = 'delete'")
    bad = unexplained_gaps(rows, deletes, d, scene.home.zone)
    return rows_of(
        bad, lambda r: f"{name} {r[d.surrogate_key]}: a gap from {r[d.valid_to]}, no delete event of that day"
    )


def unexplained_gaps(rows: DataFrame, deletes: DataFrame | None, d: Dimension, zone: str) -> DataFrame:
    """Rows of ``spans`` behind which a gap lies that no delete event explains."""
    ended = rows.where(F.coalesce(F.col("_next"), d.bound(END)) > F.col(d.valid_to))
    if deletes is None:
        return ended
    when = local_day(F.col("effective_at"), zone) if d.grain == "day" else F.col("effective_at")
    known = deletes.select(*d.key, when.alias(d.valid_to)).distinct()
    return ended.join(known, [*d.key, d.valid_to], "left_anti")


# -- the table against its events ------------------------------------------------------------------------------------


def equals_its_rebuild(evidence: Evidence, only: str | None = None) -> Found:
    """The table, row for row with keys, is what all its standing events and facts give."""
    scene = evidence.scene
    return together(_rebuilt(scene, name, d) for name, d in dimensions(scene).items() if only in (None, name))


def rebuild(scene: Scene, name: str, d: Dimension) -> DataFrame:
    """All rows that the dimension should have: versions, inferred members, the unknown one."""
    source, facts = sources(scene, name)
    needed: DataFrame | None = None
    for fact, column in facts.items():
        own = members_named(scene.house.table(fact).read(), column, d.key[0])
        needed = own if needed is None else needed.unionByName(own)
    events = _no_events(scene, d) if source is None else source.read()
    fit = refusals(events, d, zone=scene.home.zone).where("_refused IS NULL").drop("_refused")
    distinct = None if needed is None else needed.distinct()
    rows = versions(fit, d, zone=scene.home.zone, as_of=_as_of(scene, name), needed=distinct)
    return rows.unionByName(unknown_member(scene.house.spark, d))


def _no_events(scene: Scene, d: Dimension) -> DataFrame:
    kinds = d.types | {"effective_at": "timestamp", "operation": "string"}
    names = [*d.key, *d.attributes, *d.provenance, "effective_at", "operation"]
    return scene.house.spark.createDataFrame([], ", ".join(f"{n} {kinds[n]}" for n in names))


def _rebuilt(scene: Scene, name: str, d: Dimension) -> Found:
    found = compared(scene.house.table(name).read(), rebuild(scene, name, d), d)
    changed = found.where(F.col(ACTION) != SAME)
    source, _ = sources(scene, name)
    if source is not None and d.provenance:  # another event than the named one is fine while the named one stands
        old = [f"_old_{p}" for p in d.provenance]
        standing = source.read().select(
            *[F.col(p).alias(o) for p, o in zip(d.provenance, old, strict=True)], F.lit(True).alias("_stands")
        )
        changed = changed.join(standing.dropDuplicates(old), old, "left").where(
            (F.col(ACTION) != MOVED) | F.col("_stands").isNull()
        )
    said = {INSERT: "is missing", DELETE: "is not what its events give", UPDATE: "differs from what its events give",
            MOVED: "names an event that does not stand"}  # fmt: skip
    return rows_of(changed, lambda r: f"{name} {r[d.surrogate_key]} (from {r[d.valid_from]}): {said[r[ACTION]]}")


def named_dimension(scene: Scene, word: str) -> str:
    """The dimension that a user names, with or without its layer.

    :raises UtilityFlowError: UF-1004 naming the nearest.
    """
    names = list(dimensions(scene))
    found = [n for n in names if word in (n, n.partition(".")[2])]
    if not found:
        raise UtilityFlowError("UF-1004", f"there is no dimension '{word}' with history", hint=nearest(word, names))
    return found[0]


def _as_of(scene: Scene, name: str) -> dt.date:
    """The day for which the table says ``is_current``: that of the run that made it."""
    told = scene.consumed.get(name, {}).get("as_of")
    if told:
        return dt.date.fromisoformat(told)
    return scene.publication.as_of if scene.publication else scene.home.today()


CHECKS = (
    Check(
        "history.whole",
        5,
        "versions of a key do not overlap, one at most is current, surrogate keys are unique",
        history_is_whole,
    ),
    Check("history.gaps", 5, "a gap lies only where a delete lies", gaps_have_deletes),
    Check(
        "history.rebuild", 5, "each dimension equals its rebuild from all standing events and facts", equals_its_rebuild
    ),
)
