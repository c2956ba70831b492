"""What the measurements' tests share."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from utilityflow.session import SMALL

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def as_before(spark: SparkSession) -> Iterator[None]:
    """A measurement sets the session for its home; the tests after it have theirs again."""
    before = {key: spark.conf.get(key) for key in SMALL}
    yield
    for key, value in before.items():
        spark.conf.set(key, value or "")


def entries(ledger: Path, feeds: str = "*") -> list[dict[str, str]]:
    """The rows of a ledger of planted defects, of the feeds whose folders have such names."""
    found = []
    for file in sorted(ledger.glob(f"{feeds}/*.csv")):
        with file.open(newline="", encoding="utf-8") as stream:
            found += list(csv.DictReader(stream))
    return found
