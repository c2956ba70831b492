"""The command line: shapes on standard output, exit statuses, errors in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from utilityflow import pipeline
from utilityflow.cli import main
from utilityflow.commands import COMMANDS
from utilityflow.errors import UtilityFlowError

if TYPE_CHECKING:
    from .conftest import Place

RUN = {"run_id", "status", "publication", "files", "steps", "error"}
FILE = {"feed", "file", "sha256", "status", "rows_read", "rows_loaded", "rows_quarantined", "rows_superseded",
        "rows_duplicate", "reason"}  # fmt: skip
STEP = {"step", "status", "rows_written", "seconds", "version"}


def one_object(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    out, err = capsys.readouterr()
    return json.loads(out), err


@pytest.mark.engine
def test_run_prints_one_object(copy: Place, capsys: pytest.CaptureFixture[str]) -> None:
    copy.land({"reads/r9.csv": "cust,meter,kwh,day,q\nC0001,M-0001,9.0,2025-01-30,actual\n"})
    assert main(["run", "--json", "--as-of", "2025-02-01", *copy.words]) == 0
    result, err = one_object(capsys)
    assert set(result) == RUN
    assert (result["status"], result["publication"], result["error"]) == ("succeeded", 3, None)
    assert all(set(f) == FILE for f in result["files"])
    assert all(set(s) == STEP for s in result["steps"])
    assert [f["file"] for f in result["files"] if f["status"] == "loaded"] == ["reads/r9.csv"]
    assert "silver.meter_reads" in err
    (loaded,) = [s["rows_written"] for s in result["steps"] if s["step"] == "publish.duckdb"]
    assert 0 < loaded < 1000, "what was loaded, not the calendar that stood there already"


def test_a_summary_for_people(built: tuple[Place, list[dict[str, Any]]]) -> None:
    from utilityflow.operate.summary import text

    place, answers = built
    told = text(place.settings, answers[0])
    assert "cis/a.csv loaded: 6 read, 5 loaded, 1 quarantined" in told
    assert "conversion:effective_at" in told
    assert "publication 1; the warehouse is" in told


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["run", "--as-of", "yesterday"], "UF-1004", "YYYY-MM-DD"),
        (["run", "--select", "gold.dim_custmer"], "UF-1004", "gold.dim_customer"),
        (["run", "--feeds", "/nowhere"], "UF-1003", "/nowhere"),
        (["run", "--as-of", "2024-01-01"], "UF-1005", "2025-02-01"),
        (["run", "--time-zone", "Europe/Paris"], "UF-1006", "UTC"),
        (["run", "--colour"], "UF-1004", "--help"),
    ],
)
def test_usage_errors_of_run(
    copy: Place, words: list[str], code: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], "--json", *copy.words, *words[1:]]) == 2
    result, err = one_object(capsys)
    assert set(result) == RUN
    assert (result["run_id"], result["status"], result["files"], result["steps"]) == (None, "failed", [], [])
    assert set(result["error"]) == {"code", "message", "hint"}
    assert result["error"]["code"] == code
    assert told in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [["explain", "gold.nothing", "1"], ["verify", "--only", "x"], ["bench", "x"], ["feed", "check", "/no.yaml"]],
)
def test_errors_of_other_commands(place: Place, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status = main([*words, "--json", *place.words])
    result, err = one_object(capsys)
    assert status == 2
    assert set(result) == {"error"}
    assert err.startswith("UF-")


def test_the_status_of_a_failed_run_is_its_errors(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"run_id": "r", "status": "failed", "publication": None, "files": [], "steps": [],
              "error": {"code": "UF-4003", "message": "too many", "hint": None}}  # fmt: skip
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: failed)
    assert main(["run", "--json", *place.words]) == 3
    assert one_object(capsys)[0] == failed
    assert main(["run", *place.words]) == 3
    out, err = capsys.readouterr()
    assert "UF-4003: too many" in err
    assert "run r: failed" in out


def test_resume_keeps_the_day_and_the_steps_of_its_run(
    copy: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise UtilityFlowError("UF-4007", "stopped by the test")

    copy.land({"cis/z.csv": "id,name,city,class,changed_at,seq,op\nC0042,Zoe,Springfield,residential,2025-02-20 08:00:00,1,I\n"})
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_dim_customer", fails)
        words = ["run", "--json", "--as-of", "2025-02-10", "--select", "bronze", "silver", "gold", *copy.words]
        assert main(words) == 1
    dead = one_object(capsys)[0]["run_id"]
    assert main(["resume", dead, "--json", *copy.words]) == 0
    result, _ = one_object(capsys)
    assert result["run_id"] != dead
    assert [s["status"] for s in result["steps"] if s["step"] == "gold.dim_customer"] == ["ok"]
    assert result["publication"] == 2  # it had not been asked to publish
    assert main(["status", "--json", *copy.words]) == 0
    runs = one_object(capsys)[0]["runs"]
    assert [(r["run_id"], r["as_of"]) for r in runs[:2]] == [(result["run_id"], "2025-02-10"), (dead, "2025-02-10")]
    assert main(["resume", dead[:-1] + "x", *copy.words]) == 2
    assert dead in capsys.readouterr().err
    assert main(["resume", "../../etc/passwd", *copy.words]) == 2


@pytest.mark.parametrize(
    ("failure", "status", "told"),
    [
        (RuntimeError("boom\nat line 2"), 1, "UF-4999: RuntimeError: boom ("),
        (OSError(28, "No space left on device", "/x"), 1, "UF-4007"),
        (UtilityFlowError("UF-4004", "held"), 4, "UF-4004: held"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_fails_ends_in_one_line(
    place: Place, failure: BaseException, status: int, told: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(pipeline, "run", fail)
    assert main(["run", *place.words]) == status
    err = capsys.readouterr().err
    assert err.startswith(told)
    assert err.count("\n") == 1


def test_debug_shows_the_trace(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(pipeline, "run", fail)
    monkeypatch.setenv("UTILITYFLOW_DEBUG", "")  # main sets it; restored afterwards
    with pytest.raises(RuntimeError):
        main(["run", "--debug", *place.words])


def test_help_is_instant_and_needs_no_engine() -> None:
    began = time.monotonic()
    code = "import sys; from utilityflow.cli import main\ntry: main(['--help'])\nfinally: assert 'pyspark' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 5
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m utilityflow.cli docs | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.stdout == "# Data dictionary\n"
    assert done.stderr == ""


def test_the_dictionary_lists_every_column(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from utilityflow.contracts import load_contracts

    assert main(["docs", "--out", str(tmp_path / "d.md")]) == 0
    text = (tmp_path / "d.md").read_text(encoding="utf-8")
    for contract in load_contracts().values():
        section = text.split(f"## {contract.name}\n")[1].split("\n## ")[0]
        assert all(f"| `{column.name}`" in section for column in contract.columns)
        assert all(f"| {rule.id} |" in section for rule in contract.rules)


def test_status_of_a_home(place: Place, empty: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", *place.words]) == 0
    result, _ = one_object(capsys)
    assert [r["status"] for r in result["runs"]] == ["succeeded", "succeeded"]
    assert (result["publication"]["number"], result["publication"]["as_of"]) == (2, "2025-02-01")
    assert {t["table"]: t["rows"] for t in result["publication"]["tables"]}["gold.fact_usage"] == 6
    assert result["files"] == {"cis": {"loaded": 1}, "reads": {"loaded": 3, "superseded": 1}}
    assert result["quarantine"]["silver.customers__quarantine"]["conversion:effective_at"] == 1
    assert {s["step"] for s in result["steps"]} >= {"bronze.reads", "gold.fact_usage"}
    assert main(["status", *place.words]) == 0
    assert "publication 2 as of 2025-02-01" in capsys.readouterr().out
    assert main(["status", *empty.words]) == 0
    assert "nothing has run here yet" in capsys.readouterr().out
    assert not (empty.folder / "home").exists()


def test_feed_check_shows_raw_beside_canonical(empty: Place, capsys: pytest.CaptureFixture[str]) -> None:
    feed = str(empty.folder / "feeds" / "cis.yaml")
    assert main(["feed", "check", feed, "--json", *empty.words]) == 1
    result, _ = one_object(capsys)
    assert (result["records"], result["failed"], len(result["sample"])) == (6, 1, 3)
    assert result["sample"][0]["raw"]["name"] == result["sample"][0]["canonical"]["customer_name"] == "Ada Byron"
    assert [(f["file"], f["row"]) for f in result["failures"]] == [("cis/a.csv", 6)]
    assert main(["feed", "check", feed, "--sample", "2", *empty.words]) == 0
    assert "2 records were tried, 0 break" in capsys.readouterr().out
    assert not (empty.folder / "home").exists()
    assert main(["feed", "list", "--json", *empty.words]) == 0
    assert [f["feed"] for f in one_object(capsys)[0]["feeds"]] == ["cis", "reads"]


def test_feed_check_without_files(empty: Place, capsys: pytest.CaptureFixture[str]) -> None:
    feed = empty.folder / "feeds" / "reads.yaml"
    feed.write_text(feed.read_text().replace("reads/*.csv", "nothing/*.csv"))
    assert main(["feed", "check", str(feed), *empty.words]) == 0
    assert "no file has landed" in capsys.readouterr().out
