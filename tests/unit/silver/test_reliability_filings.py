"""The rules of filed reliability (vector V3): a filing that is well breaks none, one change the rule that it is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from utilityflow.contracts import load_contracts
from utilityflow.quality.rules import broken_rules, contract_rules, judge
from utilityflow.session import local_frame
from utilityflow.silver.judging import ENTITIES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.engine
WELL = {
    "report_year": "2017", "utility_number": "14354", "state": "OR", "ieee_customers": "1000.5",
    "ieee_saidi_with_med": "100", "ieee_saifi_with_med": "1", "ieee_caidi_with_med": "100",
    "ieee_saidi_without_med": "80", "ieee_saifi_without_med": "0.9", "ieee_caidi_without_med": "88.8889",
    "ieee_saidi_without_los": "90", "ieee_saifi_without_los": "0.95", "ieee_caidi_without_los": "94.7368",
}  # fmt: skip
NONE = dict.fromkeys(n for n in WELL if n.startswith("ieee_"))
OTHER = NONE | {n.replace("ieee", "other"): v for n, v in WELL.items() if n.startswith("ieee_") and not n.endswith("_los")}
QUIET = {
    "ieee_saidi_with_med": "0", "ieee_saifi_with_med": "0", "ieee_caidi_with_med": None, "ieee_saidi_without_med": "0",
    "ieee_saifi_without_med": "0", "ieee_caidi_without_med": None, "ieee_saidi_without_los": None,
    "ieee_saifi_without_los": None, "ieee_caidi_without_los": None,
}  # fmt: skip
# what is changed of the filing that is well, the rules of severity error that it then breaks, its flags
CASES: list[tuple[dict[str, Any], set[str], list[str]]] = [
    ({}, set(), []),
    (NONE, set(), []),
    (OTHER, set(), []),
    (QUIET, set(), []),
    ({"report_year": None}, {"required:report_year"}, []),
    ({"report_year": "201"}, {"RF-01"}, []),
    ({"state": "Ore"}, {"RF-02", "length:state"}, []),
    ({"state": "or"}, {"RF-02"}, []),
    ({"ieee_customers": "-1"}, {"RF-03"}, []),
    (OTHER | {"other_momentary": "never"}, {"allowed:other_momentary"}, []),
    (OTHER | {"other_momentary": "under_1_minute"}, set(), []),
    ({"ieee_caidi_without_med": "88.89"}, set(), ["caidi_differs"]),
    ({"ieee_caidi_without_med": "88.8893"}, set(), []),
    (OTHER | {"other_caidi_with_med": "100.0006"}, set(), ["caidi_differs"]),
    ({"ieee_saifi_without_med": "1.1", "ieee_caidi_without_med": "72.7273"}, set(), ["without_exceeds_with"]),
    (OTHER | {"other_saidi_without_med": "101", "other_caidi_without_med": None}, set(), ["without_exceeds_with"]),
    ({"ieee_saidi_without_los": "120", "ieee_saifi_without_los": "1.2", "ieee_caidi_without_los": "100"}, set(),
     ["los_exceeds_with"]),
    ({"ieee_saidi_without_los": "80", "ieee_saifi_without_los": "0.9", "ieee_caidi_without_los": "88.8889"}, set(),
     ["los_is_without"]),
    ({"ieee_saifi_without_los": "1", "ieee_caidi_without_los": "90"}, set(), ["los_caidi"]),
    ({"ieee_saidi_without_los": "100", "ieee_caidi_without_los": "105.2632"}, set(), ["los_caidi"]),
    ({"ieee_saifi_without_los": "0.9999", "ieee_caidi_without_los": "90.009"}, set(), ["los_caidi"]),
    ({"ieee_customers": None}, set(), ["no_customers"]),
    (OTHER | {"other_customers": None}, set(), ["no_customers"]),
    ({"other_customers": "5"}, set(), ["two_methods"]),
]  # fmt: skip


def test_each_rule_finds_what_it_is_for(spark: SparkSession) -> None:
    contract, names = load_contracts()["silver.reliability_filings"], ENTITIES["reliability_filings"].filled
    rows = [(i, *({**WELL, **change}.get(n) for n in names)) for i, (change, _, _) in enumerate(CASES)]
    texts = local_frame(spark, rows, ", ".join(["case int", *(f"{n} string" for n in names)]))
    typed = texts.select("case", *[F.col(n).cast(contract.column(n).type).alias(n) for n in names])
    rules = contract_rules(contract, "UTC", names)
    judged = judge(typed.withColumn("_corrupt_record", F.lit(None).cast("string")), rules)
    found = judged.select("case", broken_rules(rules).alias("broken"), "quality_flags").orderBy("case").collect()
    assert [(set(r["broken"]), r["quality_flags"]) for r in found] == [(broken, flags) for _, broken, flags in CASES]
