"""docs/runbook.md holds cause, check and fix for every code of the catalogue, and for nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from utilityflow.errors import CATALOGUE

SECTION = re.compile(r"^## (UF-\d{4}): (.+)$", re.MULTILINE)


def test_the_runbook_and_the_catalogue_agree(repository: Path) -> None:
    text = (repository / "docs" / "runbook.md").read_text("utf-8")
    told = dict(SECTION.findall(text))
    assert told == {code: kind.title for code, kind in CATALOGUE.items()}
    assert list(told) == sorted(told)
    bodies = SECTION.split(text)[3::3]
    for code, body in zip(told, bodies, strict=True):
        for part in ("Cause", "Check", "Fix"):
            assert re.search(rf"^- {part}: \S.{{10,}}$", body, re.MULTILINE), f"{code} lacks '{part}'"


def test_every_code_that_the_code_raises_is_in_the_catalogue(repository: Path) -> None:
    used = {c for p in (repository / "lib").rglob("*.py") for c in re.findall(r"UF-\d{4}", p.read_text("utf-8"))}
    assert used <= set(CATALOGUE)
