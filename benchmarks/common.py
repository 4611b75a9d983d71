"""What every benchmark does: take turns, drop the warm-up, report medians and ratios, name the machine."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

# Threads of the system before spin for a while, waiting for more work. So each turn begins with a rest. After it, a
# processor is slow for some milliseconds, except for those whose threads spun. So the system runs untimed for as long,
# once at least, and then RUNS_A_TURN times timed.
REST_S = 0.01
RUNS_A_TURN = 3
# After competing processes begin or stop, until everybody has noticed.
SETTLE_S = 0.2
# Then each system runs untimed for this long, since ours looks twenty times a second at what others do.
NOTICE_S = 0.12


def measure(
    systems: Mapping[str, Callable[[], object]], budget_s: float = 6.0, least: int = 2, most: int = 20
) -> dict[str, float]:
    """Median milliseconds of each system. They take turns, so that a slow moment of the machine hits all of them."""
    for run in systems.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in systems}
    end = time.perf_counter() + budget_s
    rounds = 0
    while rounds < least or (time.perf_counter() < end and rounds < most):
        for name, run in systems.items():
            time.sleep(REST_S)
            warm = time.perf_counter() + REST_S
            run()
            while time.perf_counter() < warm:
                run()
            for _ in range(RUNS_A_TURN):
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) * 1e3)
        rounds += 1
    return {name: statistics.median(values) for name, values in times.items()}


class Competition:
    """Processes that compete for the cores, pinned nowhere. They are stopped until somebody asks.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        self._signal(signal.SIGSTOP)

    def __enter__(self) -> Competition:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            process.send_signal(number)


def measure_busy(
    systems: Mapping[str, Callable[[], object]], competition: Competition, budget_s: float = 10.0
) -> list[dict[str, Any]]:
    """Rows of milliseconds on a quiet and on a busy machine, which take turns: medians and 95th percentiles."""
    times: dict[str, dict[str, list[float]]] = {name: {"quiet": [], "busy": []} for name in systems}
    end = time.perf_counter() + budget_s
    rounds = 0
    while rounds < 2 or time.perf_counter() < end:
        for state in ("quiet", "busy"):
            with competition.at_work() if state == "busy" else nullcontext():
                time.sleep(SETTLE_S)
                for name, run in systems.items():
                    noticed = time.perf_counter() + NOTICE_S
                    while time.perf_counter() < noticed:
                        run()
                    for _ in range(RUNS_A_TURN):
                        start = time.perf_counter()
                        run()
                        times[name][state].append((time.perf_counter() - start) * 1e3)
        rounds += 1
    return [{"system": name, **_both(found["quiet"], found["busy"])} for name, found in times.items()]


def _both(quiet: Sequence[float], busy: Sequence[float]) -> dict[str, float]:
    medians = statistics.median(quiet), statistics.median(busy)
    tail = sorted(busy)[min(len(busy) - 1, math.ceil(0.95 * len(busy)) - 1)]
    names = ("quiet ms", "busy ms", "busy 95 %", "busy / quiet", "95 % / quiet")
    return dict(zip(names, (*medians, tail, medians[1] / medians[0], tail / medians[0]), strict=True))


def environment(*packages: str) -> dict[str, Any]:
    """Versions, processor and threads. Packages are those beside torch whose versions matter."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"versions": versions, "processor": processor(), "threads": torch.get_num_threads()}


@cache
def processor() -> str:
    """The processor's name as the system tells it (lscpu on Linux, sysctl on macOS), else its architecture."""
    for command, label in (("lscpu", "Model name"), ("sysctl machdep.cpu.brand_string", "machdep.cpu.brand_string")):
        program, *arguments = command.split()
        if shutil.which(program) is not None:
            told = subprocess.run(
                [program, *arguments], capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}
            )
            if found := re.search(rf"^{label}: *(\S.*)$", told.stdout, flags=re.MULTILINE):
                return found[1]
    return platform.machine()


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of equal keys under a title that names the processor. Numbers have three significant digits."""
    print(f"\n{title} ({processor()}, {torch.get_num_threads()} threads)")
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
    """Print the last line: everything as JSON."""
    print()
    print(json.dumps({"benchmark": name, **setting, "results": list(results)}))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "" if value is None else str(value)
