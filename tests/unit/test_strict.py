"""Strict YAML: types, unknown keys, places, and no surprises of YAML 1.1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from utilityflow.errors import UtilityFlowError
from utilityflow.strict import build, load


@dataclass(frozen=True)
class Inner:
    size: int
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    values: tuple[str, ...] = ()
    inner: Inner | None = None
    share: float = 0.0
    on: bool = False
    more: dict[str, str] = field(default_factory=dict)


def made(text: str) -> Outer:
    return build(Outer, load(text, "x.yaml"))


def refused(text: str) -> str:
    with pytest.raises(UtilityFlowError) as caught:
        made(text)
    return str(caught.value)


def test_values_take_the_types_that_are_declared() -> None:
    found = made("name: n\nvalues: [a, '']\ninner: {size: 2, kind: b}\nshare: 1\non: true\nmore: {k: v}\n")
    assert found == Outer("n", ("a", ""), Inner(2, "b"), 1.0, True, {"k": "v"})


@pytest.mark.parametrize(
    "written", ["007", "1.10", "12:30:00", "1_000", "0x1F", "2020-01-01", "yes", "on", "off", "1e3", "0o7", "+5"]
)
def test_a_text_stays_as_it_was_written(written: str) -> None:
    assert made(f"name: {written}\nvalues: [{written}]\n") == Outer(written, (written,))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: n\nvalus: []\n", "UF-1001: x.yaml:2: unknown key 'valus' (did you mean 'values'?)"),
        ("name: n\ninner:\n  sise: 2\n", "UF-1001: x.yaml:3: unknown key 'sise' under 'inner' (did you mean 'size'?)"),
        ("name: n\nvalus:\n  - a\n", "x.yaml:2: unknown key"),
        ("values: []\n", "UF-1002: x.yaml:1: key 'name' is missing"),
        ("name: n\ninner: {size: two}\n", "UF-1002: x.yaml:2: 'inner.size' must be a whole number, not 'two'"),
        ("name: n\ninner: {size: true}\n", "a whole number"),
        ("name: n\ninner: {size: 1, kind: c}\n", "'inner.kind' must be one of a, b"),
        ("name: n\nvalues: a\n", "'values' must be"),
        ("name: n\nvalues: [a, [b]]\n", "'values[1]' must be a text"),
        ("name: n\nvalues: [a, null]\n", "'values[1]' must be a text, not None"),
        ("name: true\n", "'name' must be a text, not True"),
        ("name: n\non: yes\n", "'on' must be true or false, not 'yes'"),
        ("name: n\nmore: [a]\n", "'more' must be"),
        ("name: n\nname: m\n", "UF-1001: x.yaml:2: key 'name' stands twice"),
        ("name: [n\n", "UF-1003: x.yaml:2: not valid YAML"),
        ("name: !!python/object:os.system x\n", "UF-1003: x.yaml:1"),
        ("name: !!float x\n", "UF-1003: x.yaml:1: 'name' is not what its tag says"),
        ("a: b\nname: \x01\n", "UF-1003: x.yaml:2: holds a character"),
        ("", "UF-1003: x.yaml: the file is empty"),
        ("- a\n", "UF-1002: x.yaml:1: 'the file' must be a mapping"),
        ("[" * 5000, "UF-1003: x.yaml"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(text: str, words: str) -> None:
    assert words in refused(text)
