"""Landed files are known by name, size and time; ``run --rehash`` looks into them again."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow.cli import main

if TYPE_CHECKING:
    from .conftest import Place


def test_content_that_came_under_the_old_size_and_time_is_seen_on_request(
    copy: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copy.folder / "landing" / "reads" / "r3.csv"
    was, text = file.stat(), file.read_text(encoding="utf-8")
    corrected = text.replace("C0007,M-0007,4.0", "C0007,M-0007,6.0")
    file.write_text(corrected, encoding="utf-8")  # as rsync -t and cp -p leave it
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (corrected != text, file.stat().st_size, file.stat().st_mtime_ns) == (True, was.st_size, was.st_mtime_ns)

    def ran(*more: str) -> tuple[str, dict[str, str]]:
        capsys.readouterr()
        assert main(["run", "--as-of", "2025-02-01", "--json", *more, *copy.words]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer["status"], {f["file"]: f["status"] for f in answer["files"]}

    assert ran() == ("nothing_to_do", dict.fromkeys(["cis/a.csv", "reads/r1.csv", "reads/r2.csv", "reads/r3.csv"], "skipped"))
    status, files = ran("--rehash")
    assert (status, files["reads/r3.csv"], files["reads/r1.csv"]) == ("succeeded", "superseding", "skipped")
    assert ran("--rehash")[0] == "nothing_to_do", "what is the same stays known by its content"
