"""What a contract may say of a dimension, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.scd2 import Dimension


@dataclass(frozen=True)
class Column:
    name: str
    type: str = "string"


class FakeContract:
    table = "dim_test"
    columns = tuple(
        Column(*c) for c in [("sk", "bigint"), ("id",), ("name", "varchar(100)"), ("phone",), ("effective_date", "date"),
                             ("expiry_date", "date"), ("is_current", "boolean"), ("is_inferred", "boolean"),
                             ("_row_number", "bigint")]
    )  # fmt: skip

    def __init__(self, **scd2: Any) -> None:
        self.scd2 = {"key": ["id"], "surrogateKey": "sk", "type2": ["name"], **scd2}

    def property(self, name: str) -> Any:
        return self.scd2 if name == "scd2" else None


def test_columns_without_a_role_are_type_1() -> None:
    dimension = Dimension.from_contract(FakeContract())
    assert (dimension.key, dimension.type2, dimension.type1) == (("id",), ("name",), ("phone",))
    assert (dimension.grain, dimension.type1_policy, dimension.provenance) == ("day", "all", ("_row_number",))


def test_bounded_text_is_cast_as_text() -> None:
    assert Dimension.from_contract(FakeContract()).types["name"] == "string"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keys": ["id"]}, "unknown key 'keys'"),
        ({"type2": ["nmae"]}, "did you mean 'name'"),
        ({"type1": ["name"]}, "'name' two roles"),
        ({"type1Policy": "some"}, "one of all, current"),
        ({"grain": "hour"}, "one of day, microsecond"),
        ({"type2": "name"}, "list of columns"),
        ({"partial": "yes"}, "true or false"),
        ({"key": []}, "at least one key"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UtilityFlowError, match=f"UF-3001.*{message}"):
        Dimension.from_contract(FakeContract(**given))


def test_a_contract_without_history_is_refused() -> None:
    contract = FakeContract()
    contract.scd2 = None  # type: ignore[assignment]
    with pytest.raises(UtilityFlowError, match="no custom property 'scd2'"):
        Dimension.from_contract(contract)
