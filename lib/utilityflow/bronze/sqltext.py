"""The small SQL of feed expressions: read by an own parser, written again with try semantics.

Why a parser and not a filter: what it does not know cannot pass. It knows scalar Spark SQL (no subqueries, no ``*``, no
lambdas, no comments) and writes every name back in quotes, so that a name can only be a raw column, and every cast,
division, sum and date parser in the form that gives null where the plain one would stop the whole file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from utilityflow.bronze.functions import CLOCKS, FUNCTIONS, REWRITES, TYPE_FUNCTIONS, TYPES, UNITS
from utilityflow.bronze.sqltokens import Token, check_literals, literal_positions, tokens
from utilityflow.errors import UtilityFlowError, nearest

# words that are grammar wherever they stand; a raw column of that name is written in backticks
_KEYWORD_TEXT = (
    "and as between both case cast distinct div else end escape false from ilike in interval is leading like not null"
    " or regexp rlike then trailing true try_cast when"
)
_KEYWORDS = frozenset(_KEYWORD_TEXT.split())
_ARITHMETIC = {"+": "try_add", "-": "try_subtract", "*": "try_multiply", "/": "try_divide"}
_COMPARE = frozenset({"=", "==", "<=>", "<>", "!=", "<", "<=", ">", ">="})
MAX_DEPTH = 60
_BARE = re.compile(r"`[^`]+`\Z")
_NUMBER = re.compile(r"(?:\(- )?[\d.][\w.+-]*\)?\Z")


@dataclass
class Parser:
    """Reads one expression; ``parse()`` gives the rewritten text, ``columns`` the raw columns that it reads."""

    text: str
    where: str
    columns: set[str] = field(default_factory=set)
    position: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        self.tokens = tokens(self.text, self.where)

    # -- small steps -------------------------------------------------------------------------------------------------

    @property
    def now(self) -> Token:
        """The token to be read next."""
        return self.tokens[self.position]

    def ahead(self, count: int = 1) -> Token:
        """A later token; the last one (end) repeats."""
        return self.tokens[min(self.position + count, len(self.tokens) - 1)]

    def take(self, *words: str) -> str:
        """Read the next token if it is one of ``words``; gives it, else an empty text."""
        if self.now.word in words:
            self.position += 1
            return self.tokens[self.position - 1].word
        return ""

    def need(self, word: str) -> None:
        """Read ``word`` or fail."""
        if not self.take(word):
            raise self.error(f"'{word}' expected")

    def error(self, problem: str, *, hint: str | None = None) -> UtilityFlowError:
        """An error at the present token."""
        found = f"'{self.now.text}'" if self.now.kind != "end" else "the end"
        place = f"at {found} (character {self.now.at + 1})"
        return UtilityFlowError("UF-1011", f"{self.where}: {problem}, {place}", hint=hint)

    # -- grammar, loosest binding first ------------------------------------------------------------------------------

    def parse(self) -> str:
        """The whole expression, rewritten.

        :raises UtilityFlowError: UF-1011 with place, character and reason.
        """
        if self.now.kind == "end":
            raise self.error("an expression is empty")
        result = self.expression()
        if self.now.kind != "end":
            raise self.error("the expression should end here")
        return result

    def expression(self) -> str:
        """Boolean or value expression."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH}")
        left = self.conjunction()
        while self.take("or"):
            left = f"({left} OR {self.conjunction()})"
        self.depth -= 1
        return left

    def conjunction(self) -> str:
        """``a AND b``."""
        left = self.negation()
        while self.take("and"):
            left = f"({left} AND {self.negation()})"
        return left

    def negation(self) -> str:
        """``NOT a``."""
        count = 0
        while self.take("not"):
            count += 1
        inner = self.predicate()
        return inner if count % 2 == 0 else f"(NOT {inner})"

    def predicate(self) -> str:
        """Comparisons and IS, IN, BETWEEN, LIKE."""
        left = self.addition()
        while True:
            if self.now.text in _COMPARE and self.now.kind == "mark":
                operator = self.now.text
                self.position += 1
                right = self.addition()
                left = f"({_numeric(left, right)} {operator} {_numeric(right, left)})"
            elif self.now.word == "is":
                left = self.is_test(left)
            elif self.now.word in ("not", "between", "in", "like", "ilike", "rlike", "regexp"):
                left = self.other_test(left)
            else:
                return left

    def is_test(self, left: str) -> str:
        """``IS [NOT] NULL | TRUE | FALSE | DISTINCT FROM x``."""
        self.need("is")
        negated = "NOT " if self.take("not") else ""
        if self.take("distinct"):
            self.need("from")
            return f"({left} IS {negated}DISTINCT FROM {self.addition()})"
        word = self.take("null", "true", "false")
        if not word:
            raise self.error("null, true, false or distinct from expected")
        return f"({left} IS {negated}{word.upper()})"

    def other_test(self, left: str) -> str:
        """``[NOT] BETWEEN | IN | LIKE | ILIKE | RLIKE``."""
        negated = "NOT " if self.take("not") else ""
        if self.take("between"):
            low = self.addition()
            self.need("and")
            high = self.addition()
            return f"({_numeric(left, low, high)} {negated}BETWEEN {low} AND {high})"
        if self.take("in"):
            self.need("(")
            values = self.arguments(least=1)
            return f"({_numeric(left, *values)} {negated}IN ({', '.join(values)}))"
        word = self.take("like", "ilike", "rlike", "regexp")
        if not word:
            raise self.error("between, in or like expected")
        escape = ""
        pattern = self.string_literal("a pattern")
        if self.take("escape"):
            escape = f" ESCAPE {self.string_literal('an escape character')}"
        return f"({left} {negated}{'RLIKE' if word == 'regexp' else word.upper()} {pattern}{escape})"

    def addition(self) -> str:
        """``a + b``, ``a - b``, ``a || b``."""
        left = self.multiplication()
        while sign := self.take("+", "-", "||"):
            right = self.multiplication()
            left = f"({left} || {right})" if sign == "||" else f"{_ARITHMETIC[sign]}({left}, {right})"
        return left

    def multiplication(self) -> str:
        """``a * b``, ``a / b``, ``a % b``, ``a div b``."""
        left = self.unary()
        while sign := self.take("*", "/", "%", "div"):
            right = self.unary()
            left = f"{_ARITHMETIC[sign]}({left}, {right})" if sign in _ARITHMETIC else f"({left} {sign} {right})"
        return left

    def unary(self) -> str:
        """``-a``, ``+a``."""
        signs = ""
        while sign := self.take("-", "+"):
            signs += sign
        inner = self.postfix()
        return f"(- {inner})" if signs.count("-") % 2 else inner

    def postfix(self) -> str:
        """``a::type`` and ``a[0]``."""
        value = self.primary()
        while mark := self.take("::", "["):
            if mark == "::":
                value = f"try_cast({value} AS {self.type_name()})"
            else:
                if self.now.kind != "number":
                    raise self.error("a written-out position expected")
                value = f"get({value}, {self.literal()})"
                self.need("]")
        return value

    def primary(self) -> str:
        """Literals, columns, calls, CASE, CAST, parentheses."""
        token = self.now
        if token.kind in ("string", "number"):
            return self.literal()
        if token.kind == "quoted":
            self.position += 1
            return self.column(token.text[1:-1].replace("``", "`"))
        if self.take("("):
            inner = self.expression()
            self.need(")")
            return f"({inner})"
        if token.kind != "word":
            raise self.error("a value expected")
        if word := self.take("null", "true", "false"):
            return word.upper()
        if self.ahead().text == "(" and token.word not in _KEYWORDS - {"cast", "try_cast", "like", "ilike", "rlike"}:
            return self.call()
        if token.word in ("date", "timestamp") and self.ahead().kind == "string":
            self.position += 1
            return f"{token.word.upper()} {self.literal()}"
        if token.word == "interval":
            return self.interval()
        if token.word == "case":
            return self.case()
        if token.word in _KEYWORDS:
            raise self.error("a value expected", hint="a raw column of that name is written in backticks")
        self.position += 1
        return self.column(token.text)

    # -- leaves ------------------------------------------------------------------------------------------------------

    def column(self, name: str) -> str:
        """A raw column, quoted; its name joins ``columns``."""
        lowered = name.lower()
        if lowered in CLOCKS:
            raise UtilityFlowError("UF-1011", f"{self.where}: '{lowered}' (a clock or the session) may not be used")
        self.columns.add(lowered)
        return "`" + lowered.replace("`", "``") + "`"

    def literal(self) -> str:
        """A string or number as it stands; a doubled quote becomes an escaped one, which both lanes read alike."""
        token = self.now
        if token.kind not in ("string", "number"):
            raise self.error("a literal expected")
        self.position += 1
        if token.kind == "number" or token.text[0] in "rR":
            if token.text[0] in "rR" and token.text[1] * 2 in token.text[2:-1]:
                raise self.error("a raw text may not hold its own quote")
            return token.text
        quote = token.text[0]
        parts = re.findall(r"\\.|" + quote * 2 + r"|[^\\]", token.text[1:-1], flags=re.DOTALL)
        return quote + "".join("\\" + quote if part == quote * 2 else part for part in parts) + quote

    def string_literal(self, what: str) -> str:
        """A written-out text, for what must not come from the data."""
        if self.now.kind != "string":
            raise self.error(f"{what} must be written out as a text")
        return self.literal()

    def type_name(self) -> str:
        """A type that a cast may name, with its digits: ``decimal(18,6)``."""
        name = self.now.text.lower()
        if self.now.kind != "word" or name not in TYPES:
            raise self.error("a type expected", hint=nearest(name, TYPES))
        self.position += 1
        if name not in ("decimal", "dec", "numeric") or not self.take("("):
            return name.upper()
        digits = [self.now.text]
        self.position += 1
        if self.take(","):
            digits.append(self.now.text)
            self.position += 1
        self.need(")")
        if not all(d.isdigit() for d in digits):
            raise self.error("decimal(precision, scale) expected")
        return f"DECIMAL({', '.join(digits)})"

    def interval(self) -> str:
        """``INTERVAL 3 months`` or ``INTERVAL '3' DAY``, written out."""
        self.need("interval")
        sign = "-" if self.take("-") else ""
        amount = self.literal()
        unit = self.now.text.lower()
        if unit not in UNITS:
            raise self.error("a unit of time expected", hint=nearest(unit, UNITS))
        self.position += 1
        return f"INTERVAL {sign}{amount} {unit.upper()}"

    def case(self) -> str:
        """``CASE [x] WHEN a THEN b ... [ELSE c] END``."""
        self.need("case")
        parts = ["CASE"]
        if self.now.word != "when":
            parts.append(self.expression())
        while self.take("when"):
            parts += ["WHEN", self.expression()]
            self.need("then")
            parts += ["THEN", self.expression()]
        if "WHEN" not in parts:
            raise self.error("'when' expected")
        if self.take("else"):
            parts += ["ELSE", self.expression()]
        self.need("end")
        return f"({' '.join(parts)} END)"

    def arguments(self, least: int = 0) -> list[str]:
        """Arguments up to the closing parenthesis, which is read."""
        found: list[str] = []
        while not self.take(")"):
            if found:
                self.need(",")
            if self.now.word in ("distinct", "*"):
                raise self.error("aggregates may not be used")
            found.append(self.expression())
        if len(found) < least:
            raise self.error("a value expected")
        return found

    def call(self) -> str:
        """A function of the allow-list."""
        name, start = self.now.word, self.now
        if name in CLOCKS or (name not in FUNCTIONS | TYPE_FUNCTIONS and name not in ("cast", "try_cast")):
            raise self.error(f"function '{name}' may not be used", hint=nearest(name, FUNCTIONS))
        self.position += 2
        if name in ("cast", "try_cast"):
            value = self.expression()
            self.need("as")
            kind = self.type_name()
            self.need(")")
            return f"try_cast({value} AS {kind})"
        special = self.special(name)
        if special is not None:
            return special
        literals = literal_positions(self.tokens, self.position)
        args = self.arguments()
        if name in TYPE_FUNCTIONS:
            if len(args) != 1:
                raise UtilityFlowError("UF-1011", f"{self.where}: {name}() takes one value (character {start.at + 1})")
            return f"try_cast({args[0]} AS {name.upper()})"
        check_literals(name, len(args), literals, f"{self.where}, character {start.at + 1}")
        rewrite = REWRITES.get(name)
        return rewrite(args) if rewrite else f"{name}({', '.join(args)})"

    def special(self, name: str) -> str | None:
        """Calls with words between their arguments; the opening parenthesis is read. None: an ordinary call."""
        if name == "trim" and (side := self.take("both", "leading", "trailing")):
            chars = self.expression()
            self.need("from")
            value = self.expression()
            self.need(")")
            return f"trim({side.upper()} {chars} FROM {value})"
        if name in ("extract", "timestampdiff"):
            unit = self.now.text.lower()
            if unit not in UNITS:
                raise self.error("a unit of time expected", hint=nearest(unit, UNITS))
            self.position += 1
            if name == "timestampdiff":
                self.need(",")
                return f"timestampdiff({unit.upper()}, {', '.join(self.arguments(least=2))})"
            self.need("from")
            value = self.expression()
            self.need(")")
            return f"extract({unit.upper()} FROM {value})"
        return None


def _numeric(value: str, *others: str) -> str:
    """A bare column that is compared with a written number: the engine would cut '1.5' to the whole number 1 first."""
    if _BARE.match(value) and any(_NUMBER.match(other) for other in others):
        return f"try_cast({value} AS DOUBLE)"
    return value
