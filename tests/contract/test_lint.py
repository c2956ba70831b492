"""All contracts under schemas/ are sound: by the official ODCS model, and by what this suite asks of them beyond it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from open_data_contract_standard.model import OpenDataContractStandard
from pydantic import ValidationError

from utilityflow.bronze.names import PROVENANCE
from utilityflow.contracts import Contract, load_contracts, parse_contract
from utilityflow.gold.facts import EARLY, GAP, INCOMPLETE, OVERLONG
from utilityflow.operate.dictionary import every, markdown
from utilityflow.pipeline import graph
from utilityflow.quality.rules import contract_rules
from utilityflow.scd2 import Dimension
from utilityflow.silver.judging import ENTITIES

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
FILES = sorted(SCHEMAS.rglob("*.yaml"))
INTO_FACTS = {s for step in graph({}) if step.output.startswith("gold.fact_") for s in step.inputs}
STANDARD: dict[str, Any] = json.loads(files("open_data_contract_standard").joinpath("schema.json").read_text("utf-8"))
LOGICAL = {
    "VARCHAR": "string", "STRING": "string", "BIGINT": "integer", "INT": "integer", "SMALLINT": "integer",
    "DECIMAL": "number", "DOUBLE": "number", "DATE": "date", "TIMESTAMP": "timestamp", "BIT": "boolean",
    "BOOLEAN": "boolean", "ARRAY<VARCHAR>": "array",
}  # fmt: skip


def named(file: Path) -> str:
    return file.relative_to(SCHEMAS).as_posix()


def unknown_keys(given: Any, understood: Any, place: str = "") -> Iterator[str]:
    """Keys of a file that the official model dropped: it forbids unknown ones only at the top."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(understood, dict) or key not in understood:
                yield f"{place}.{key}"
            elif key not in ("value", "logicalTypeOptions"):  # free in the standard
                yield from unknown_keys(value, understood[key], f"{place}.{key}")
    elif isinstance(given, list):
        for number, value in enumerate(given):
            other = understood[number] if isinstance(understood, list) and number < len(understood) else None
            yield from unknown_keys(value, other, f"{place}[{number}]")


def outside(given: dict[str, Any]) -> Iterator[str]:
    """Values that the official JSON schema's lists do not hold, and keys that it requires and the file lacks."""
    definitions = STANDARD["$defs"]
    logical = definitions["SchemaBaseProperty"]["properties"]["logicalType"]["enum"]
    dimensions = definitions["DataQuality"]["properties"]["dimension"]["enum"]
    yield from (f"{key} is missing" for key in STANDARD["required"] if key not in given)
    if given.get("apiVersion") not in STANDARD["properties"]["apiVersion"]["enum"]:
        yield f"apiVersion {given.get('apiVersion')}"
    for table in given["schema"]:
        yield from (f"dimension {d}" for q in table.get("quality", []) if (d := q.get("dimension")) not in dimensions)
        yield from (f"logicalType {t}" for p in table["properties"] if (t := p.get("logicalType")) not in logical)
        if table.get("logicalType") != "object":
            yield f"logicalType of the table {table.get('logicalType')}"


def odcs(text: str) -> list[str]:
    """What the official standard has against a contract."""
    given = yaml.safe_load(text)
    try:
        model = OpenDataContractStandard.from_string(text)
    except ValidationError as error:
        return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return [*unknown_keys(given, model.model_dump(by_alias=True, exclude_unset=True)), *outside(given)]


