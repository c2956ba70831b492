"""Random histories, split into random batches and played into real Delta tables, agree with the reference model.

Each example is a world with many histories as its keys, the kept scenarios among them; `make scd2-campaign` plays tens of
thousands. A history that fails is made small and printed as a scenario: put it under scenarios/given_<what>/history.yaml,
where it is played ever after.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as start_from
from hypothesis import strategies as st
from pyspark.sql import Column, SparkSession
from scd2_histories import BATCHES, RULES, as_text, kept, play, random_history, shrunk
from scd2_reference import Event
from scd2_world import NOON, Differs, check_invariants

from utilityflow.scd2 import Dimension, timeline

HISTORIES = int(os.environ.get("SCD2_CAMPAIGN", "0"))  # of each kind
START = int(os.environ.get("SCD2_START", "1"))  # another number tries other histories
PER_WORLD = 1000 if HISTORIES else 400
WORLDS = max(1, HISTORIES // PER_WORLD)


@pytest.mark.engine
@pytest.mark.parametrize("kind", list(RULES))
def test_random_and_kept_histories_agree_with_the_reference(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    rules = RULES[kind]

    @start_from(START)
    @settings(max_examples=WORLDS, phases=[Phase.generate], deadline=None, database=None, derandomize=False,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(number=st.integers(1, 2**32))
    def agree(number: int) -> None:
        print(f"scd2 {kind}: {PER_WORLD} histories of seed {number}")
        rng = random.Random(number)
        histories = {f"k{n}": random_history(rng, f"k{n}", rules) for n in range(PER_WORLD)}
        histories |= {name: history for name, (of, history) in kept().items() if of == kind}
        days = [date(2026, 3, rng.randint(5, 11)) for _ in range(BATCHES)]
        try:
            world = play(spark, tmp_path, rules, histories, days)
        except Differs as found:
            small = shrunk(spark, tmp_path, rules, histories[found.keys[0]], days)
            print(f"\n{as_text(f'{kind}, seed {number}, {found.keys[0]}, as of {days}', kind, small)}")
            raise
        for key, rows in world.last.rows.items():
            check_invariants(rows, world.standing[key], rules)
        world.check_facts(number)

    agree()


def test_a_wrong_engine_is_found_and_its_history_made_small(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is made to forget the sequence: two events of one moment are enough to show it."""
    right = timeline._order

    def forgetful(dimension: Dimension) -> list[Column]:
        start, at, _, *rest = right(dimension)
        return [start, at, *rest]

    monkeypatch.setattr(timeline, "_order", forgetful)
    pair = [Event("k", NOON + 5, (name, None, None, None, None), row=n) for n, name in enumerate("ab")]
    loser, winner = sorted(pair, key=lambda e: e.hash(partial=False))  # the smaller hash wins once the sequence is forgotten
    others = [Event("k", NOON + at, ("x", None, None, None, None), row=at) for at in (1, 2, 3)]
    failing = [[("tell", e) for e in (*others, replace(loser, sequence=1), replace(winner, sequence=2))]]
    days = [date(2026, 3, 1)]
    with pytest.raises(Differs):
        play(spark, tmp_path, RULES["microsecond"], {"k": failing}, days)
    small = shrunk(spark, tmp_path, RULES["microsecond"], failing, days)
    assert [(what, event and event.sequence) for what, event in small[0]] == [("tell", 1), ("tell", 2)]
