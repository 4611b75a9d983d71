"""What every benchmark does: take turns, drop the warm-up, report medians and ratios, say what ran where."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

# Before a contestant's turn the others' threads, which spin for a while in case of more work, are given time to rest;
# then it runs once untimed, and so many times timed.
REST_S = 0.01
RUNS_A_TURN = 3


def measure(
    contestants: Mapping[str, Callable[[], object]], budget_s: float = 6.0, least: int = 2, most: int = 20
) -> dict[str, float]:
    """Median milliseconds of each contestant, all taking turns, so that drift of the machine hits them alike."""
    for run in contestants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + budget_s
    rounds = 0
    while rounds < least or (time.perf_counter() < end and rounds < most):
        for name, run in contestants.items():
            time.sleep(REST_S)
            run()
            for _ in range(RUNS_A_TURN):
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) * 1e3)
        rounds += 1
    return {name: statistics.median(values) for name, values in times.items()}


def environment(*packages: str) -> dict[str, Any]:
    """Versions, processor and threads."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"versions": versions, "machine": platform.machine(), "threads": torch.get_num_threads()}


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of equal keys, numbers with three digits that count."""
    print(f"\n{title}")
    if not rows:
        return
    cells = [list(rows[0])] + [[_text(value) for value in row.values()] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        print(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )
    sys.stdout.flush()


def finish(name: str, setting: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    """The last line: everything as JSON."""
    print()
    print(json.dumps({"benchmark": name, **setting, "results": list(results)}))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "" if value is None else str(value)
