"""Invariant 9: columns tagged as personal data appear nowhere untagged: not in contracts, logs, run tables, reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from utilityflow.contracts import Catalog, Contract
from utilityflow.operate.checks.base import Check, Evidence, Found, named
from utilityflow.operate.scene import Scene
from utilityflow.silver.judging import ENTITIES

SAMPLE = 300  # rows of each table whose values are looked for
SHORTEST, SHORTEST_NUMBER = 5, 7  # shorter values (a house number, a count) stand in texts by chance


def tags_agree(evidence: Evidence) -> Found:
    """A column has the same classification in every contract that has it."""
    return named(disagreements(evidence.scene.contracts))


def disagreements(contracts: Catalog) -> Iterator[str]:
    """Columns of one name with two classifications, and columns made from a personal one that are not personal."""
    every: list[Contract] = [*contracts.values(), *contracts.families.values()]
    said: dict[str, dict[str, list[str]]] = {}
    personal = {f"{c.name}.{k.name}" for c in every for k in c.columns if k.private}
    for contract in every:
        for column in contract.columns:
            said.setdefault(column.name, {}).setdefault(column.classification, []).append(contract.name)
            if not column.private and column.type != "bigint" and personal & set(column.sources):
                yield f"{contract.name}.{column.name} comes from {', '.join(column.sources)}, which is personal"
    for name, kinds in sorted(said.items()):
        if len(kinds) > 1 and "personal" in kinds:
            others = [t for kind, tables in kinds.items() if kind != "personal" for t in tables]
            yield f"{name} is personal in {', '.join(kinds['personal'])}, untagged in {', '.join(others)}"


def texts_are_clean(evidence: Evidence) -> Found:
    """Logs, run journals, run tables and reasons hold no value of a personal column (looked for by sample)."""
    scene = evidence.scene
    values = personal_values(scene)
    names = {e.file_name for e in scene.ledger.entries.values()}
    found = []
    for place, texts in places(scene).items():
        hits = leaks(texts, values, names)
        found += [f"{place}: {n} text(s) hold a value of {column}" for column, n in sorted(hits.items())]
    return named(found)


def personal_values(scene: Scene) -> dict[str, str]:
    """Value -> the column it is of; some values of every personal column, quarantined records included."""
    values: dict[str, str] = {}
    for entity in ENTITIES:
        table = scene.house.table(f"silver.{entity}")
        if table.version() <= 0:
            continue
        tagged = [c.name for c in table.contract.columns if c.private and c.type == "string"]
        for row in table.read().select(*tagged).limit(SAMPLE).collect():
            values |= {row[n]: f"{table.name}.{n}" for n in tagged if _telling(row[n])}
        fence = scene.house.table(f"silver.{entity}__quarantine")
        raw = _raw_names(scene, entity, tagged)
        for row in fence.read().select("_feed", "record").limit(SAMPLE).collect() if fence.version() > 0 else []:
            record = _record(row["record"])
            for name, value in record.items():
                if name in raw.get(row["_feed"], ()) and _telling(value):
                    values[value] = f"{fence.name}.record"
    return values


def _raw_names(scene: Scene, entity: str, tagged: Collection[str]) -> dict[str, set[str]]:
    """Feed -> raw columns that its expressions of personal columns read."""
    return {
        name: {r for column, e in feed.expressions().items() if column in tagged for r in e.columns_read}
        for name, feed in scene.feeds.items()
        if feed.entity == entity
    }


def _record(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _telling(value: Any) -> bool:
    return isinstance(value, str) and len(value.strip()) >= (SHORTEST_NUMBER if value.strip().isdigit() else SHORTEST)


def places(scene: Scene) -> dict[str, list[str]]:
    """Where values could leak to -> its texts."""
    found = {f"logs/{path.name}": log_texts(path) for path in sorted(scene.home.logs.glob("*.jsonl"))}
    for name, columns in {"ops.run": ("error",), "ops.file_ledger": ("reason",)}.items():
        have = [c for c in columns if c in scene.contracts[name].column_names]
        found[name] = [str(row[c]) for row in scene.rows(name, *have) for c in have if row[c]] if have else []
    for entity in ENTITIES:
        fence = scene.house.table(f"silver.{entity}__quarantine")
        if fence.version() > 0:
            reasons = fence.read().select(F.explode("reasons").alias("reason")).distinct().limit(1000).collect()
            found[f"{fence.name}.reasons"] = [row["reason"] for row in reasons]
    return found


def log_texts(path: Path) -> list[str]:
    """The texts of a JSON log: messages and text fields; numbers are not texts."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            told = {"message": line}
        found += [
            v for k, v in told.items() if isinstance(v, str) and k not in ("at", "level", "run_id", "step", "feed")
        ]
    return found


def leaks(texts: Iterable[str], values: Mapping[str, str], files: Collection[str]) -> dict[str, int]:
    """Column -> number of texts that hold one of its values as whole words. Names of files may be told."""
    alternatives = sorted(values, key=len, reverse=True)
    if not alternatives:
        return {}
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(re.escape(v) for v in alternatives) + r")(?!\w)")
    hits: dict[str, int] = {}
    for text in texts:
        for name in files:
            text = text.replace(name, " ")
        match = pattern.search(text)
        if match:
            hits[values[match.group()]] = hits.get(values[match.group()], 0) + 1
    return hits


CHECKS = (
    Check("privacy.tags", 9, "a column is tagged as personal everywhere or nowhere", tags_agree),
    Check("privacy.texts", 9, "logs, run tables and reasons hold no personal values (by sample)", texts_are_clean),
)
