"""Histories of one key as batches of acts: random ones, kept ones (scenario folders), and how a failing one is made small."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime, timezone
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml
from pyspark.sql import SparkSession
from scd2_reference import ATTRIBUTES, DAY, Event, Rules
from scd2_world import Differs, World

RULES = {
    "day": Rules("day", "all"),
    "microsecond": Rules("microsecond", "current", "Asia/Kathmandu"),
    "partial": Rules("day", "current", "America/St_Johns", partial=True),
}
BATCHES = 3
BASE = int(datetime(2026, 3, 6, 5, tzinfo=timezone.utc).timestamp()) * 1_000_000  # midnight in New York
SCENARIOS = Path(__file__).parent / "scenarios"

Act = tuple[str, Event | None]  # ('tell', event), ('retract', event), ('need', None), ('unneed', None)
History = list[list[Act]]  # per batch what happens


# -- random ------------------------------------------------------------------------------------------------------------


def random_event(rng: random.Random, key: str, rules: Rules, row: int) -> Event:
    unit = 1 if rules.grain == "microsecond" else DAY // 4
    at = BASE + unit * rng.randrange(16)
    few = [None, "", "a", "b"]
    values = tuple(rng.choice(few) if rng.random() < 0.4 else "a" for _ in ATTRIBUTES)
    given_names = tuple(n for n in ATTRIBUTES if rng.random() < 0.5) if rules.partial and rng.random() < 0.7 else None
    operation = "delete" if rng.random() < 0.2 else "upsert"
    return Event(key, at, values, rng.choice([None, 1, 1, 2]), operation, given_names, f"file{row % 3}", row)


def random_history(rng: random.Random, key: str, rules: Rules) -> History:
    events = [random_event(rng, key, rules, row) for row in range(rng.randint(0, 7))]
    for event in events[:]:
        if rng.random() < 0.2:  # the same again, from another file
            events.append(replace(event, file="again", row=100 + event.row))  # file and row name one event only
    rng.shuffle(events)
    batches: History = [[] for _ in range(BATCHES)]
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


# -- played ------------------------------------------------------------------------------------------------------------


def play(spark: SparkSession, folder: Path, rules: Rules, histories: Mapping[str, History], days: Sequence[date]) -> World:
    """All histories in one new world, batch by batch, each as of a day.

    :raises Differs: after the first batch that leaves something else than the reference says.
    """
    world = World(spark, Path(mkdtemp(dir=folder)), rules)
    for batch, as_of in enumerate(days):
        acts = [(key, *act) for key, batches in histories.items() for act in batches[batch]]
        world.play(
            [e for _, what, e in acts if what == "tell" and e],
            retract=[e for _, what, e in acts if what == "retract" and e],
            need={key for key, what, _ in acts if what == "need"},
            unneed={key for key, what, _ in acts if what == "unneed"},
            as_of=as_of,
        )
    return world


def shrunk(spark: SparkSession, folder: Path, rules: Rules, failing: History, days: Sequence[date]) -> History:
    """The failing history without any act that it can fail without; all that lack one act are tried at once, as keys."""
    while True:
        tries = {f"k{n}": one for n, one in enumerate(_with_one_act_less(failing))}
        renamed = {key: [[_renamed(act, key) for act in acts] for acts in one] for key, one in tries.items()}
        try:
            play(spark, folder, rules, renamed, days)
        except Differs as found:
            failing = min((tries[key] for key in found.keys if key in tries), key=lambda h: sum(map(len, h)))
        else:
            return failing


def _with_one_act_less(history: History) -> Iterable[History]:
    for b, acts in enumerate(history):
        for n in range(len(acts)):
            less = [[*acts[:n], *acts[n + 1 :]] if i == b else list(other) for i, other in enumerate(history)]
            if _possible(less):
                yield less


def _possible(history: History) -> bool:
    """Whether nothing is retracted that does not stand."""
    standing: list[Event] = []
    for acts in history:
        for event in (e for what, e in acts if what == "retract" and e):  # a batch retracts before it tells
            if event not in standing:
                return False
            standing.remove(event)
        standing += [event for what, event in acts if what == "tell" and event]
    return True


def _renamed(act: Act, key: str) -> Act:
    what, event = act
    return what, None if event is None else replace(event, key=key)


# -- kept --------------------------------------------------------------------------------------------------------------


def as_text(why: str, rules: str, history: History) -> str:
    """A scenario's ``history.yaml``."""
    batches = [[{what: _plain(event) if event else True} for what, event in acts] for acts in history]
    return yaml.safe_dump({"why": why, "rules": rules, "batches": batches}, sort_keys=False, allow_unicode=True)


def _plain(event: Event) -> dict[str, Any]:
    """Without key, and without what is as always."""
    fields = asdict(event) | {"values": list(event.values), "given": list(event.given) if event.given is not None else None}
    usual = asdict(Event("", 0)) | {"values": list(Event("", 0).values)}
    return {name: value for name, value in fields.items() if name != "key" and value != usual[name]}


def kept() -> dict[str, tuple[str, History]]:
    """The scenarios: name -> rules, history."""
    found = {}
    for path in sorted(SCENARIOS.glob("given_*/history.yaml")):
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        name = path.parent.name
        found[name] = (told["rules"], [[_act(name, act) for act in batch] for batch in told["batches"]])
    return found


def _act(key: str, act: dict[str, Any]) -> Act:
    ((what, fields),) = act.items()
    if fields is True:
        return what, None
    tuples = {name: tuple(fields[name]) for name in ("values", "given") if fields.get(name) is not None}
    return what, Event(key, **{**fields, **tuples})
