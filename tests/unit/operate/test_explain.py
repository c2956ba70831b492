"""``explain`` leads from a gold row to its file and line."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from utilityflow.cli import main
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.explain import explain, text

if TYPE_CHECKING:
    from .conftest import Place


def query(place: Place, statement: str) -> list[tuple[Any, ...]]:
    file = place.settings.home_path / "warehouse" / "utilityflow.duckdb"
    with duckdb.connect(str(file), read_only=True) as db:
        return db.execute(statement).fetchall()


def line(place: Place, file: str, row: int) -> dict[str, str]:
    with (place.folder / "landing" / file).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))[row - 1]


@pytest.mark.engine
def test_every_fact_leads_to_its_line(place: Place) -> None:
    facts = query(place, "SELECT usage_key, quantity, _file_sha256, _row_number FROM gold.fact_usage ORDER BY 1")
    assert len(facts) == 6
    for key, quantity, sha, row in facts[:3]:
        result = explain(place.settings, "gold.fact_usage", str(key))
        [final] = [r for r in result["records"] if r["final"]]
        assert (final["sha256"], final["row_number"]) == (sha, row)
        source = line(place, final["file"], final["row_number"])
        assert source == final["raw"]
        assert float(source["kwh"]) == float(quantity)


def test_competing_reads_are_shown_with_the_reason(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    [(key,)] = query(place, "SELECT usage_key FROM gold.fact_usage WHERE date_key = 20250102")
    assert main(["explain", "fact_usage", str(key), "--json", *place.words]) == 0
    result = json.loads(capsys.readouterr().out)
    told = {(r["file"], r["row_number"]): (r["final"], r["why"]) for r in result["records"]}
    assert told == {
        ("reads/r3.csv", 2): (True, "best quality"),
        ("reads/r1.csv", 3): (False, "not final: estimated is worse than actual"),
    }
    assert "before_first_version" in result["flags"]
    assert {"customer_id", "meter_id", "raw"} <= set(result["personal"])
    assert result["rows"][0]["usage_kwh"] == "7.50"


def test_a_dimension_leads_to_the_events_of_its_key(place: Place) -> None:
    result = explain(place.settings, "dim_customer", "C0001")
    assert [r["effective_date"] for r in result["rows"]] == ["2025-01-01", "2025-01-15"]
    keys = [r["customer_key"] for r in result["rows"]]
    assert [(r["file"], r["row_number"], r["made"]) for r in result["records"]] == [
        ("cis/a.csv", 1, keys[:1]),
        ("cis/a.csv", 2, keys[1:]),
    ]
    assert result["records"][1]["raw"] == line(place, "cis/a.csv", 2)
    [one] = explain(place.settings, "gold.dim_customer", str(keys[1]))["rows"]
    assert one["customer_name"] == "Ada Lovelace"
    assert "Ada Lovelace" in text(result)


def test_a_delete_ends_a_version(place: Place) -> None:
    result = explain(place.settings, "gold.dim_customer", "C0003")
    assert [r["why"] for r in result["records"]][1] == "ends what was valid"


def test_an_inferred_member_leads_to_the_facts_that_need_it(place: Place) -> None:
    result = explain(place.settings, "gold.dim_customer", "C0007")
    assert result["rows"][0]["is_inferred"] is True
    assert [(r["file"], r["row_number"]) for r in result["records"]] == [("reads/r3.csv", 3)]
    [(key,)] = query(place, "SELECT usage_key FROM gold.fact_usage WHERE customer_id = 'C0007'")
    assert str(key) in result["records"][0]["why"]
    assert explain(place.settings, "gold.dim_meter", "M-0007")["records"][0]["file"] == "reads/r3.csv"


def test_what_no_file_says(place: Place) -> None:
    assert "unknown" in explain(place.settings, "gold.dim_customer", "-1")["why"]
    assert explain(place.settings, "gold.dim_date", "20250101")["records"] == []


@pytest.mark.parametrize(
    ("table", "key", "code", "told"),
    [
        ("gold.fact_usgae", "1", "UF-3001", "gold.fact_usage"),
        ("gold.fact_usage", "1", "UF-4006", "usage_key"),
        ("gold.fact_usage", "C0001", "UF-4006", "usage_key"),
        ("gold.dim_customer", "C0404", "UF-4006", "customer_id"),
    ],
)
def test_what_is_not_there(place: Place, table: str, key: str, code: str, told: str) -> None:
    with pytest.raises(UtilityFlowError) as caught:
        explain(place.settings, table, key)
    assert caught.value.code == code
    assert told in str(caught.value)
    assert "C0404" not in str(caught.value)
