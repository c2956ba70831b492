"""Row rules of a contract as pure columns.

Every contract gives, beside its written rules (ids such as MR-04), the rules that follow from its columns:
``required:<column>``, ``length:<column>``, ``allowed:<column>``; and every feed gives ``conversion:<column>`` and
``corrupt_record``. A rule is broken where its expression is false; null means not applicable, and of a record that could
not be parsed nothing else is said: its columns are not missing, nobody knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.contracts import Contract

CORRUPT = "corrupt_record"


@dataclass(frozen=True)
class Rule:
    """One rule: ``broken`` is a BOOLEAN column, never null."""

    id: str
    dimension: str
    severity: str
    flag: str
    reason: str
    broken: Column


def contract_rules(contract: Contract, zone: str, judged: Sequence[str]) -> list[Rule]:
    """Rules of a silver contract over its canonical columns and ``_corrupt_record``.

    :param zone: the utility's zone, for rules that speak of days.
    :param judged: the columns that feeds fill; others (provenance, hashes) are ours and not judged.
    """
    rules, readable = [], F.col("_corrupt_record").isNull()
    for column in contract.columns:
        if column.name not in judged:
            continue
        value, name = F.col(column.name), column.name
        if column.required:
            rules.append(required(name))
        if column.length:
            rules.append(_error(f"length:{name}", "conformity", f"{name} is longer than {column.length} characters",
                                F.char_length(value) > column.length))  # fmt: skip
        if column.allowed:
            rules.append(_error(f"allowed:{name}", "conformity", f"{name} is none of {', '.join(column.allowed)}",
                                ~value.isin(*column.allowed)))  # fmt: skip
    for written in contract.rules:
        broken = readable & ~F.expr(written.implementation.replace("{zone}", zone))
        rules.append(
            Rule(written.id, written.dimension, written.severity, written.flag, written.description, _sure(broken))
        )
    return rules


def required(name: str) -> Rule:
    """The rule that a canonical column has a value."""
    broken = F.col("_corrupt_record").isNull() & F.col(name).isNull()
    return _error(f"required:{name}", "completeness", f"{name} is missing", broken)


def conversion_rules(columns: Sequence[str]) -> list[Rule]:
    """Rules over ``_unconverted`` (names of the canonical columns whose expression failed) and ``_corrupt_record``."""
    rules = [_error(CORRUPT, "conformity", "the record could not be parsed", F.col("_corrupt_record").isNotNull())]
    readable = F.col("_corrupt_record").isNull()
    for name in columns:
        broken = readable & F.array_contains("_unconverted", name)
        rules.append(_error(f"conversion:{name}", "conformity", f"{name} could not be made from the raw text", broken))
    return rules


def judge(frame: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Add ``_rules`` and ``_reasons`` (ids and sentences of broken error rules) and ``quality_flags`` (codes of broken
    warn rules, sorted); all three are arrays of text, empty for a good row.
    """  # noqa: D205
    errors = [r for r in rules if r.severity == "error"]
    warns = sorted((r for r in rules if r.severity != "error"), key=lambda r: r.flag)
    return frame.withColumns({
        "_rules": _listed(errors, [r.id for r in errors]),
        "_reasons": _listed(errors, [r.reason for r in errors]),
        "quality_flags": _listed(warns, [r.flag for r in warns]),
    })  # fmt: skip


def broken_any(rules: Sequence[Rule]) -> Column:
    """BOOLEAN: whether a row breaks at least one error rule."""
    return reduce(lambda a, b: a | b, [r.broken for r in rules if r.severity == "error"], F.lit(False))


def tallies(rules: Sequence[Rule]) -> list[Column]:
    """Aggregates that count the rows that break each rule, named by position (rule ids are no identifiers)."""
    return [F.count_if(rule.broken).alias(f"rule_{i}") for i, rule in enumerate(rules)]


def _error(identifier: str, dimension: str, reason: str, broken: Column) -> Rule:
    return Rule(identifier, dimension, "error", identifier, reason, _sure(broken))


def _sure(broken: Column) -> Column:
    return F.coalesce(broken, F.lit(False))


def _listed(rules: Sequence[Rule], labels: Sequence[str]) -> Column:
    if not rules:
        return F.array().cast("array<string>")
    clean = ~reduce(lambda a, b: a | b, [r.broken for r in rules])
    found = F.filter(
        F.array(*[F.when(r.broken, F.lit(t)) for r, t in zip(rules, labels, strict=True)]), lambda x: x.isNotNull()
    )
    return F.when(clean, F.array().cast("array<string>")).otherwise(found)
