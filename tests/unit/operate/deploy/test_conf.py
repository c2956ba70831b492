"""The deployment settings: strict, without secrets, and refused where no platform could take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from utilityflow import __version__
from utilityflow.errors import UtilityFlowError
from utilityflow.operate.deploy.conf import read
from utilityflow.operate.deploy.secrets import named_secret, written_out
from utilityflow.resources import resource

SHIPPED = resource("conf", "deploy.yaml").read_text("utf-8")
# texts that look like secrets, put together here so that no scanner takes this file for a leak
TOKEN = "dapi" + "0123456789abcdef" * 2
KEY = "AccountKey" + "=" + "x" * 20
BASE64 = "Ab0/" * 21 + "Ab" + "=="


def test_the_shipped_settings_are_read() -> None:
    conf = read()
    assert conf.wheel.endswith(f"utilityflow-{__version__}-py3-none-any.whl")
    assert conf.zip.endswith(f"/utilityflow-{__version__}.zip")
    assert conf.databricks.dev.home != conf.databricks.prod.home


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  retries: 1", "  retrys: 1", r"UF-1001: .*deploy.yaml:\d+: unknown key 'retrys' under 'task' .*'retries'"),
        ("name: utilityflow\n", "", "UF-1002: .*key 'name' is missing"),
        ("scheduler: databricks", "scheduler: databrick", "UF-1002: .*'databricks'"),
        ("  retries: 1", "  retries: many", "UF-1002: .*'task.retries' must be a whole number"),
        ("  retries: 1", "  retries: 11", "UF-1020: .*'task.retries' must be 0 to 10"),
        ("retry_minutes: 5", "retry_minutes: 2", "UF-1020: .*'task.retry_minutes' must be more than the 120 s"),
        (
            "America/New_York",
            "America/Newyork",
            "UF-1002: .*schedule.time_zone: 'America/Newyork' is no IANA time zone",
        ),
        ("start: 2026-01-01", "start: tomorrow", "UF-1020: .*'schedule.start'"),
        (
            "/Volumes/dev/utilityflow/home",
            "/Volumes/prod/utilityflow/home",
            "UF-1020: .*'databricks.dev.home'.*one writer",
        ),
        ("utilityflow-{version}-py3-none-any.whl", "utilityflow.whl", "UF-1020: .*'databricks.wheel'"),
        ("  timeout_minutes: 720", "  timeout_minutes: 60", "UF-1020: .*'run.timeout_minutes'"),
        (
            "service_principal: CHANGE-ME",
            f"service_principal: {TOKEN}",
            "UF-1020: .*'databricks.service_principal' looks like a Databricks",
        ),
        ("name: utilityflow\n", "name: Utility Flow\n", "UF-1020: .*'name'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SHIPPED
    path = tmp_path / "deploy.yaml"
    path.write_text(SHIPPED.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UtilityFlowError, match=message) as failure:
        read(path)
    assert TOKEN not in str(failure.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UtilityFlowError, match="UF-1003"):
        read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"DefaultEndpointsProtocol=https;AccountName=a;{KEY}",
        "https://a.blob.core.windows.net/c?sv=2024&sig=" + "aB3%2F" * 5,
        "Server=s;Pwd" + "=hunter2;",
        "postgresql://user:" + "hunter2@host/db",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1" + ".eyJzdWIiOiIxMjM0" + ".abc",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "abc8Q~" + "x" * 34,
        BASE64,
        "Authorization: Bearer " + "a1" * 12,
    ],
)
def test_what_looks_like_a_secret_is_seen(text: str) -> None:
    assert written_out(text)


@pytest.mark.parametrize(
    "text",
    [
        "abfss://lake@account.dfs.core.windows.net/utilityflow/home",
        "{{secrets/utilityflow/password}}",
        "${var.service_principal}",
        "@convertFromUtc(trigger().scheduledTime, 'Eastern Standard Time', 'yyyy-MM-dd')",
        "0b2f4d5e-6a7b-4c8d-9e0f-1a2b3c4d5e6f",
        "../dist/utilityflow-0.1.0-py3-none-any.whl",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
)
def test_what_is_no_secret_passes(text: str) -> None:
    assert not written_out(text)


@pytest.mark.parametrize(
    ("key", "value", "seen"),
    [
        ("a.password", "hunter2", True),
        ("a.tokens[0]", "hunter2", True),
        ("conf.fs.azure.account.key.x.dfs.core.windows.net", "hunter2", True),
        ("a.password", "{{secrets/scope/key}}", False),
        ("a.client_secret", "${var.client_secret}", False),
        ("a.password", "", False),
        ("job_cluster_key", "main", False),
        ("task_key", "build_gold", False),
    ],
)
def test_a_text_under_the_name_of_a_secret_is_seen(key: str, value: str, seen: bool) -> None:
    assert bool(named_secret(key, value)) is seen
