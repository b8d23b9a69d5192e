"""Where things stand in Cedar text: tokens, policies with their first and last line, the line of a fault.

The engine reports faults without a position. Cedar's lexical structure is small (strings, words, numbers,
signs and ``//`` comments; a ``;`` ends a policy and stands nowhere else), so the position can be found from
outside.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from securechat.authz.problems import MisreadError

Reasons = Callable[
    [str], Sequence[str]
]  # text -> what the engine finds wrong with it, nothing if it is right

MAX_POLICY_TOKENS: Final = 1_000  # the engine's parser recurses and would end the process at about 5,000
MAX_SCHEMA_TOKENS: Final = 5_000  # the shipped schema has about 400; bounds the search for a fault's line
MAX_NESTING: Final = 32  # brackets within brackets, for the same reason

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
      | (?P<text>"(?:[^"\\\n]|\\[^\n])*")
      | (?P<word>\??[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>[0-9]+)
      | (?P<sign>::|==|!=|<=|>=|&&|\|\||[@(){}\[\],;.<>=!+\-*/%:?])
      | (?P<unknown>.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_OPENING: Final = frozenset("([{")
_CLOSING: Final = frozenset(")]}")
_QUOTED: Final = re.compile(r"`([^`]+)`|'([^']+)'")


@dataclass(frozen=True, slots=True)
class Token:
    """One lexical unit; ``start`` and ``end`` are character offsets, ``line`` counts from 1."""

    text: str
    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PolicyText:
    """The source of one policy: from its first annotation to its ``;``."""

    file: str
    text: str
    tokens: tuple[Token, ...]  # at least one; offsets count from the start of ``text``, lines from the file's

    @property
    def first(self) -> int:
        """The line on which the policy begins."""
        return self.tokens[0].line

    @property
    def last(self) -> int:
        """The line on which the policy ends."""
        return self.tokens[-1].line


def tokenize(text: str) -> tuple[Token, ...]:
    """Return the tokens of Cedar policy or schema text, without comments.

    Raises MisreadError for an unknown character and for a string that does not end on the line it began on.
    """
    tokens: list[Token] = []
    line = 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "unknown":
            unclosed = match.group() == '"'
            raise MisreadError(
                line, "the text is not closed on its line" if unclosed else "unknown character"
            )
        if match.lastgroup != "skip":
            tokens.append(Token(match.group(), line, match.start(), match.end()))
        line += match.group().count("\n")
    return tuple(tokens)


def check_nesting(tokens: Sequence[Token], pairs: str = "()[]{}") -> None:
    """Raise MisreadError where brackets of ``pairs`` lie more than ``MAX_NESTING`` deep."""
    opening, closing = pairs[::2], pairs[1::2]
    depth = 0
    for token in tokens:
        depth = max(0, depth + (token.text in opening) - (token.text in closing))
        if depth > MAX_NESTING:
            raise MisreadError(token.line, f"brackets are nested deeper than {MAX_NESTING}")


def split_policies(file: str, text: str) -> tuple[PolicyText, ...]:
    """Return the policies of one file in order; text behind the last ``;`` is one more.

    Raises MisreadError as ``tokenize`` does, and for a policy past the limits of the engine's parser.
    """
    policies: list[PolicyText] = []
    run: list[Token] = []
    tokens = tokenize(text)
    check_nesting(tokens)
    for token in tokens:
        run.append(token)
        if len(run) > MAX_POLICY_TOKENS:
            raise MisreadError(run[0].line, f"a policy has at most {MAX_POLICY_TOKENS} words and signs")
        if token.text == ";":
            policies.append(_policy(file, text, run))
            run = []
    if run:
        policies.append(_policy(file, text, run))
    return tuple(policies)


def fault_line(text: str, tokens: Sequence[Token], reason: str, reasons: Reasons) -> int:
    """Return the line of the fault ``reason``, which is one of ``reasons(text)``.

    A grammar fault lies at the end of the shortest beginning that has it. A fault of meaning mostly quotes
    what is wrong, which is looked up among the tokens; else it lies in the part of a condition that has it
    alone.
    """
    if "unexpected end of input" in reason:
        return tokens[-1].line
    if "unexpected token" in reason:
        return _unexpected_line(text, tokens, reason, reasons)
    if "twice" in reason:
        return named_line(_repeating_statement(text, tokens, reason, reasons), reason) or tokens[0].line
    return named_line(tokens, reason) or _operand_line(text, tokens, reason, reasons) or tokens[0].line


def named_line(tokens: Sequence[Token], reason: str) -> int | None:
    """Return the line of the first thing that ``reason`` quotes and ``tokens`` hold, or None.

    Of a duplicate it is the last occurrence.
    """
    for name in _named(reason):
        lines = [token.line for at, token in enumerate(tokens) if _spells(tokens, at, name)]
        if lines:
            return lines[-1] if "duplicate" in reason else lines[0]
    return None


def _unexpected_line(text: str, tokens: Sequence[Token], reason: str, reasons: Reasons) -> int:
    """Return the line of the token that the parser did not expect.

    The parser skips from there to the next ``;`` and reports only then, so one is put behind each beginning;
    a beginning that is right so far has another fault then: the ``;``.
    """
    end = "" if "`;`" in reason else ";"
    faulty = (token for token in tokens if reason in reasons(text[: token.end] + end))
    return next(faulty, tokens[-1]).line


def _repeating_statement(
    text: str, tokens: Sequence[Token], reason: str, reasons: Reasons
) -> Sequence[Token]:
    """Return the head (up to a brace or ``=``) of the first declaration with which ``text`` has the fault."""
    start = 0
    for at, token in enumerate(tokens):
        if token.text == ";":
            if reason in reasons(text[: token.end]):
                break
            start = at + 1
    rest = tokens[start:]
    head = next((at for at, token in enumerate(rest) if token.text in {"{", "="}), len(rest))
    return rest[:head]


def _operand_line(text: str, tokens: Sequence[Token], reason: str, reasons: Reasons) -> int | None:
    """Return the first line of the part between ``&&`` and ``||`` that alone has the fault, or None."""
    clause = next((token for token in tokens if token.text in {"when", "unless"}), None)
    if clause is None:
        return None
    scope = text[: clause.start]
    for part in _operands(tokens):
        if reason in reasons(f"{scope} when {{ {text[part[0].start : part[-1].end]} }};"):
            return part[0].line
    return None


def _operands(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """Yield the non-empty runs of tokens directly within the braces of conditions, cut at && and ||."""
    depth = 0
    run: list[Token] = []
    for before, token in pairwise(tokens):
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        begins = depth == 1 and token.text == "{" and before.text in {"when", "unless"}
        if begins or depth == 0 or (depth == 1 and token.text in {"&&", "||"}):
            if run:
                yield run
            run = []
        else:
            run.append(token)


def _policy(file: str, text: str, run: Sequence[Token]) -> PolicyText:
    start, end = run[0].start, run[-1].end
    moved = tuple(Token(token.text, token.line, token.start - start, token.end - start) for token in run)
    return PolicyText(file, text[start:end], moved)


def _named(reason: str) -> list[str]:
    """Return what a message of the engine quotes, then its end, often a bare word (``..: x``)."""
    quoted = [first or second for first, second in _QUOTED.findall(reason)]
    return [*quoted, reason.rsplit(":", 1)[-1].strip()]


def _spells(tokens: Sequence[Token], at: int, name: str) -> bool:
    """Tell whether ``name`` begins at ``at``: a word, a string's inside, or several tokens (``@id``)."""
    if tokens[at].text.strip('"') == name:
        return True
    try:
        wanted = [token.text for token in tokenize(name)]
    except MisreadError:
        return False
    return bool(wanted) and [token.text for token in tokens[at : at + len(wanted)]] == wanted
