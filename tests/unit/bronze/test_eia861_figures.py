"""Figures of the real EIA-861 workbooks, from parsed records with exact decimals: the domain reference's V3, V4 and V5.

They show that the reader loses and bends nothing; the marts compute such figures on their own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import pytest
from xlsx_files import feed

from utilityflow.bronze.scan import Limits
from utilityflow.bronze.staging import parse_records

pytestmark = pytest.mark.real
BLOCKS = ("ieee_standard", "other_standard")
Rows = list[dict[str, Decimal | None | str]]


def load(folder: Path, book: str, year: int, options: str, texts: int) -> Rows:
    """The rows of a book; after the first ``texts`` columns what is a number is a Decimal, '.' and blanks are None."""
    path = folder / "eia861" / f"{book}_{year}.xlsx"
    rows: Rows = []
    for names, values, corrupt in parse_records(feed(options), path, path.name, Limits()):
        assert corrupt is None
        assert values is not None
        numbers = [None if v in (None, "", ".") else v for v in values[texts:]]
        told = [*values[:texts], *[_number(v) for v in numbers]]
        rows.append(dict(zip(names, told, strict=True)))
    return rows


def _number(text: str | None) -> Decimal | str | None:
    return Decimal(text) if text is not None and text[-1].isdigit() else text


@pytest.fixture(scope="module")
def reliability(real_data: Path) -> dict[int, Rows]:
    options = "{sheet: Reliability_States, header_rows: [1, 2], footnotes: single_cell}"
    return {year: load(real_data, "Reliability", year, options, 5) for year in (2016, 2017)}


def pooled(rows: Rows, measure: str) -> tuple[Decimal, Decimal, int]:
    """(average weighted by customers, customers, values without customers) over both blocks."""
    total, weight, alone = Decimal(0), Decimal(0), 0
    for row in rows:
        for block in BLOCKS:
            value, customers = row[f"{block}_{measure}"], row[f"{block}_number_of_customers"]
            if isinstance(value, Decimal) and isinstance(customers, Decimal):
                total, weight = total + value * customers, weight + customers
            elif value is not None:
                alone += 1
    return total / weight, weight, alone


MEASURES = ("saidi_with_med", "saifi_with_med", "saidi_without_med", "saifi_without_med")


@pytest.mark.parametrize(
    ("year", "averages", "customers", "alone"),
    [
        (2016, ("248.5311", "1.2932", "116.7923", "1.0618"), "140980536.5", 1),
        (2017, ("471.7323", "1.3942", "114.3110", "1.0063"), "142765362.0", 2),
    ],
)
def test_v4_national_figures(
    reliability: dict[int, Rows], year: int, averages: tuple[str, ...], customers: str, alone: int
):
    found = [pooled(reliability[year], m) for m in MEASURES]
    assert tuple(str(round(average, 4)) for average, _, _ in found) == averages
    assert found[0][1:] == (Decimal(customers), alone)


def test_v4_states(reliability: dict[int, Rows]):
    by_state: dict[str, Rows] = defaultdict(list)
    for row in reliability[2017]:
        by_state[str(row["utility_characteristics_state"])].append(row)
    found = {s: str(round(pooled(by_state[s], "saidi_with_med")[0], 1)) for s in ("DC", "ME", "VT", "SD")}
    assert found == {"DC": "57.5", "ME": "2492.6", "VT": "873.9", "SD": "100.6"}


def broken(rows: Rows) -> Counter[str]:
    """Rows that break a rule of V3."""
    found: Counter[str] = Counter()
    kinds = {"with_med": "caidi_with_med", "without_med": "caidi_without_med", "with_med_minus_los": "caidi_minus_med"}
    for row in rows:
        for block in BLOCKS:
            for kind, average in kinds.items():
                parts = (row.get(f"{block}_{n}") for n in (f"saidi_{kind}", f"saifi_{kind}", average))
                saidi, saifi, caidi = (p if isinstance(p, Decimal) else None for p in parts)
                if saidi is not None and saifi and caidi is not None:
                    found["compared"] += 1
                    found["caidi"] += abs(saidi / saifi - caidi) > Decimal("0.0005")
            for index in ("saidi", "saifi"):
                most, least = row[f"{block}_{index}_with_med"], row[f"{block}_{index}_without_med"]
                if isinstance(most, Decimal) and isinstance(least, Decimal):
                    found["without above with"] += least > most
    return found


@pytest.mark.parametrize(("year", "compared"), [(2016, 2_290), (2017, 2_391)])
def test_v3_rules(reliability: dict[int, Rows], year: int, compared: int):
    found = broken(reliability[year])
    assert found == {"compared": compared, "caidi": 0, "without above with": 0}
    bent = [{k: v + 1 if "saifi_without" in k and isinstance(v, Decimal) else v for k, v in r.items()} for r in reliability[year]]
    assert broken(bent)["caidi"] > 800
    assert broken(bent)["without above with"] > 700


CLASSES = ("residential", "commercial", "industrial", "transportation")


def difference(row: dict[str, Decimal | None | str], measure: str) -> Decimal:
    def of(name: str) -> Decimal:
        value = row[f"{name}_{measure}"]
        return value if isinstance(value, Decimal) else Decimal(0)

    return of("total") - sum(map(of, CLASSES), Decimal(0))


@pytest.mark.parametrize(("year", "sales", "revenues"), [
    (2016, [], []),
    # filed so: a retailer's unbundled part and the adjustment that mirrors it
    (2017, [("13830", "D", 1), ("99999", "D", -1)],
     [("13830", "A", 1), ("13830", "D", -995), ("99999", "A", -1), ("99999", "D", 995)]),
])  # fmt: skip
def test_v5_classes_sum_to_the_total(
    real_data: Path, year: int, sales: list[tuple[str, ...]], revenues: list[tuple[str, ...]]
):
    rows = load(real_data, "Sales_Ult_Cust", year, "{sheet: States, header_rows: [1, 2, 3], footnotes: single_cell}", 9)
    place = [f"utility_characteristics_{n}" for n in ("utility_number", "part")]

    def apart(measure: str, bound: str) -> list[tuple[str | Decimal | None, ...]]:
        found = [(*[r[n] for n in place], difference(r, measure)) for r in rows]
        return [f for f in found if abs(f[-1]) > Decimal(bound)]

    assert apart("sales_megawatthours", "0") == sales
    assert apart("revenues_thousand_dollars", "0.1") == revenues
    assert {r["utility_characteristics_part"] for r in rows} == {"A", "B", "C", "D"}
    assert {r["utility_characteristics_data_type_o_observed_i_imputed"] for r in rows} == {"O", "I"}
