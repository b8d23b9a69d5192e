"""Decisions per second of the shipped policies, on one core: ``./dev run benchmarks/decisions.py [--json]``.

Cached is the second and every later request of a profile; uncached is the first. Loading is everything that a
server does with the tree when it starts, its cases included.
"""

import json
import sys
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from time import perf_counter, perf_counter_ns

from securechat.authz.cases import read_cases
from securechat.authz.decision import DecisionPoint
from securechat.authz.lint import check_tree
from securechat.authz.model import Decision, Request
from securechat.cli.policy_files import DEFAULT_FOLDER, load_tree

CACHED = 300_000  # requests in one run
UNCACHED = 10_000
RUNS = 5  # the best is reported, the others were disturbed


def rate(decide: Callable[[Request], Decision], requests: Sequence[Request], count: int) -> float:
    """Return the best of ``RUNS`` rates of ``count`` decisions over ``requests`` in turn."""
    best = 0.0
    for _ in range(RUNS):
        asked = list(islice(cycle(requests), count))
        start = perf_counter()
        for request in asked:
            decide(request)
        best = max(best, count / (perf_counter() - start))
    return best


def percentile_us(decide: Callable[[Request], Decision], requests: Sequence[Request], share: float) -> float:
    """Return the time in microseconds that ``share`` of ``UNCACHED`` decisions take at most."""
    times: list[int] = []
    for request in islice(cycle(requests), UNCACHED):
        start = perf_counter_ns()
        decide(request)
        times.append(perf_counter_ns() - start)
    return sorted(times)[int(share * len(times))] / 1000


def load_ms() -> float:
    """Return the best time in milliseconds to read, check and test the shipped tree."""
    best = float("inf")
    for _ in range(RUNS):
        start = perf_counter()
        DecisionPoint.from_tree(load_tree(DEFAULT_FOLDER))
        best = min(best, perf_counter() - start)
    return best * 1000


def main(arguments: Sequence[str]) -> int:
    """Print the figures, as one JSON object with ``--json``."""
    tree = load_tree(DEFAULT_FOLDER)
    checked = check_tree(tree)
    cases, _ = read_cases(tree, checked.roles)
    requests = [case.request for case in cases]
    cold = DecisionPoint(checked, cached=0).decide
    figures = {
        "policies": len(checked.policies),
        "load_ms": round(load_ms(), 1),
        "cached_per_second": round(rate(DecisionPoint(checked).decide, requests, CACHED)),
        "uncached_per_second": round(rate(cold, requests, UNCACHED)),
        "uncached_p50_us": round(percentile_us(cold, requests, 0.5), 1),
        "uncached_p99_us": round(percentile_us(cold, requests, 0.99), 1),
    }
    if "--json" in arguments:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
