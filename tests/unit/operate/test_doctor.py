"""``doctor`` finds what is wrong with an environment and says the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.cli import main
from utilityflow.operate.doctor import doctor, exit_code

if TYPE_CHECKING:
    from .conftest import Place


def lines(place: Place) -> tuple[dict[str, dict[str, Any]], int]:
    result = doctor(place.settings)
    return {line["check"]: line for line in result["lines"]}, exit_code(result)


def log(place: Place, name: str) -> Path:
    layer, table = name.split(".")
    return place.settings.home_path / "lakehouse" / layer / table / "_delta_log"


def test_a_sound_environment(place: Place, empty: Place, capsys: pytest.CaptureFixture[str]) -> None:
    found, status = lines(place)
    assert status == 0
    assert [line for line in found.values() if line["state"] != "ok" and line["check"] != "disk"] == []
    assert main(["doctor", "--json", *empty.words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["status"] == "warn"
    assert not (empty.folder / "home").exists()


def _missing_commit(place: Place) -> None:
    (log(place, "silver.meter_reads") / f"{1:020d}.json").unlink()


def _torn_commit(place: Place) -> None:
    file = log(place, "silver.meter_reads") / f"{1:020d}.json"
    file.write_text(file.read_text()[:-20])


def _missing_file(place: Place) -> None:
    next((log(place, "gold.dim_customer").parent).glob("*.parquet")).unlink()


def _short_file(place: Place) -> None:
    file = next((log(place, "bronze.cis").parent).glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])


def _missing_vector(place: Place) -> None:
    next((log(place, "gold.fact_usage").parent).glob("deletion_vector_*.bin")).unlink()


@pytest.mark.parametrize(
    ("damage", "table", "told"),
    [
        (_missing_vector, "gold.fact_usage", "deletion_vector_"),
        (_missing_commit, "silver.meter_reads", "commit 1 of"),
        (_torn_commit, "silver.meter_reads", "is not JSON"),
        (_missing_file, "gold.dim_customer", "is missing"),
        (_short_file, "bronze.cis", "bytes, its log says"),
    ],
)
def test_damage_ends_with_5(copy: Place, damage: Any, table: str, told: str) -> None:
    damage(copy)
    found, status = lines(copy)
    assert status == 5
    assert found[table]["state"] == "fail"
    assert told in found[table]["says"]
    assert found[table]["way_out"]


def test_warnings(copy: Place) -> None:
    copy.settings.home_path.chmod(0o755)
    (copy.settings.home_path / "tmp" / "left").mkdir(parents=True)
    (copy.settings.home_path / "warehouse" / "utilityflow.duckdb").unlink()
    found, status = lines(copy)
    assert status == 0
    assert {n: found[n]["state"] for n in ("permissions", "tmp", "warehouse")} == {
        "permissions": "warn",
        "tmp": "warn",
        "warehouse": "warn",
    }


def test_a_feed_that_does_not_fit(copy: Place) -> None:
    (copy.folder / "feeds" / "x.yaml").write_text("feed: x\nsytem: billing\n")
    found, status = lines(copy)
    assert status == 1
    assert "UF-1001" in found["feeds"]["says"]


def test_a_held_home(copy: Place) -> None:
    from utilityflow.control.home import hold, open_home

    with hold(open_home(copy.settings, create=False)):
        found, _ = lines(copy)
    assert found["lock"]["state"] == "warn"
