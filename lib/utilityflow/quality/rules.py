"""Row rules of a contract as SQL conditions, judged once per row into bit masks.

Every contract gives, beside its written rules (ids such as MR-04), the rules that follow from its columns:
``required:<column>``, ``length:<column>``, ``allowed:<column>``; and every feed gives ``conversion:<column>`` and
``corrupt_record``. A rule is broken where its condition holds; null means not applicable, and of a record that could not be
parsed nothing else is said: its columns are not missing, nobody knows them.

Fifty rules times the places that ask for them (is the row good, which ids, which reasons, which flags) would be a plan that
takes longer to optimise than to run, so each rule stands in the plan once, as one bit of a BIGINT column ``_broken_<n>``;
everything else is asked of the bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from utilityflow.contracts import Contract, sql_text

CORRUPT = "corrupt_record"
UNCONVERTED = "_unconverted_"  # + column: BOOLEAN, whether its expression failed
_BITS = 60
# Always 0, but not known to the optimizer as the same on each evaluation: so a filter on the masks stays above them. It would
# be pushed down with a copy of all rules, and each row judged twice.
_ONCE = "shiftright(cast(spark_partition_id() AS bigint), 63)"
_NO_TEXTS = "cast(array() AS array<string>)"


@dataclass(frozen=True)
class Rule:
    """One rule: ``broken`` is an SQL condition over canonical columns, ``flag`` the code of a warning."""

    id: str
    dimension: str
    severity: str
    flag: str
    reason: str
    broken: str


def contract_rules(contract: Contract, zone: str, judged: Sequence[str]) -> list[Rule]:
    """Rules of a silver contract over its canonical columns.

    :param zone: the utility's zone, for rules that speak of days.
    :param judged: the columns that feeds fill; others (provenance, hashes) are ours and not judged.
    """
    rules = []
    for column in contract.columns:
        if column.name not in judged:
            continue
        name = column.name
        if column.required:
            rules.append(_error(f"required:{name}", "completeness", f"{name} is missing", f"{name} IS NULL"))
        if column.length:  # no text has more characters than bytes, and those are known without counting
            rules.append(_error(f"length:{name}", "conformity", f"{name} is longer than {column.length} characters",
                                f"octet_length({name}) > {column.length} AND char_length({name}) > {column.length}"))  # fmt: skip
        if column.allowed:
            rules.append(_error(f"allowed:{name}", "conformity", f"{name} is none of {', '.join(column.allowed)}",
                                f"{name} NOT IN ({', '.join(map(sql_text, column.allowed))})"))  # fmt: skip
    for written in contract.rules:
        broken = f"NOT ({written.implementation.replace('{zone}', zone)})"
        rules.append(Rule(written.id, written.dimension, written.severity, written.flag, written.description, broken))
    return rules


def conversion_rules(columns: Sequence[str]) -> list[Rule]:
    """Rules over UNCONVERTED (whether a canonical column's expression failed) and ``_corrupt_record``."""
    rules = [_error(CORRUPT, "conformity", "the record could not be parsed", "_corrupt_record IS NOT NULL")]
    for name in columns:
        reason = f"{name} could not be made from the raw text"
        rules.append(_error(f"conversion:{name}", "conformity", reason, UNCONVERTED + name))
    return rules


def judge(frame: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Add the masks of broken rules, and ``quality_flags``: sorted codes of broken warn rules, empty for a good row."""
    bits = [f"CASE WHEN {rule.broken} THEN {_bit(i)} ELSE 0L END" for i, rule in enumerate(rules)]
    unparsed = [_bit(i) if rule.id == CORRUPT else "0L" for i, rule in enumerate(rules)]
    masks = {f"_broken_{n}": F.expr(f"({_mask(bits[part], unparsed[part])}) | {_ONCE}") for n, part in enumerate(_parts(rules))}
    warns = sorted((r for r in rules if r.severity != "error"), key=lambda r: r.flag)
    return frame.withColumns(masks).withColumn("quality_flags", _listed(rules, warns, [r.flag for r in warns]))


def broken_any(rules: Sequence[Rule]) -> Column:
    """BOOLEAN: whether a judged row breaks at least one error rule."""
    return F.expr(_breaks(rules, _errors(rules)))


def broken_rules(rules: Sequence[Rule]) -> Column:
    """ARRAY of the ids of the error rules that a judged row breaks."""
    errors = _errors(rules)
    return _listed(rules, errors, [r.id for r in errors])


def reasons(rules: Sequence[Rule], problem: str | None = None) -> Column:
    """ARRAY of the sentences of the error rules that a judged row breaks, in the order of their ids.

    :param problem: SQL of what the parser says of a record that it could not read, in place of the general sentence.
    """
    errors = _errors(rules)
    general = _listed(rules, errors, [r.reason for r in errors])
    if problem is None:
        return general
    told = F.expr(f"_corrupt_record IS NOT NULL AND {problem} IS NOT NULL")
    return F.when(told, F.array(F.expr(problem))).otherwise(general)


def tallies(rules: Sequence[Rule]) -> list[Column]:
    """Aggregates over judged rows that count those that break each rule, named by position (ids are no identifiers)."""
    return [F.expr(f"count_if({_breaks(rules, [rule])})").alias(f"rule_{i}") for i, rule in enumerate(rules)]


def _error(identifier: str, dimension: str, reason: str, broken: str) -> Rule:
    return Rule(identifier, dimension, "error", identifier, reason, broken)


def _errors(rules: Sequence[Rule]) -> list[Rule]:
    return [r for r in rules if r.severity == "error"]


def _mask(bits: Sequence[str], unparsed: Sequence[str]) -> str:
    """SQL of one mask; of a record that could not be parsed only ``unparsed``."""
    return f"CASE WHEN _corrupt_record IS NOT NULL THEN {_either(unparsed)} ELSE {_either(bits)} END"


def _parts(rules: Sequence[Rule]) -> list[slice]:
    return [slice(n * _BITS, (n + 1) * _BITS) for n in range(_chunks(rules))]


def _chunks(rules: Sequence[Rule]) -> int:
    return -(-len(rules) // _BITS)


def _bit(place: int) -> str:
    return f"{1 << (place % _BITS)}L"


def _either(bits: Sequence[str]) -> str:
    """The bits or-ed as a balanced tree, so that its depth does not grow with the rules."""
    if len(bits) == 1:
        return bits[0]
    half = len(bits) // 2
    return f"({_either(bits[:half])} | {_either(bits[half:])})"


def _breaks(rules: Sequence[Rule], some: Sequence[Rule]) -> str:
    """SQL: whether a judged row breaks one of ``some``."""
    masks = [0] * _chunks(rules)
    places = {rule.id: i for i, rule in enumerate(rules)}
    for rule in some:
        masks[places[rule.id] // _BITS] |= 1 << (places[rule.id] % _BITS)
    tests = [f"(_broken_{n} & {mask}L) <> 0" for n, mask in enumerate(masks) if mask]
    return " OR ".join(tests) or "false"


def _listed(rules: Sequence[Rule], some: Sequence[Rule], labels: Sequence[str]) -> Column:
    """ARRAY of the labels of those of ``some`` that a row breaks; the common case, none, costs no array work."""
    if not some:
        return F.expr(_NO_TEXTS)
    cases = [f"CASE WHEN {_breaks(rules, [r])} THEN {sql_text(t)} END" for r, t in zip(some, labels, strict=True)]
    found = f"filter(array({', '.join(cases)}), label -> label IS NOT NULL)"
    return F.expr(f"CASE WHEN {_breaks(rules, some)} THEN {found} ELSE {_NO_TEXTS} END")
