"""Logs that lie: gaps, garbage, checkpoints, commits and features of other programs, a suite that is too old.

Numbers are those of reference/operations.md section 9. All of it is told before the engine starts, by the run itself.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lying import Break, Broken, Hook, Untouched, measured

from utilityflow import lakehouse

pytestmark = pytest.mark.engine
READS, FACTS = "silver.meter_reads", "gold.fact_usage"


def whole(home: Broken, untouched: Untouched) -> dict[str, int]:
    """The next run on the mended home, against that of the untouched one."""
    home.land()
    code, answer = home.run()
    assert (code, answer["error"]) == (0, None), answer["error"]
    return measured(home.state(), untouched.later)


@pytest.mark.fault(0, "nothing: an untouched home")
def test_fault_00_an_untouched_home_raises_no_alarm(broken: Break, fault: Any) -> None:
    home = broken()
    code, found = home.examined()
    assert (code, found) == (0, {})
    code, answer = home.run()
    assert (code, answer["status"], answer["error"]) == (0, "nothing_to_do", None)
    code, after = home.examined()
    assert (code, after) == (0, {})
    fault(false_alarms=len(found) + len(after), rows_lost=0, wrong=0)


@pytest.mark.fault(17, "commits are missing from a log: one between, the first, the newest")
def test_fault_17_a_gap_in_the_log(broken: Break, untouched: Untouched, fault: Any) -> None:
    home = broken()
    versions = home.versions(READS)
    for version in (versions[1], versions[0], versions[-1]):
        file = home.commit(READS, version)
        kept = file.read_bytes()
        file.unlink()
        error = home.blocked("UF-3003", READS, *([str(file)] if version == versions[1] else []))
        assert "run again" in error["hint"]
        home.doctor(READS, f"version {versions[-1]}" if version == versions[-1] else "")
        file.write_bytes(kept)
        assert home.examined() == (0, {})
    home.commit(READS, versions[1]).unlink()
    assert "move it away and run again" in home.doctor(READS, f"commit {versions[1]} of")
    home.move_away(READS)
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-3003", unaided=False, false_alarms=len(home.examined()[1]), **told)


def _torn(text: bytes) -> bytes:
    return text[:-20]


def _without_a_line(text: bytes) -> bytes:
    return b"".join(text.splitlines(keepends=True)[:-1])


def _garbage(_: bytes) -> bytes:
    return b"\0\xff" * 400


def _nothing(_: bytes) -> bytes:
    return b""


def _other_figure(text: bytes) -> bytes:
    return re.sub(rb'"size":(\d)', lambda m: b'"size":' + bytes([(m.group(1)[0] - 48) % 9 + 49]), text, count=1)


@pytest.mark.fault(18, "a commit is torn, cut by whole lines, garbage, empty, or one figure of it differs")
def test_fault_18_a_commit_that_is_not_what_was_written(broken: Break, untouched: Untouched, fault: Any) -> None:
    home = broken()
    version = home.versions(FACTS)[-1]
    file = home.commit(FACTS, version)
    kept = file.read_bytes()
    for damage in (_torn, _without_a_line, _garbage, _nothing, _other_figure):
        file.write_bytes(damage(kept))
        assert file.read_bytes() != kept
        home.blocked("UF-3003", FACTS, str(file))
        home.doctor(FACTS, str(file))
    file.write_bytes(kept)
    assert home.examined() == (0, {})
    file.write_bytes(_garbage(kept))
    assert "move it away and run again" in home.doctor(FACTS, str(file))
    home.move_away(FACTS)
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-3003", unaided=False, false_alarms=len(home.examined()[1]), **told)


def _checkpointed(broken: Break, spark: Any, *tables: str) -> Broken:
    """A home whose tables have checkpoints, at a path that Delta has not seen."""
    first = broken("first")
    for table in tables:
        delta = spark._jvm.org.apache.spark.sql.delta.DeltaLog
        delta.forTable(spark._jsparkSession, str(first.folder(table))).checkpoint()
    first.path.rename(first.path.with_name("second"))
    return Broken(first.path.with_name("second"), first.spark, first.capsys)


def _checkpoint(home: Broken, table: str) -> Path:
    (file,) = home.log(table).glob("*.checkpoint*.parquet")
    for beside in home.log(table).glob(".*.crc"):
        beside.unlink()
    return file


@pytest.mark.fault(19, "a checkpoint is damaged")
def test_fault_19_a_damaged_checkpoint(broken: Break, untouched: Untouched, spark: Any, fault: Any) -> None:
    home = _checkpointed(broken, spark, READS)
    file = _checkpoint(home, READS)
    kept = file.read_bytes()
    assert home.examined() == (0, {})
    older = {v: home.commit(READS, v).read_bytes() for v in home.versions(READS)[:-1]}
    for version in older:  # as Delta's own cleaning leaves a log
        home.commit(READS, version).unlink()
    assert home.examined() == (0, {})
    file.write_bytes(kept[:-9])
    home.blocked("UF-3003", READS, str(file))
    assert "move it away and run again" in home.doctor(READS, str(file))
    for version, text in older.items():
        home.commit(READS, version).write_bytes(text)
    home.blocked("UF-3003", READS, str(file))
    out = home.doctor(READS, str(file))
    removed = re.findall(r"/\S+", out.partition(":")[0])
    assert [Path(name).name for name in removed] == [file.name, "_last_checkpoint"], out
    for name in removed:
        Path(name).unlink()
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-3003", unaided=False, false_alarms=len(home.examined()[1]), **told)


@pytest.mark.slow
@pytest.mark.fault(19, "checkpoints are missing, pointers to them garbage or stale")
def test_fault_19_pointers_that_lead_nowhere(broken: Break, untouched: Untouched, spark: Any, fault: Any) -> None:
    home = _checkpointed(broken, spark, READS, FACTS, "silver.customers")
    _checkpoint(home, READS).unlink()
    _checkpoint(home, FACTS)
    (home.log(FACTS) / "_last_checkpoint").write_bytes(b"\0garbage")
    _checkpoint(home, "silver.customers")
    pointer = home.log("silver.customers") / "_last_checkpoint"
    pointer.write_text(json.dumps(json.loads(pointer.read_text("utf-8")) | {"version": 1}), encoding="utf-8")
    assert home.examined()[0] == 0
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(unaided=True, false_alarms=len(home.examined()[1]), **told)


def _write_beside(home: Broken, table: str, change: str) -> None:
    """What another session does: it knows nothing of the suite's notes."""
    other = home.spark.newSession()
    other.sql(change.format(path=f"delta.`{home.folder(table)}`"))


