"""What is told when DuckDB has too little memory for the warehouse, or fails in another way."""

from __future__ import annotations

import duckdb
import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.publish.duckdb import _translated


@pytest.mark.parametrize(
    ("error", "code", "named"),
    [
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data of size 8 MiB\nmore"), "UF-4002", True),
        (duckdb.IOException("IO Error: Could not write: No space left on device"), "UF-4007", False),
        (duckdb.ConstraintException("Constraint Error: NOT NULL constraint failed"), "UF-4002", False),
    ],
)
def test_too_little_memory_names_the_setting(error: duckdb.Error, code: str, named: bool) -> None:
    with pytest.raises(UtilityFlowError) as told, _translated("64MB"):
        raise error
    assert told.value.code == code
    assert str(error).splitlines()[0] in told.value.message and "more" not in told.value.message
    assert ("publish_memory" in told.value.message) is ("64MB" in told.value.message) is named
    assert ("publish_memory" in (told.value.hint or "")) is named
    assert told.value.__cause__ is error
