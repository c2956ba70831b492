"""``spark-submit.sh`` starts a job from the zip: arguments, exit status and the two output streams come through."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest


def submit(repository: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(repository / "spark-submit.sh"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.fixture(scope="module")
def job(repository: Path) -> str:
    return min(path.stem for path in (repository / "jobs").glob("*.py"))


def test_help_of_a_job(repository: Path, tmp_path: Path, job: str) -> None:
    done = submit(repository, tmp_path, job, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
    assert done.stderr == "", "the engine's chatter reached the user"
    (twin,) = (repository / "dist").glob("utilityflow-*.zip")
    names = zipfile.ZipFile(twin).namelist()
    assert "utilityflow/_data/conf/local.yaml" in names
    assert any(name.startswith("utilityflow/_data/schemas/") for name in names)


def test_wrong_use_of_a_job(repository: Path, tmp_path: Path, job: str) -> None:
    done = submit(repository, tmp_path, job, "--no-such-option")
    assert done.returncode == 2
    assert done.stdout == "", "an error belongs to standard error"
    assert "--no-such-option" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "args", "told"),
    [
        (["--conf", "a=b"], "", "usage: "),
        (["--master"], "", "usage: "),
        (["--master", "local[1]", "--conf=a=b", "-v", "no_job"], "", "there is no job 'no_job'"),
        (["./no/script.py"], "", "there is no job './no/script.py'"),
        ([], "--master local[1] stray", "SPARK_SUBMIT_ARGS: 'stray'"),
    ],
)
def test_options_stand_before_the_job(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], args: str, told: str
) -> None:
    monkeypatch.setenv("SPARK_SUBMIT_ARGS", args)
    done = submit(repository, tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
