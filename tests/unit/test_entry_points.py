"""What can be run: jobs/, the console command and the README's table of jobs agree, and jobs hold no logic."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_LINES = 30


def readme_jobs(text: str) -> list[str]:
    """The first column of the table under the heading "## Jobs", without its head."""
    section = re.search(r"^## Jobs\s*$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\|\s*`([^`]+)`\s*\|", section.group(1), re.MULTILINE) if section else []


def job_faults(source: str) -> list[str]:
    """Why a job script is not thin: it may hold a docstring, imports and one call under the main guard."""
    tree = ast.parse(source)
    faults = []
    if len(source.splitlines()) > MAX_LINES:
        faults.append(f"more than {MAX_LINES} lines")
    if not ast.get_docstring(tree):
        faults.append("no docstring")
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    rest = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    if len(rest) != 1 or not isinstance(rest[0], ast.If) or ast.unparse(rest[0].test) != "__name__ == '__main__'":
        return [*faults, "something else than imports and one main guard"]
    guarded = rest[0].body
    if rest[0].orelse or len(guarded) != 1 or not isinstance(guarded[0], ast.Expr):
        return [*faults, "the main guard holds more than one call"]
    if not isinstance(guarded[0].value, ast.Call):
        faults.append("the main guard does not call anything")
    logic = (ast.Lambda, ast.IfExp, ast.BoolOp, ast.comprehension, ast.NamedExpr)
    if any(isinstance(node, logic) for node in ast.walk(guarded[0])):
        faults.append("the call holds logic")
    return faults


def jobs_of(repository: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted((repository / "jobs").glob("*.py"))}


def test_readme_lists_exactly_the_jobs(repository: Path) -> None:
    listed = readme_jobs((repository / "README.md").read_text("utf-8"))
    jobs = jobs_of(repository)
    assert jobs, "jobs/ is empty"
    assert sorted(listed) == sorted(jobs), 'the table under "## Jobs" of README.md and jobs/ differ'
    assert len(listed) == len(set(listed)), "a job is listed twice"


def test_the_console_command_is_the_jobs_entry(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"utilityflow": "utilityflow.cli:main"}
    module, _, function = project["scripts"]["utilityflow"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    for name, path in jobs_of(repository).items():
        imports = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
        origins = {node.module for node in imports if (node.module or "").startswith("utilityflow")}
        assert origins == {module}, f"jobs/{name}.py is to use the command line's entry and nothing else of utilityflow"


def test_each_job_is_thin(repository: Path) -> None:
    jobs = jobs_of(repository)
    assert jobs, "jobs/ is empty"
    faults = {name: job_faults(path.read_text("utf-8")) for name, path in jobs.items()}
    assert not {name: found for name, found in faults.items() if found}


@pytest.mark.parametrize(
    "body",
    [
        "if __name__ == '__main__':\n    main(['run'])\n    main(['run'])",
        "main(['run'])",
        "def helper():\n    return 1\n\nif __name__ == '__main__':\n    main(['run'])",
        "if __name__ == '__main__':\n    sys.exit(main([a for a in sys.argv]))",
        "if __name__ == '__main__':\n    x = 1",
        "\n" * 30 + "if __name__ == '__main__':\n    main(['run'])",
    ],
)
def test_a_job_with_logic_is_seen(body: str) -> None:
    assert job_faults(f'"""A job."""\nimport sys\nfrom utilityflow.cli import main\n{body}')


def test_a_thin_job_passes() -> None:
    job = "if __name__ == '__main__':\n    sys.exit(main(['run', '--select', 'gold.dim_customer', *sys.argv[1:]]))"
    assert job_faults(f'"""A job."""\nimport sys\nfrom utilityflow.cli import main\n{job}\n') == []


def test_readme_table_is_read() -> None:
    text = "# X\n## Jobs\n| job | what |\n|---|---|\n| `a_b` | x |\n| `c` | y |\n## Next\n| `d` | z |\n"
    assert readme_jobs(text) == ["a_b", "c"]


@pytest.mark.parametrize("arguments", [[], ["no_such_job"], ["../jobs/x"]])
def test_spark_submit_lists_the_jobs(repository: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [repository / "spark-submit.sh", *arguments], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.returncode == 2
    assert not done.stdout
    for name in jobs_of(repository):
        assert f"  {name}\n" in done.stderr
