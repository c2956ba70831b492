"""Tokens of the small SQL of feed expressions (sqltext.py reads them)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from utilityflow.bronze.functions import AT_MOST, LITERAL, NOT_ZERO, ZONES
from utilityflow.errors import UtilityFlowError
from utilityflow.settings import check_zone

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>r?'(?:[^'\\]|\\.|'')*' | r?"(?:[^"\\]|\\.|"")*")
  | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:[dDfFlLsSyY]|BD|bd)?(?![0-9A-Za-z_]))
  | (?P<quoted>`(?:[^`]|``)+`)
  | (?P<word>[0-9A-Za-z_]+)
  | (?P<mark><=>|<>|!=|<=|>=|==|\|\||::|[-+*/%(),=<>\[\]])
    )""",
    re.VERBOSE | re.DOTALL,
)
MAX_LENGTH = 10_000


@dataclass(frozen=True)
class Token:
    """One token: its kind (string, number, quoted, word, mark, end), its text and where it starts (from 0)."""

    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """Lower-case text of a bare word or mark, empty for a literal or a quoted name."""
        return self.text.lower() if self.kind in ("word", "mark") else ""


def tokens(text: str, where: str) -> list[Token]:
    """Cut an expression into tokens.

    :raises UtilityFlowError: UF-1011 naming place and position for a character that the small SQL does not have.
    """
    if len(text) > MAX_LENGTH:
        raise UtilityFlowError("UF-1011", f"{where}: an expression of more than {MAX_LENGTH} characters")
    if "${" in text:
        raise UtilityFlowError("UF-1011", f"{where}: '${{' (engine settings) may not be used in an expression")
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or text.startswith(("--", "/*"), match.start(match.lastgroup or 0)):
            rest = text[at:].lstrip()
            place = f"at character {len(text) - len(rest) + 1}"
            raise UtilityFlowError("UF-1011", f"{where}: unexpected '{rest[:2].strip()}' {place}")
        kind = str(match.lastgroup)
        found.append(Token(kind, match.group(kind), match.start(kind)))
        at = match.end()
    return [*found, Token("end", "", len(text))]


def literal_positions(found: list[Token], start: int) -> dict[int, str]:
    """Arguments that are one literal each: position -> its text.

    :param start: index of the token after the call's opening parenthesis.
    """
    literals: dict[int, str] = {}
    level, argument = 0, 0
    for at in range(start, len(found) - 1):
        token = found[at]
        if token.kind == "mark" and token.text in "([":
            level += 1
        elif token.kind == "mark" and token.text in ")]":
            level -= 1
            if level < 0:
                break
        elif level == 0 and token.text == "," and token.kind == "mark":
            argument += 1
        elif level == 0 and token.kind in ("string", "number"):
            signed = found[at - 1].text == "-" and found[at - 2].text in ("(", ",")
            alone = found[at - 1].text in ("(", ",") or signed
            if alone and found[at + 1].text in (",", ")"):
                literals[argument] = ("-" if signed else "") + token.text
    return literals


def check_literals(name: str, count: int, literals: dict[int, str], where: str) -> None:
    """Patterns, formats, zones and lengths of a call must be written out.

    :param count: number of arguments that the call has.
    :raises UtilityFlowError: UF-1011; UF-1002 for a zone that does not exist.
    """
    for position in LITERAL.get(name, ()):
        if position < count and position not in literals:
            raise UtilityFlowError("UF-1011", f"{where}: argument {position + 1} of {name}() must be written out")
    if literals.get(NOT_ZERO.get(name, -1), "1").lstrip("-").strip("0") == "":
        raise UtilityFlowError("UF-1011", f"{where}: {name}() counts from 1")
    if name in AT_MOST:
        position, limit = AT_MOST[name]
        length = literals.get(position, "")
        if not length.isdigit() or int(length) > limit:
            raise UtilityFlowError("UF-1011", f"{where}: {name}() may fill up to {limit} characters")
    if name in ZONES and count > ZONES[name]:
        check_zone(literals[ZONES[name]][1:-1], f"{where}: {name}()")
