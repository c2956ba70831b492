"""The accessor finds schemas/, conf/ and jobs/ in an editable install, from an installed wheel and inside the zip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from utilityflow import resources

# Runs in a fresh interpreter: where the package came from, whether Path(__file__) exists, and every file that is found.
PROBE = """
import sys
from pathlib import Path
import utilityflow
from utilityflow.resources import resource

def walk(at, name):
    for child in sorted(at.iterdir(), key=lambda c: c.name):
        if child.is_dir() and child.name != "__pycache__":  # pip compiles what it installs, jobs/ too
            walk(child, name + child.name + "/")
        elif child.is_file():
            print(name + child.name, len(child.read_bytes()))

print(utilityflow.__file__)
print(Path(utilityflow.__file__).exists(), resource("conf", "no_such_file.yaml").is_file())
walk(resource("schemas"), "schemas/")
walk(resource("conf"), "conf/")
walk(resource("jobs"), "jobs/")
"""


def probe(folder: Path, path: Path | None) -> list[str]:
    """Lines of PROBE, run in ``folder`` with ``path`` in front on sys.path (None: as the environment has it)."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROBE], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def expected(repository: Path) -> list[str]:
    """What stands in the checkout, in the order of the probe."""

    def walk(folder: Path) -> list[str]:
        lines = []
        for child in sorted(folder.iterdir(), key=lambda c: c.name):
            if child.is_dir() and child.name != "__pycache__":
                lines += walk(child)
            elif child.is_file():
                lines.append(f"{child.relative_to(repository).as_posix()} {child.stat().st_size}")
        return lines

    found = walk(repository / "schemas") + walk(repository / "conf") + walk(repository / "jobs")
    assert any(line.startswith("conf/local.yaml") for line in found)
    return found


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources so that nothing is written into the checkout."""
    source = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("lib", "schemas", "conf", "jobs"):
        shutil.copytree(repository / name, source / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source / name)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (built,) = (source / "dist").glob("*.whl")
    return built


def test_editable_install(repository: Path, tmp_path: Path, expected: list[str]) -> None:
    file, exists, *found = probe(tmp_path, None)
    assert Path(file) == repository / "lib" / "utilityflow" / "__init__.py"
    assert exists == "True False"
    assert found == expected


def test_installed_wheel(wheel: Path, tmp_path: Path, expected: list[str]) -> None:
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    file, exists, *found = probe(tmp_path, target)
    assert Path(file) == target / "utilityflow" / "__init__.py"
    assert exists == "True False"
    assert found == expected


def test_inside_the_zip(wheel: Path, tmp_path: Path, expected: list[str]) -> None:
    twin = tmp_path / "utilityflow.zip"
    shutil.copy(wheel, twin)
    file, exists, *found = probe(tmp_path, twin)
    assert file.startswith(f"{twin}{os.sep}")
    assert exists == "False False", "the module was not read from inside the zip"
    assert found == expected


@pytest.mark.parametrize(
    "parts",
    [(), ("lib",), ("conf", ".."), ("conf", "../pyproject.toml"), ("schemas", "a/b"), ("conf", ""), ("..", "conf")],
)
def test_other_places_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="resources lie under|plain name"):
        resources.resource(*parts)


def test_a_broken_installation_says_so(tmp_path: Path, repository: Path) -> None:
    shutil.copytree(
        repository / "lib" / "utilityflow", tmp_path / "utilityflow", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = "from utilityflow.resources import resource; resource('conf')"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "FileNotFoundError: the folder conf/ is not part of this installation" in done.stderr
