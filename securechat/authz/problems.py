"""What is wrong with a policy tree: problems as values, and the one error that carries them."""

from collections.abc import Sequence
from dataclasses import dataclass

from securechat.errors import PolicyError


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault in one file of the tree. ``line`` counts from 1."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class InvalidPolicyTreeError(PolicyError):
    """A policy tree that must not come into force; ``problems`` holds every fault that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class MisreadError(PolicyError):
    """One place in one document that does not read; whoever knows the file's name makes a Problem of it."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason

    def within(self, file: str) -> Problem:
        """Return this fault as a problem of ``file``."""
        return Problem(file, self.line, self.reason)
