"""The pictures of docs/scd2.md are what the engine does: each is drawn anew and compared; `make pictures` writes them."""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scd2_pictures import Stage, svg
from scd2_world import SIMPLE

from utilityflow import scd2

BEGIN = date(2026, 1, 1)  # day 0
# name of the picture -> stages: title, what comes (as in test_cases.py; a fraction is a time of that day)
STORIES: dict[str, list[tuple[str, str]]] = {
    "day": [("Within a day, the last event stands for the day", "A@1.4 B@1.7 B@3.4 C@4.4")],
    "late": [("Told first", "A@1 C@4"), ("Then, late", "B@2")],
    "no-op": [("Told first: nothing changed on day 3", "A@1 A@3"), ("Then, late", "B@2")],
    "before": [("Told first", "B@3"), ("Then, late: before all that was known", "A@1")],
    "delete": [("Told first: a delete that has nothing to end", "D@3"), ("Then", "A@1"), ("Then", "A@4")],
    "correction": [("Told first", "A@1 B@2 C@4"), ("Then: day 2 again, with a higher sequence", "X@2#2")],
    "superseded": [("Told first", "A@1 B@2 C@4"), ("Then: the file that told B is superseded", "-B@2")],
    "inferred": [("A fact came before its customer", "need"), ("Then the customer, from day 2 on", "A@2")],
    "facts": [("What a fact finds", "A@1 D@2 B@4")],
}
FACTS = {"facts": [0.5, 1.5, 3.0, 4.5]}


class Story:
    """The standing events of a picture, stage by stage."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str, int]] = []
        self.needed = False

    def hear(self, words: str) -> list[tuple[float, str]]:
        """What comes with a stage; returns the events that are new."""
        fresh = []
        for word in words.split():
            if word == "need":
                self.needed = True
                continue
            name, _, rest = word.lstrip("-").partition("@")
            day, _, sequence = rest.partition("#")
            one = (float(day), name, int(sequence or 1))
            if word.startswith("-"):
                self.told.remove(one)
            else:
                self.told.append(one)
                fresh.append(one[:2])
        return fresh


def rows_of(spark: SparkSession, stories: dict[str, Story]) -> DataFrame:
    """All versions of all stories as they stand."""
    listed = [
        (key, None if name == "D" else name, int(day * 86_400), sequence, "delete" if name == "D" else "upsert")
        for key, story in stories.items() for day, name, sequence in story.told
    ]  # fmt: skip
    events = spark.createDataFrame(listed, "id string, name string, second long, sequence long, operation string")
    midnight = F.lit(BEGIN.isoformat()).cast("timestamp").cast("long")
    events = events.withColumn("effective_at", F.timestamp_seconds(midnight + F.col("second")))
    needed = spark.createDataFrame([(key,) for key, story in stories.items() if story.needed], "id string")
    return scd2.versions(events, SIMPLE, zone="UTC", as_of=BEGIN, needed=needed)


def day(moment: date) -> float | None:
    """A moment as drawn; None for the two ends of time."""
    return None if moment.year in (1900, 9999) else float((moment - BEGIN).days)


def by_key(rows: DataFrame, *order: str) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for row in sorted(rows.collect(), key=lambda r: tuple(r[name] for name in order)):
        found[row["id"]].append(row)
    return found


def drawn(spark: SparkSession) -> dict[str, str]:
    """Every picture, by name."""
    stories = {name: Story() for name in STORIES}
    stages: dict[str, list[Stage]] = defaultdict(list)
    labels: dict[str, dict[int, str]] = defaultdict(dict)
    before: DataFrame | None = None
    for n in range(max(map(len, STORIES.values()))):
        fresh = {name: stories[name].hear(told[n][1]) for name, told in STORIES.items() if n < len(told)}
        after = rows_of(spark, stories)
        versions = by_key(after, "effective_date")
        affected = by_key(scd2.affected_intervals(before, after, SIMPLE), "affected_from") if before is not None else {}
        for name, new in fresh.items():
            shown = []
            for r in versions[name]:
                key = labels[name].setdefault(r["sk"], f"key {len(labels[name]) + 1}")
                shown.append((day(r["effective_date"]), day(r["expiry_date"]), r["name"] or "?", key))
            told = sorted((d, who) for d, who, _ in stories[name].told)
            spans = [(day(r["affected_from"]), day(r["affected_to"])) for r in affected.get(name, [])]
            facts = found_by(spark, name, after, labels[name])
            stages[name].append(Stage(STORIES[name][n][0], told, sorted(new), shown, spans, facts))
        before = after
    return {name: svg(drawn) for name, drawn in stages.items()}


def found_by(spark: SparkSession, name: str, rows: DataFrame, labels: dict[int, str]) -> list[tuple[float, str]]:
    """Where the story's facts fall, and what they find."""
    if name not in FACTS:
        return []
    facts = spark.createDataFrame([(name, at, int(at)) for at in FACTS[name]], "id string, at double, number int")
    facts = facts.withColumn("day", F.date_add(F.lit(BEGIN), F.col("number")))
    found = scd2.version_of(facts, rows, SIMPLE, day="day").collect()
    return [
        (r["at"], labels.get(r["sk"], str(r["sk"])) + (", flagged" if r["before_first_version"] else ""))
        for r in sorted(found, key=lambda r: r["at"])
    ]


def test_the_pictures_in_the_documentation_are_what_the_engine_does(spark: SparkSession, repository: Path) -> None:
    folder = repository / "docs" / "pictures"
    pictures = {f"scd2-{name}.svg": picture for name, picture in drawn(spark).items()}
    if os.environ.get("UTILITYFLOW_WRITE_PICTURES"):
        folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            (folder / name).write_text(picture, encoding="utf-8")
    kept = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("scd2-*.svg")}
    assert kept.keys() == pictures.keys()
    assert [name for name in pictures if pictures[name] != kept[name]] == [], "make pictures draws them anew"
    text = (repository / "docs" / "scd2.md").read_text(encoding="utf-8")
    assert [name for name in pictures if f"(pictures/{name})" not in text] == []
