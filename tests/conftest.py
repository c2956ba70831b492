"""What all tests share: one Spark session per process, the real data where they are, repeatable property tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REPOSITORY = Path(__file__).resolve().parent.parent

# Spark's first call takes seconds, so no deadline. The same examples each time, so that a red run is a change's fault;
# HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeat", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one session of this test process: real Delta, two cores, small; its scratch files go with pytest's own."""
    from utilityflow.session import SMALL, get_session

    session = get_session(
        "utilityflow-tests",
        master="local[2]",
        extra={
            "spark.driver.memory": "2g",
            "spark.sql.shuffle.partitions": "2",
            "spark.default.parallelism": "2",
            "spark.databricks.delta.snapshotPartitions": "1",
        },
        scratch=tmp_path_factory.mktemp("spark"),
    )
    for key, value in SMALL.items():  # as a run over few rows sets them; UTILITYFLOW_TEST_PLANS=usual for those of large runs
        if os.environ.get("UTILITYFLOW_TEST_PLANS", "small") == "small":
            session.conf.set(key, value)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def real_data(repository: Path) -> Path:
    """The folder of the real data pack; tests that need it carry the marker ``real``, and are skipped without it."""
    named = os.environ.get("UTILITYFLOW_REAL_DATA")
    folder = Path(named) if named else repository.parent / "shared" / "data" / "real"
    if not folder.is_dir():
        where = "UTILITYFLOW_REAL_DATA" if named else "../shared/data/real (UTILITYFLOW_REAL_DATA names another place)"
        pytest.skip(f"the real data pack is not there: {where}")
    return folder
