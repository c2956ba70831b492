"""A contract that is not valid is refused with code, file, line and key."""

from __future__ import annotations

import pytest

from utilityflow.contracts import load_contracts, parse_contract
from utilityflow.errors import UtilityFlowError

GOOD = """apiVersion: v3.1.0
kind: DataContract
id: utilityflow.gold.thing
name: thing
version: 1.0.0
status: active
schema:
  - name: thing
    description: A thing.
    dataGranularityDescription: one row per thing
    customProperties:
      - property: statistics
        value: [thing_key]
      - property: publish
        value: true
    quality:
      - id: TH-01
        type: custom
        engine: utilityflow
        dimension: conformity
        severity: warn
        implementation: weight > 0
        description: A thing weighs something.
        customProperties:
          - property: flag
            value: weightless
    properties:
      - name: thing_key
        logicalType: integer
        physicalType: BIGINT
        required: true
        primaryKey: true
        primaryKeyPosition: 1
        description: The key.
      - name: weight
        logicalType: number
        physicalType: DECIMAL(18,6)
        description: Weight in kg.
"""


def test_the_good_one_is_good() -> None:
    contract = parse_contract(GOOD, "schemas/gold/thing.yaml", "gold")
    assert (contract.name, contract.primary_key, contract.rules[0].flag) == ("gold.thing", ("thing_key",), "weightless")
    assert contract.column("weight").type == "decimal(18,6)"


CASES = {
    "unknown key at the top": (("status: active", "stats: active"), "UF-1001", 6, ("'stats'", "did you mean 'status'?")),
    "unknown key of a table": (("    description: A", "    descripton: A"), "UF-1001", 9, ("'descripton'", "'description'")),
    "unknown key of a column": (("logicalType: number", "logicalTyp: number"), "UF-1001", 36,
                                ("'logicalTyp'", "did you mean 'logicalType'?", "schema[0].properties[1]")),
    "unknown key of a rule": (("severity: warn", "severty: warn"), "UF-1001", 21, ("'severty'", "schema[0].quality[0]")),
    "a key that is missing": (("        physicalType: BIGINT\n", ""), "UF-1002", 28, ("'physicalType' is missing",)),
    "a key that stands twice": (("name: thing\n", "name: thing\nname: thing\n"), "UF-1001", 5, ("'name' stands twice",)),
    "a wrong type": (("required: true", "required: sure"), "UF-1002", 31,
                     ("schema[0].properties[0].required", "true or false", "'sure'")),
    "a number instead of a text list": (("primaryKeyPosition: 1", "primaryKeyPosition: one"), "UF-1002", 33, ("whole number",)),
    "another standard": (("v3.1.0", "v2.0.0"), "UF-1002", 1, ("'apiVersion'", "v3.1.0")),
    "an unknown severity": (("severity: warn", "severity: wrong"), "UF-1002", 21, ("error, warn",)),
    "an unknown property of a table": (("property: publish", "property: publsh"), "UF-1002", 14,
                                       ("customProperties[1].property", "did you mean 'publish'?")),
    "an unknown property of a rule": (("property: flag", "property: flags"), "UF-1002", 25, ("did you mean 'flag'?",)),
    "an unknown type": (("DECIMAL(18,6)", "DECIMAL(18;6)"), "UF-3001", 37, ("'weight'", "'physicalType'", "DECIMAL(18;6)")),
    "a scale above the precision": (("DECIMAL(18,6)", "DECIMAL(4,6)"), "UF-3001", 37, ("DECIMAL(4,6)",)),
    "a type near a known one": (("physicalType: BIGINT", "physicalType: BIGIN"), "UF-3001", 30, ("did you mean 'BIGINT'?",)),
    "a name that is no name": (("- name: weight", "- name: Weight"), "UF-3001", 35, ("'name'", "lower-case")),
    "a column twice": (("- name: weight", "- name: thing_key"), "UF-3001", 35, ("'thing_key'", "stands twice")),
    "no description": (("description: Weight in kg.", "description: ''"), "UF-3001", 38, ("'weight'", "'description'")),
    "statistics of no column": (("[thing_key]", "[thing_kye]"), "UF-3001", 13,
                                ("'statistics'", "'thing_kye'", "did you mean 'thing_key'?")),
    "statistics that are no list": (("[thing_key]", "thing_key"), "UF-3001", 13, ("'statistics' must list columns",)),
    "no grain": (("    dataGranularityDescription: one row per thing\n", ""), "UF-3001", 8, ("dataGranularityDescription",)),
    "required and added later": (("        description: The key.", "        description: The key.\n        customProperties:\n"
                                  "          - {property: addedIn, value: 1.1.0}"), "UF-3001", 31, ("'thing_key'", "addedIn")),
    "two tables": (("    properties:\n", "    properties: []\n  - name: other\n    description: Another.\n    properties:\n"),
                   "UF-3001", 7, ("one table, not 2",)),
    "no YAML": (("status: active", "status: [active"), "UF-1003", 7, ("not valid YAML",)),
    "a tag that lies": (("version: 1.0.0", "version: !!int x"), "UF-1003", 5, ("'version'",)),
    "a control character": (("A thing.", "A \x07 thing."), "UF-1003", 9, ("character",)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_valid_names_file_line_and_key(case: str) -> None:
    change, code, line, words = CASES[case]
    assert change[0] in GOOD
    with pytest.raises(UtilityFlowError) as caught:
        parse_contract(GOOD.replace(*change, 1), "schemas/gold/thing.yaml", "gold")
    text = str(caught.value)
    assert text.startswith(f"{code}: schemas/gold/thing.yaml:{line}: "), text
    assert [w for w in words if w not in text] == [], text


def test_an_empty_file_and_a_file_that_is_no_mapping() -> None:
    for text, code in (("", "UF-1003"), ("- a\n", "UF-1002"), ("7", "UF-1002")):
        with pytest.raises(UtilityFlowError, match=r"schemas/gold/thing.yaml") as caught:
            parse_contract(text, "schemas/gold/thing.yaml", "gold")
        assert caught.value.code == code


def test_a_column_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(UtilityFlowError, match=r"gold.fact_usage has no column 'usage_kw' .*'usage_kwh'"):
        load_contracts()["gold.fact_usage"].column("usage_kw")
    with pytest.raises(KeyError):
        load_contracts()["gold.fact_nothing"]
    assert load_contracts()["silver.customers__quarantine"].name == "silver.customers__quarantine"
