"""Draws without a generator: every random thing is bits of a hash of (seed, stream, ids), written as Spark SQL text.

So a value depends on what it belongs to and on nothing else: not on partitions, machine, order or which month is made.
Only whole-number arithmetic and ``+ - *`` on doubles are used (exact by IEEE 754); no ``exp`` or ``sin``, whose last
bit may differ between machines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction


def number(seed: int, stream: str, *ids: int) -> int:
    """A 62-bit whole number >= 0 for the driver's own draws (weather, affected days): the twin of :func:`draw`."""
    text = "/".join([str(seed), stream, *map(str, ids)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 2


def draw(seed: int, stream: str, *ids: str) -> str:
    """SQL of a 64-bit hash (bigint) of a stream and some id expressions; each id counts as bigint."""
    parts = ", ".join(f"cast({i} as bigint)" for i in ids)
    return f"xxhash64({number(seed, stream)}L, {parts})"


def bits(hashed: str, low: int, width: int) -> str:
    """SQL of ``width`` bits of a hash from bit ``low``: a bigint from 0 to 2**width - 1."""
    if low < 0 or width < 1 or low + width > 64:
        raise ValueError(f"no bits {low}..{low + width} in a 64-bit hash")
    return f"(shiftrightunsigned({hashed}, {low}) & {(1 << width) - 1}L)"


def share(hashed: str, low: int, width: int) -> str:
    """SQL of a double in [0, 1) made of ``width`` bits; exact, because the divisor is a power of two."""
    return f"(cast({bits(hashed, low, width)} as double) * {2.0**-width!r}D)"


def text(value: str) -> str:
    """SQL literal of a text."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def int_array(values: Sequence[int]) -> str:
    """SQL of a literal ``array<int>``; built from one text, so that thousands of values cost one expression."""
    return f"cast(split('{','.join(map(str, values))}', ',') as array<int>)"


def text_array(values: Sequence[str]) -> str:
    """SQL of a literal ``array<string>``; no value may hold the separator ``|``."""
    if any("|" in v for v in values):
        raise ValueError("a text of a pool holds '|'")
    return f"split({text('|'.join(values))}, '[|]')"


def at(array: str, index: str) -> str:
    """SQL of one element of an array, counted from 0; an index outside is an error under ANSI mode."""
    return f"{array}[cast({index} as int)]"


def slots(weights: Mapping[str, float], count: int) -> list[str]:
    """Spread ``count`` slots over names by weight (largest remainder), so that bits pick one by weight."""
    total = sum(Fraction(w) for w in weights.values())
    exact = {name: Fraction(w) * count / total for name, w in weights.items()}
    given = {name: int(quota) for name, quota in exact.items()}
    rest = sorted(exact, key=lambda name: (given[name] - exact[name], name))
    for name in rest[: count - sum(given.values())]:
        given[name] += 1
    return [name for name in weights for _ in range(given[name])]
