"""Settings: one order of sources, unknown names refused with the nearest, secrets only by reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from utilityflow import settings as module
from utilityflow.bronze.feeds import load_feeds
from utilityflow.errors import UtilityFlowError
from utilityflow.settings import Settings, load_settings, resolve_secret


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conf/ folder of our own, with an environment 'plant'."""
    monkeypatch.setattr(module, "resource", lambda *parts: tmp_path.joinpath(*parts[1:]))
    (tmp_path / "plant.yaml").write_text("environment: plant\nhome: /srv/plant\ntime_zone: Europe/Paris\n"
                                         "spark: {shuffle_partitions: 9}\n")  # fmt: skip
    return tmp_path


def refused(**given: Any) -> UtilityFlowError:
    with pytest.raises(UtilityFlowError) as caught:
        load_settings(given.get("overrides"), given.get("environ", {}))
    assert caught.value.exit_code == 2
    return caught.value


def test_defaults_then_file_then_environment_then_command_line(conf: Path) -> None:
    env = {"UTILITYFLOW_ENV": "plant"}
    assert load_settings(environ=env).home == "/srv/plant"
    assert load_settings(environ=env).spark.shuffle_partitions == 9
    assert load_settings(environ=env).publish_memory == Settings().publish_memory
    env |= {"UTILITYFLOW_HOME": "/env", "UTILITYFLOW_TIME_ZONE": ""}
    found = load_settings({"landing": "/cli", "feeds": None}, env)
    assert (found.home, found.landing, found.feeds, found.time_zone) == ("/env", "/cli", None, "Europe/Paris")
    assert load_settings({"home": "/cli"}, env).home == "/cli"
    assert found.environment == "plant"


def test_the_shipped_environments_load() -> None:
    for name in ("local", "synapse", "databricks"):
        assert load_settings(environ={"UTILITYFLOW_ENV": name}).platform == name
    assert load_settings(environ={}).landing_path == load_settings(environ={}).home_path / "landing"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hom: x\n", "UF-1001: conf/plant.yaml:1: unknown key 'hom' (did you mean 'home'?)"),
        ("home: x\nspark:\n  master: local\n  drver_memory: 1g\n", "conf/plant.yaml:4: unknown key 'drver_memory' under 'spark'"),
        ("thresholds: {snapshot_min_share: half}\n", "UF-1002: conf/plant.yaml:1: 'thresholds.snapshot_min_share'"),
        ("platform: locale\n", "did you mean 'local'?"),
        ("time_zone: Europe/Pariss\n", "UF-1002: time_zone: 'Europe/Pariss' is no IANA time zone"),
        ("- home\n", "UF-1002: conf/plant.yaml:1"),
        ("home: ''\n", "UF-1002: 'home' is empty"),
    ],
)
def test_a_file_that_does_not_fit(conf: Path, text: str, words: str) -> None:
    (conf / "plant.yaml").write_text(text)
    assert words in str(refused(environ={"UTILITYFLOW_ENV": "plant"}))


def test_names_that_nobody_knows() -> None:
    assert "UTILITYFLOW_HOMME (did you mean 'UTILITYFLOW_HOME'?)" in str(refused(environ={"UTILITYFLOW_HOMME": "x"}))
    assert "unknown setting 'hoem'" in str(refused(overrides={"hoem": "x"}))
    assert "no environment 'locl' under conf/ (did you mean 'local'?)" in str(refused(environ={"UTILITYFLOW_ENV": "locl"}))
    assert refused(environ={"UTILITYFLOW_ENV": "../etc/passwd"}).code == "UF-1004"
    assert "did you mean 'local'?" in str(refused(environ={"UTILITYFLOW_PLATFORM": "locla"}))
    assert "no IANA time zone" in str(refused(overrides={"time_zone": "Mars/One"}))
    assert "'home' is empty" in str(refused(overrides={"home": ""}))


def test_a_secret_is_a_reference_and_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_PASSWORD", "hush")
    (tmp_path / "secret").write_text("hush2\n")
    assert resolve_secret("env:PLANT_PASSWORD") == "hush"
    assert resolve_secret(f"file:{tmp_path}/secret") == "hush2"
    for reference in ("hunter2", "env:", "env:NOT_THERE", f"file:{tmp_path}/none", "vault:x"):
        with pytest.raises(UtilityFlowError) as caught:
            resolve_secret(reference)
        assert caught.value.code == "UF-1010"
        assert "hunter2" not in str(caught.value)


def test_variables_that_shipped_feeds_wait_for_are_known() -> None:
    """Or no command would start while they are set."""
    asked = [feed.extract for feed in load_feeds().values() if feed.extract is not None]
    named = {r.removeprefix("env:") for source in asked for r in source.secrets if r.startswith("env:UTILITYFLOW_")}
    assert named == {"UTILITYFLOW_CIS_URL", "UTILITYFLOW_DESK_URL"}
    assert load_settings(environ=dict.fromkeys(named, "x")) == load_settings(environ={})
