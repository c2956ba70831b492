"""``utilityflow deploy render`` and ``deploy check`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from utilityflow.cli import main
from utilityflow.resources import resource


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:  # type: ignore[type-arg]
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_render_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    code, told = answer(capsys, "deploy", "render", "--out", str(tmp_path / "out"))
    assert code == 0
    assert (
        sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())
        == told["files"]
    )
    assert [j["job"] for j in told["jobs"]][:2] == ["ingest_bronze", "conform_silver"]
    shipped = sorted(file.stem for file in (repository / "conf" / "feeds").glob("*.yaml"))
    asked = [feed for feed in shipped if feed.startswith(("cis_database_", "desk_rest_"))]
    assert told["jobs"][0]["steps"] == [*(f"extract.{feed}" for feed in asked), *(f"bronze.{feed}" for feed in shipped)]
    assert len(asked) == 7
    assert "synapse.pool" in told["to_set"]
    assert any("synapse" in note for note in told["notes"])
    code, told = answer(capsys, "deploy", "check", str(tmp_path / "out"))
    assert (code, told["ok"], told["findings"], told["error"]) == (0, True, [], None)
    assert "synapse/pipeline/utilityflow.json: 7 time(s)" in told["to_set"]


def test_one_target_with_settings_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "own.yaml"
    conf.write_text(
        resource("conf", "deploy.yaml").read_text("utf-8").replace("name: utilityflow", "name: night"), "utf-8"
    )
    code, told = answer(
        capsys, "deploy", "render", "--out", str(tmp_path / "out"), "--target", "adf", "--conf", str(conf)
    )
    assert code == 0
    assert told["files"] == [
        "adf/linkedService/night_databricks.json",
        "adf/pipeline/night.json",
        "adf/trigger/night_schedule.json",
    ]
    assert told["to_set"] == ["adf.workspace_url", "adf.workspace_id", "adf.job_id"]
    assert main(["deploy", "check", str(tmp_path / "out")]) == 0
    assert "3 files under" in capsys.readouterr().out


def test_a_broken_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "render", "--out", str(tmp_path), "--target", "databricks"]) == 0
    path = tmp_path / "databricks" / "resources" / "utilityflow.job.yml"
    path.write_text(path.read_text("utf-8").replace("max_concurrent_runs: 1", "max_concurrent_runs: 2"), "utf-8")
    capsys.readouterr()
    code, told = answer(capsys, "deploy", "check", str(tmp_path))
    assert (code, told["ok"], told["error"]["code"]) == (1, False, "UF-1021")
    assert told["findings"] == [
        {
            "file": "databricks/resources/utilityflow.job.yml",
            "place": "7 resources.jobs.utilityflow.max_concurrent_runs",
            "message": "must be 1",
        }
    ]
    assert main(["deploy", "check", str(tmp_path)]) == 1
    assert (
        "databricks/resources/utilityflow.job.yml:7 resources.jobs.utilityflow.max_concurrent_runs: must be 1"
        in capsys.readouterr().out
    )


def test_nothing_is_written_when_settings_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "own.yaml"
    conf.write_text(
        resource("conf", "deploy.yaml").read_text("utf-8").replace('"0 30 4 * * ?"', '"0 30 4 * *"'), "utf-8"
    )
    code, told = answer(capsys, "deploy", "render", "--out", str(tmp_path / "out"), "--conf", str(conf))
    assert (code, told["error"]["code"]) == (2, "UF-1020")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["deploy", "check", "no-such-folder"], "UF-1008"),
        (["deploy", "render", "--target", "fabric"], "UF-1004"),
        (["deploy"], "UF-1004"),
        (["deploy", "render", "--conf", "no-such-file.yaml"], "UF-1003"),
    ],
)
def test_wrong_use(
    words: list[str], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status, told = answer(capsys, *words)
    assert (status, told["error"]["code"]) == (2, code)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "databricks").write_text("a file")
    code, told = answer(capsys, "deploy", "render", "--out", str(tmp_path), "--target", "databricks")
    assert (code, told["error"]["code"]) == (2, "UF-1008")
