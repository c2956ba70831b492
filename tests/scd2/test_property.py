"""Random histories, split into random batches and played into real Delta tables, agree with the reference model.

Each example is a world with many histories as its keys. `SCD2_CAMPAIGN=<histories>` makes it a long campaign.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from scd2_reference import ATTRIBUTES, DAY, Event, Rules
from scd2_world import World, check_invariants

BATCHES = 3
HISTORIES = int(os.environ.get("SCD2_CAMPAIGN", "0"))
PER_WORLD = 1000 if HISTORIES else 400
WORLDS = max(1, HISTORIES // PER_WORLD)
BASE = int(datetime(2026, 3, 6, 5, tzinfo=timezone.utc).timestamp()) * 1_000_000  # midnight in New York
RULES = {
    "day": Rules("day", "all"),
    "microsecond": Rules("microsecond", "current", "Asia/Kathmandu"),
    "partial": Rules("day", "current", "America/St_Johns", partial=True),
}


def random_event(rng: random.Random, key: str, rules: Rules, row: int) -> Event:
    unit = 1 if rules.grain == "microsecond" else DAY // 4
    at = BASE + unit * rng.randrange(16)
    few = [None, "", "a", "b"]
    values = tuple(rng.choice(few) if rng.random() < 0.4 else "a" for _ in ATTRIBUTES)
    given_names = tuple(n for n in ATTRIBUTES if rng.random() < 0.5) if rules.partial and rng.random() < 0.7 else None
    operation = "delete" if rng.random() < 0.2 else "upsert"
    return Event(key, at, values, rng.choice([None, 1, 1, 2]), operation, given_names, f"file{row % 3}", row)


def random_history(rng: random.Random, key: str, rules: Rules) -> list[list[tuple[str, Event | None]]]:
    """Per batch what happens: ('tell', event), ('retract', event), ('need', None), ('unneed', None)."""
    events = [random_event(rng, key, rules, row) for row in range(rng.randint(0, 7))]
    for event in events[:]:
        if rng.random() < 0.2:  # the same again, from another file
            events.append(replace(event, file="again", row=rng.randrange(100, 200)))
    rng.shuffle(events)
    batches: list[list[tuple[str, Event | None]]] = [[] for _ in range(BATCHES)]
    for event in dict.fromkeys(events):
        when = rng.randrange(BATCHES)
        batches[when].append(("tell", event))
        if when + 1 < BATCHES and rng.random() < 0.25:  # its file is superseded
            gone = rng.randrange(when + 1, BATCHES)
            batches[gone].append(("retract", event))
            if gone + 1 < BATCHES and rng.random() < 0.5:
                batches[rng.randrange(gone + 1, BATCHES)].append(("tell", event))
    if rng.random() < 0.3:
        when = rng.randrange(BATCHES)
        batches[when].append(("need", None))
        if when + 1 < BATCHES and rng.random() < 0.5:
            batches[rng.randrange(when + 1, BATCHES)].append(("unneed", None))
    return batches


@pytest.mark.engine
@pytest.mark.parametrize("kind", list(RULES))
def test_random_histories_agree_with_the_reference(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    rules = RULES[kind]

    @settings(max_examples=WORLDS, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(1, 2**32))
    def play(seed: int) -> None:
        print(f"scd2 {kind}: {PER_WORLD} histories of seed {seed}")
        rng = random.Random(seed)
        world = World(spark, Path(mkdtemp(dir=tmp_path)), rules)
        histories = {f"k{n}": random_history(rng, f"k{n}", rules) for n in range(PER_WORLD)}
        for batch in range(BATCHES):
            acts = [(key, *act) for key, batches in histories.items() for act in batches[batch]]
            world.play(
                [e for _, what, e in acts if what == "tell" and e],
                retract=[e for _, what, e in acts if what == "retract" and e],
                need={key for key, what, _ in acts if what == "need"},
                unneed={key for key, what, _ in acts if what == "unneed"},
                as_of=date(2026, 3, rng.randint(5, 11)),
            )
        for key, rows in world.last.rows.items():
            check_invariants(rows, world.standing[key], rules)
        world.check_facts(seed)

    play()