FOREIGN = "INSERT INTO {path} SELECT * FROM {path} LIMIT 1"


def _restore(home: Broken, out: str) -> None:
    """Do what doctor tells."""
    (statement,) = re.findall(r"RESTORE TABLE delta\.`[^`]+` TO VERSION AS OF \d+", out)
    home.spark.newSession().sql(statement)


@pytest.mark.fault(10, "another program writes to a table between two runs")
def test_fault_10_a_commit_of_another_program(broken: Break, untouched: Untouched, fault: Any) -> None:
    home = broken()
    version = home.versions(FACTS)[-1]
    _write_beside(home, FACTS, FOREIGN)
    home.blocked("UF-3008", FACTS, f"version {version + 1} (WRITE")
    _restore(home, home.doctor(FACTS, f"version {version + 1}"))
    assert home.examined() == (0, {})
    code, answer = home.run()
    assert (code, answer["error"]) == (0, None)
    told = measured(home.state(), untouched.after)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-3008", unaided=False, false_alarms=len(home.examined()[1]), **told)


@pytest.mark.slow
@pytest.mark.fault(10, "another program writes to a table in the middle of a run")
def test_fault_10_a_commit_of_another_program_in_mid_run(
    broken: Break, untouched: Untouched, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = broken()
    home.land()
    columns = [f["name"] for f in json.loads(_schema(home))["fields"]]
    other = {"meter_id": "'MX'", "_row_number": "99", "_identity": "xxhash64('foreign')"}
    assert set(other) < set(columns)
    row = ", ".join(f"{other[name]} AS {name}" if name in other else name for name in columns)
    change = f"INSERT INTO {{path}} SELECT {row} FROM {{path}} LIMIT 1"
    hook = Hook("before merge gold.", lambda: _write_beside(home, READS, change))
    with monkeypatch.context() as patch:
        patch.setattr(lakehouse, "_POINTS", hook)
        home.blocked("UF-3008", READS, "WRITE")
    assert hook.done
    home.blocked("UF-3008", READS, "WRITE")  # and so it stays
    _restore(home, home.doctor(READS, "another program changed rows"))
    told = whole(home, untouched)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-3008", unaided=False, false_alarms=len(home.examined()[1]), **told)


def _schema(home: Broken) -> str:
    return str([a["metaData"] for a in home.actions(READS) if "metaData" in a][-1]["schemaString"])


@pytest.mark.fault(53, "an older suite meets tables of a newer one")
def test_fault_53_an_older_suite(broken: Break, untouched: Untouched, fault: Any) -> None:
    home = broken()

    def files() -> dict[str, bytes]:
        inside = (p for part in ("lakehouse", "warehouse") for p in (home.path / part).rglob("*") if p.is_file())
        return {str(p): p.read_bytes() for p in inside}

    marker = home.path / "home.json"
    kept, before = marker.read_text("utf-8"), files()
    marker.write_text(kept.replace('"layout": 1', '"layout": 2'), encoding="utf-8")
    home.blocked("UF-1009", "layout 2")
    assert files() == before
    marker.write_text(kept, encoding="utf-8")

    note = home.commit("ops.run", home.versions("ops.run")[-1])
    text = note.read_text("utf-8")
    newer = re.sub(r'(\\"suite\\": \\")[^\\]+', r"\g<1>99.1.0", text)
    assert newer != text
    note.write_text(newer, encoding="utf-8")
    before = files()
    home.blocked("UF-1009", "99.1.0")
    assert files() == before, "nothing may be written"
    note.write_text(text, encoding="utf-8")  # the suite is updated
    assert home.examined() == (0, {})
    fault(detected="UF-1009", unaided=False, false_alarms=0, **measured(home.state(), untouched.after))


@pytest.mark.fault(54, "another engine raises what a table asks for")
def test_fault_54_a_feature_of_another_engine(broken: Break, untouched: Untouched, fault: Any) -> None:
    home = broken()
    table = "gold.dim_meter"
    asked = [a["protocol"] for a in home.actions(table) if "protocol" in a][-1]
    for features in (["rowTracking", "domainMetadata"], ["variantType"]):
        readers = [f for f in features if f == "variantType"]
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7,
                    "readerFeatures": [*asked.get("readerFeatures", []), *readers],
                    "writerFeatures": [*asked.get("writerFeatures", []), *features]}  # fmt: skip
        info = {"timestamp": 1, "operation": "UPGRADE PROTOCOL", "engineInfo": "another engine"}
        file = home.commit(table, home.versions(table)[-1] + 1)
        file.write_text("\n".join(json.dumps(a) for a in ({"commitInfo": info}, {"protocol": protocol})), encoding="utf-8")
        home.blocked("UF-3009", table, features[0], "Synapse")
        out = home.doctor(table, features[0], "Synapse")
        assert "DROP FEATURE" in out
        assert "move it away and run again" in out
    home.move_away(table)
    code, answer = home.run()
    assert (code, answer["error"]) == (0, None)
    told = measured(home.state(), untouched.after)
    assert told == {"rows_lost": 0, "wrong": 0}
    fault(detected="UF-3009", unaided=False, false_alarms=len(home.examined()[1]), **told)
