"""Set-up: the locks are complete and name no host, the jars fit them, and a jar is taken only as it was pinned."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

LANES = {"default": ("4.1.4", "4.4.0"), "floor": ("3.5.7", "3.2.1")}


@pytest.fixture(scope="module")
def fetch_jars(repository: Path) -> ModuleType:
    """requirements/fetch_jars.py, which is no part of the package, as a module."""
    spec = importlib.util.spec_from_file_location("fetch_jars", repository / "requirements" / "fetch_jars.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["default", "floor", "build"])
def test_a_lock_pins_everything_by_hash_and_names_no_place(repository: Path, name: str) -> None:
    text = (repository / "requirements" / f"{name}.lock").read_text("utf-8")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==[^\s;]+", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]
    assert not re.search(r"https?://|index-url|find-links|@ file|(?<![\w.-])/\w", text)


@pytest.mark.parametrize("lane", sorted(LANES))
def test_a_lane_is_one_fitting_pair(repository: Path, fetch_jars: ModuleType, lane: str) -> None:
    pyspark, delta = LANES[lane]
    lock = (repository / "requirements" / f"{lane}.lock").read_text("utf-8")
    assert f"\npyspark=={pyspark} " in lock
    assert f"\ndelta-spark=={delta} " in lock
    versions = {jar.split(":")[1].split("_")[0]: jar.split(":")[2] for jar in fetch_jars.JARS[lane]}
    assert versions["delta-spark"] == versions["delta-storage"] == delta


@pytest.fixture
def mirror(fetch_jars: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven repository in a folder, with small files that are pinned as the default lane's jars."""
    root = tmp_path / "mirror"
    pins = {}
    drivers = {}
    for coordinates in [*fetch_jars.JARS["default"], *fetch_jars.DRIVERS]:
        path = root / fetch_jars.path_of(coordinates)
        path.parent.mkdir(parents=True)
        path.write_text(coordinates, "utf-8")
        of = drivers if coordinates in fetch_jars.DRIVERS else pins
        of[coordinates] = hashlib.sha256(coordinates.encode()).hexdigest()
    monkeypatch.setattr(fetch_jars, "DRIVERS", drivers)
    monkeypatch.setitem(fetch_jars.JARS, "default", pins)
    monkeypatch.setenv("MAVEN_MIRROR", str(root))
    return root


def test_jars_are_fetched_mended_and_stale_ones_removed(fetch_jars: ModuleType, mirror: Path, tmp_path: Path) -> None:
    jars = tmp_path / "jars"
    jars.mkdir()
    (jars / "delta-storage-4.4.0.jar").write_text("damaged", "utf-8")
    (jars / "delta-spark_2.12-3.2.1.jar").write_text("of another version", "utf-8")
    (jars / "jdbc").mkdir()
    (jars / "jdbc" / "sqlite-jdbc-3.7.2.jar").write_text("of another version", "utf-8")
    (jars / "jdbc" / "mssql-jdbc-13.2.0.jre11.jar").write_text("put there by somebody", "utf-8")
    assert fetch_jars.main(["default", str(jars)]) == 0
    assert {p.name: p.read_text("utf-8") for p in jars.glob("*.jar")} == {
        "delta-spark_4.1_2.13-4.4.0.jar": "io.delta:delta-spark_4.1_2.13:4.4.0",
        "delta-storage-4.4.0.jar": "io.delta:delta-storage:4.4.0",
    }
    assert sorted(p.name for p in (jars / "jdbc").iterdir()) == [
        "mssql-jdbc-13.2.0.jre11.jar", "postgresql-42.7.8.jar", "sqlite-jdbc-3.50.3.0.jar",
    ]  # fmt: skip


@pytest.mark.usefixtures("mirror")
def test_jars_that_are_there_need_no_network(
    fetch_jars: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jars = tmp_path / "jars"
    assert fetch_jars.main(["default", str(jars)]) == 0
    monkeypatch.setenv("MAVEN_MIRROR", str(tmp_path / "gone"))
    assert fetch_jars.main(["default", str(jars)]) == 0


def test_a_jar_that_is_not_the_pinned_one_is_refused(
    fetch_jars: ModuleType, mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(mirror.rglob("delta-storage-*.jar")).write_text("something else", "utf-8")
    jars = tmp_path / "jars"
    assert fetch_jars.main(["default", str(jars)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("setup: ")
    assert "delta-storage-4.4.0.jar has SHA-256 " in error
    assert error.count("\n") == 1
    assert [p.name for p in jars.glob("*.jar")] == ["delta-spark_4.1_2.13-4.4.0.jar"]


def test_a_missing_jar_is_one_clear_line(
    fetch_jars: ModuleType, mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(mirror.rglob("delta-spark_*.jar")).unlink()
    assert fetch_jars.main(["default", str(tmp_path / "jars")]) == 1
    error = capsys.readouterr().err
    assert "cannot fetch" in error
    assert "MAVEN_MIRROR" in error
    assert error.count("\n") == 1


def test_a_session_maps_the_classes_that_setup_kept_and_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from utilityflow import jvm

    monkeypatch.setenv("UTILITYFLOW_JARS", str(tmp_path / "jars"))
    assert jvm.shared_classes() == ""
    jvm.class_archive().write_bytes(b"classes")
    assert jvm.class_archive() == tmp_path / "classes.jsa"
    assert jvm.shared_classes().startswith(f'-XX:SharedArchiveFile="{tmp_path}/classes.jsa" ')


@pytest.mark.long
def test_an_archive_made_anew_is_used_and_another_javas_is_passed_over(repository: Path, tmp_path: Path) -> None:
    from utilityflow import jvm

    jars = tmp_path / "share" / "jars"
    shutil.copytree(jvm._jar_folder(), jars)
    env = {**os.environ, "UTILITYFLOW_JARS": str(jars)}

    def python(*given: str) -> str:
        answer = subprocess.run([sys.executable, *given], env=env, capture_output=True, text=True, timeout=300, check=True)
        return answer.stdout

    python(str(repository / "requirements" / "archive_classes.py"))
    archive = tmp_path / "share" / "classes.jsa"
    assert archive.stat().st_size > 50_000_000 and {p.name for p in archive.parent.iterdir()} == {"jars", "classes.jsa"}
    begun = "import pyspark, utilityflow.session as s; spark = s.get_session('x'); "
    maps = "print(open(f'/proc/{pyspark.SparkContext._gateway.proc.pid}/maps').read())"
    assert str(archive) in python("-c", begun + maps)
    archive.chmod(0o600)
    archive.write_bytes(b"another Java's")
    assert python("-c", begun + "print(spark.range(1).count())").strip().endswith("1")
