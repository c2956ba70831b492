"""``feed check``: raw beside canonical, the first failures, nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from utilityflow.bronze.check import check_feed, render
from utilityflow.bronze.feeds import parse_feed
from utilityflow.errors import UtilityFlowError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TEXT = """
feed: cis
system: customer_management
entity: customers
format: csv
path: "*.csv"
time_zone: America/New_York
null_values: ["", "."]
columns:
  customer_id: id
  customer_name: trim(name)
  zip_code: zip
event:
  effective_at: to_timestamp(at, 'dd/MM/yyyy')
"""


def test_a_report_for_people_and_machines(spark: SparkSession, tmp_path: Path):
    (tmp_path / "a.csv").write_text("id,name,zip,at\n1, Ann ,.,01/02/2020\n2,Bob,12345678901,31/02/2020\n3\n")
    (tmp_path / "b.csv").write_text("id,name,zip\n1,Ann,1\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    report = check_feed(spark, parse_feed(TEXT, "cis.yaml"), tmp_path, sample=10)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert (report.read, report.corrupt) == (3, 1)
    assert [(f.file, f.row, f.column) for f in report.failures] == [
        ("a.csv", 2, "zip_code"), ("a.csv", 2, "effective_at"), ("a.csv", 3, ""),
    ]  # fmt: skip
    assert report.rows[0]["raw"] == {"id": "1", "name": " Ann ", "zip": ".", "at": "01/02/2020"}
    assert report.rows[0]["canonical"] == {
        "customer_id": "1", "customer_name": "Ann", "zip_code": None, "effective_at": "2020-02-01 00:00:00",
    }  # fmt: skip
    text = render(report)
    assert "b.csv: rejected" in text
    assert "UF-2002: b.csv: no column 'at', which 'effective_at' reads" in text
    assert "a.csv record 2: zip_code is longer than 10: zip='12345678901'" in text
    assert "a.csv record 2: effective_at gives null although there is a text: at='31/02/2020'" in text
    assert report.as_dict()["files"][1]["status"] == "rejected"


def test_nothing_has_landed(spark: SparkSession, tmp_path: Path):
    assert check_feed(spark, parse_feed(TEXT, "cis.yaml"), tmp_path).files == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("entity: customers", "entity: custmers"), "did you mean 'customers'"),
        (("customer_name:", "customer_nam:"), "did you mean 'customer_name'"),
    ],
)
def test_a_feed_that_does_not_fit_its_entity(spark: SparkSession, tmp_path: Path, change: tuple[str, str], words: str):
    with pytest.raises(UtilityFlowError, match=words):
        check_feed(spark, parse_feed(TEXT.replace(*change), "cis.yaml"), tmp_path)


def test_an_expression_that_does_not_fit_names_the_feed(spark: SparkSession, tmp_path: Path):
    (tmp_path / "a.csv").write_text("id,name,zip,at\n1,a,b,c\n")
    with pytest.raises(UtilityFlowError, match=r"UF-1011: cis.yaml: an expression does not fit"):
        check_feed(spark, parse_feed(TEXT.replace("trim(name)", "array(name)[0][1]"), "cis.yaml"), tmp_path)