@pytest.mark.parametrize("file", FILES, ids=named)
def test_the_official_model_takes_it_whole(file: Path) -> None:
    assert odcs(file.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (("kind: DataContract", "kinde: DataContract"), "kinde"),
        (("physicalName:", "physicalNme:"), ".schema[0].physicalNme"),
        (("        logicalType: integer", "        logicalTyp: integer"), ".logicalTyp"),
        (("logicalType: integer", "logicalType: whole"), "logicalType whole"),
        (("dimension: conformity", "dimension: beauty"), "dimension beauty"),
        (("apiVersion: v3.1.0", "apiVersion: v9"), "apiVersion v9"),
        (("required: true", "required: perhaps"), "required"),
        (("  - name: meter_reads", "  - nme: meter_reads"), ".schema[0].nme"),
        (("version: 1.1.0\n", ""), "version is missing"),
    ],
)
def test_the_lint_fails_where_a_contract_is_no_odcs(change: tuple[str, str], word: str) -> None:
    text = (SCHEMAS / "silver" / "meter_reads.yaml").read_text("utf-8")
    assert change[0] in text
    assert any(word in f for f in odcs(text.replace(*change, 1)))


def test_ids_are_unique_and_files_are_where_their_names_say() -> None:
    assert len(FILES) == len(every()) > 10
    ids = []
    for file in FILES:
        given = yaml.safe_load(file.read_text("utf-8"))
        ids.append(given["id"])
        assert given["id"] == f"utilityflow.{file.parent.name}.{file.stem}"
        assert (given["name"], given["domain"]) == (file.stem, file.parent.name)
        table = given["schema"][0]
        assert table["physicalName"] == table["name"]
        template = any(p["property"] == "template" for p in table["customProperties"])
        assert table["name"] == file.stem or (template and "{entity}" in table["name"])
        assert re.fullmatch(r"\d+\.\d+\.\d+", given["version"])
    assert [i for i, n in Counter(ids).items() if n > 1] == []


def test_ids_of_rules_are_unique_in_the_whole_house() -> None:
    rules = [(c, r) for c in every() for r in c.rules]
    assert len(rules) > 5
    assert [i for i, n in Counter(r.id for _, r in rules).items() if n > 1] == []
    for contract, rule in rules:
        assert re.fullmatch(r"[A-Z]{2}-\d{2}", rule.id), f"{contract.name}: {rule.id}"
        assert rule.description.endswith("."), rule.id
        assert rule.action in ("quarantine", "flag", "repair")
        assert (rule.severity == "warn") == (rule.action == "flag"), f"{rule.id}: an error is quarantined, a warning flags"
        assert rule.severity == "error" or re.fullmatch(r"[a-z][a-z0-9_]*", rule.flag), rule.id
    for name, entity in ENTITIES.items():  # those that follow from columns among them
        contract = load_contracts()[f"silver.{name}"]
        ids = [r.id for r in contract_rules(contract, "UTC", entity.filled)]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("contract", every(), ids=lambda c: c.name)
def test_columns_are_described_and_their_types_agree(contract: Contract) -> None:
    for column in contract.columns:
        where = f"{contract.name}.{column.name}"
        assert len(column.description) >= 4, where
        assert column.description.rstrip().endswith((".", "?")), f"{where}: a sentence ends with a full stop"
        base = column.physical_type.partition("(")[0]
        assert LOGICAL[base] == column.logical_type, where
        assert column.options.get("maxLength") == column.length, f"{where}: maxLength and VARCHAR differ"
        assert (column.logical_type == "array") == bool(column.items), where
        if column.length:
            texts = [str(x) for x in (*column.allowed, *column.examples)]
            assert [t for t in texts if len(t) > column.length] == [], where
    keys = [c.primary_key_position for c in contract.columns if c.primary_key]
    assert sorted(keys) == list(range(1, len(keys) + 1)), f"{contract.name}: positions of the primary key"
    assert all(c.required for c in contract.columns if c.primary_key), contract.name
    if contract.layer == "gold":
        assert keys, f"{contract.name} has no primary key"
    statistics = contract.property("statistics")
    assert statistics, f"{contract.name}: collecting statistics on every column doubles the cost of each write"
    assert len(statistics) <= 4, contract.name
    assert contract.grain, contract.name


