"""Where things stand in Cedar text: tokens, policies with their first and last line, the line of a fault.

The engine reports faults without a position. Cedar's lexical structure is small (strings, words, numbers,
signs and ``//`` comments; a ``;`` ends a policy and stands nowhere else), so the position can be found from
outside.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from securechat.authz.problems import MisreadError

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
      | (?P<text>"(?:[^"\\\n]|\\[^\n])*")
      | (?P<word>\??[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>[0-9]+)
      | (?P<sign>::|==|!=|<=|>=|&&|\|\||[@(){}\[\],;.<>=!+\-*/%:?])
      | (?P<unknown>.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
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


def split_policies(file: str, text: str) -> tuple[PolicyText, ...]:
    """Return the policies of one file in order; text behind the last ``;`` counts as a policy of its own.

    Raises MisreadError as ``tokenize`` does.
    """
    policies: list[PolicyText] = []
    run: list[Token] = []
    for token in tokenize(text):
        run.append(token)
        if token.text == ";":
            policies.append(_policy(file, text, run))
            run = []
    if run:
        policies.append(_policy(file, text, run))
    return tuple(policies)


def fault_line(text: str, tokens: Sequence[Token], reason: str, parse: Callable[[str], str | None]) -> int:
    """Return the line of the fault in ``text`` for which ``parse`` (text -> reason, or None) gave ``reason``.

    A grammar fault lies at the token whose addition turns "unexpected end of input" into "unexpected token";
    the shortest such prefix is found by bisection. A fault of meaning names a word, which is looked up among
    the tokens.
    """
    if "unexpected end of input" in reason:
        return tokens[-1].line
    if "unexpected token" in reason:
        at = bisect_left(
            tokens, True, key=lambda token: "unexpected token" in (parse(text[: token.end]) or "")
        )
        return tokens[min(at, len(tokens) - 1)].line
    return named_line(tokens, reason)


def named_line(tokens: Sequence[Token], reason: str) -> int:
    """Return the line of the first thing that ``reason`` quotes and ``tokens`` hold, else the first line.

    Of something declared twice it is the last occurrence.
    """
    twice = "twice" in reason or "duplicate" in reason
    for name in _named(reason):
        lines = [token.line for at, token in enumerate(tokens) if _spells(tokens, at, name)]
        if lines:
            return lines[-1] if twice else lines[0]
    return tokens[0].line


def _policy(file: str, text: str, run: Sequence[Token]) -> PolicyText:
    start, end = run[0].start, run[-1].end
    moved = tuple(Token(token.text, token.line, token.start - start, token.end - start) for token in run)
    return PolicyText(file, text[start:end], moved)


def _named(reason: str) -> list[str]:
    """Return what a message of the engine quotes, then its end, often a bare word (``...: x``)."""
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
