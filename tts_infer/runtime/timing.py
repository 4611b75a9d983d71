"""The stage report: the time of each stage and of each transfer between devices, in order of execution."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypedDict

import torch
from torch import Tensor

from tts_infer.devices import device_lock, synchronise

TRANSFER = "transfer"


class StageRecord(TypedDict):
    """One row of the stage report.

    `method` is the algorithm of a spectral stage; for other stages it is the engine. `bytes` is the size of the tensors
    that a transfer moved, and 0 for stages. The device of a transfer is "from->to".
    """

    stage: str
    device: str
    engine: str
    method: str
    ms: float
    bytes: int


def add_up(reports: Sequence[list[StageRecord]]) -> list[StageRecord]:
    """Add up reports of the same stages, row by row. One may have transfers that others lack."""
    total: dict[tuple[object, ...], StageRecord] = {}
    for report in reports:
        times = Counter[tuple[str, ...]]()  # a report may have a transfer twice
        for record in report:
            row = record["stage"], record["device"], record["engine"], record["method"]
            sum_ = total.setdefault((*row, times[row]), {**record, "ms": 0.0, "bytes": 0})
            sum_["ms"] += record["ms"]
            sum_["bytes"] += record["bytes"]
            times[row] += 1
    return list(total.values())


class StageTimer:
    """Runs stages under the lock of their device; with `enabled`, also times them.

    Accelerators return before their work is done, so a timed stage waits for its device before and after. Without
    `enabled`, nothing waits and no clock is read.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.records: list[StageRecord] = []

    def stage(self, name: str, device: torch.device, engine: str, method: str = "") -> AbstractContextManager[None]:
        """Run the body as stage `name` on `device`."""
        return self._run(name, str(device), (engine, method or engine), (device,), 0)

    def move(self, tensors: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
        """Copy tensors of one device to `device`, recorded as one transfer. Tensors that are there already stay."""
        source = tensors[0].device
        if source == device:
            return tensors
        moved_bytes = sum(t.numel() * t.element_size() for t in tensors)
        with self._run(TRANSFER, f"{source}->{device}", ("torch", "copy"), (source, device), moved_bytes):
            return tuple(t.to(device) for t in tensors)

    def _run(
        self, name: str, where: str, how: tuple[str, str], devices: tuple[torch.device, ...], moved_bytes: int
    ) -> AbstractContextManager[None]:
        if not self.enabled:
            return device_lock(*devices)
        engine, method = how
        record: StageRecord = {
            "stage": name,
            "device": where,
            "engine": engine,
            "method": method,
            "ms": 0.0,
            "bytes": moved_bytes,
        }
        return self._timed(record, devices)

    @contextmanager
    def _timed(self, record: StageRecord, devices: tuple[torch.device, ...]) -> Iterator[None]:
        with device_lock(*devices):
            for device in devices:
                synchronise(device)
            start = time.perf_counter()
            yield
            for device in devices:
                synchronise(device)
            self.records.append({**record, "ms": (time.perf_counter() - start) * 1e3})