@pytest.mark.parametrize("contract", every(), ids=lambda c: c.name)
def test_lineage_and_references_lead_somewhere(contract: Contract) -> None:
    catalog = load_contracts()
    for column in contract.columns:
        for source in column.sources:
            table, _, name = source.rpartition(".")
            assert name in catalog[table].column_names, f"{contract.name}.{column.name}: {source}"
            if catalog[table].column(name).private and catalog[table].column(name).type == column.type:
                assert column.private, f"{contract.name}.{column.name} comes of {source}, which is personal data"
    for column_name, target in (contract.property("foreignKeys") or {}).items():
        table, _, key = target.rpartition(".")
        assert catalog[table].primary_key == (key,), target
        assert contract.column(column_name).type == catalog[table].column(key).type
        # a table that has rows gains it as null, and the next run fills it: verify finds what is left (facts.members)
        column = contract.column(column_name)
        assert column.required or column.added, "a foreign key is not null"


DIMENSIONS = [c for c in every() if c.property("scd2")]


@pytest.mark.parametrize("contract", DIMENSIONS, ids=lambda c: c.name)
def test_the_scd2_property_fits_its_table(contract: Contract) -> None:
    dimension = Dimension.from_contract(contract)
    assert contract.primary_key == (dimension.surrogate_key,)
    kinds = {c.name: c.physical_type for c in contract.columns}
    assert kinds[dimension.surrogate_key] == "BIGINT"
    assert {kinds[n] for n in (dimension.valid_from, dimension.valid_to)} == {"DATE"}
    assert {kinds[n] for n in (dimension.current, dimension.inferred)} == {"BIT"}
    assert contract.property("deletionVectors"), "a dimension takes MERGE"
    assert all(not contract.column(n).required for n in dimension.attributes), "an inferred member knows no attributes"
    assert all(contract.column(n).required for n in (*dimension.key, *dimension.control))


def test_there_is_an_scd2_dimension_to_look_at() -> None:
    assert {c.name for c in DIMENSIONS} >= {"gold.dim_customer", "gold.dim_meter"}
    type2 = Dimension.from_contract(load_contracts()["gold.dim_customer"]).type2
    # the seven attributes of the mission's DDL (DESIGN.md section 10)
    assert set(type2) == {"customer_name", "address", "city", "state", "zip_code", "customer_type", "account_status"}


def test_every_flag_is_in_the_dictionary() -> None:
    text = markdown()
    facts = text[text.index("## gold.fact_usage") :]
    row = next(line for line in facts.splitlines() if line.startswith("| `quality_flags`"))
    for code in (EARLY, GAP, INCOMPLETE, OVERLONG):
        assert code in row
    for contract in every():
        section = text[text.index(f"## {contract.name}\n") :].split("\n## ")[0]
        for rule in contract.rules:
            assert f"| {rule.id} |" in section
            if rule.action == "flag":
                assert f"`{rule.flag}`" in section
                if contract.name in INTO_FACTS:
                    assert rule.flag in row or contract.name in row, f"{rule.flag} reaches the facts"


def test_every_column_is_in_the_dictionary() -> None:
    text = markdown()
    for contract in every():
        section = text[text.index(f"## {contract.name}\n") :].split("\n## ")[0]
        assert [c.name for c in contract.columns if f"\n| `{c.name}`" not in section] == []


def test_entities_and_bronze_keep_their_columns() -> None:
    catalog = load_contracts()
    for name, entity in ENTITIES.items():
        contract = catalog[f"silver.{name}"]
        assert set(entity.filled) <= set(contract.column_names)
        assert contract.property("identity")
        assert set(contract.property("idPrefixed")) <= set(contract.column_names)
    bronze = next(c for c in every() if c.layer == "bronze")
    assert set(bronze.column_names) == {*PROVENANCE, "_batch_id"}


def test_a_contract_with_a_custom_property_of_another_place_is_refused() -> None:
    text = (SCHEMAS / "silver" / "meter_reads.yaml").read_text("utf-8")
    wrong = text.replace("property: allowedValues", "property: changeFeed", 1)
    with pytest.raises(Exception, match="schemas/silver/x.yaml:"):
        parse_contract(wrong, "schemas/silver/x.yaml", "silver")
