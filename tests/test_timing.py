"""The stage report lists what ran, in order, and costs nothing when nobody asks."""

from __future__ import annotations

import torch

from tests.emulated_device import emulated
from tts_infer.devices import CPU
from tts_infer.runtime.timing import StageTimer, add_up


def test_stages_and_transfers_in_order() -> None:
    with emulated() as device:
        there = torch.device("emu", 0)
        timer = StageTimer(enabled=True)
        x = torch.ones(2, 3)
        (same,) = timer.move((x,), CPU)
        assert same is x  # already there: no transfer
        with timer.stage("head", CPU, "torch"):
            y = x + 1
        real, imag = timer.move((y, y), there)
        with timer.stage("istft", there, "matmul"):
            real + imag
        assert [(r["stage"], r["device"], r["method"], r["bytes"]) for r in timer.records] == [
            ("head", "cpu", "torch", 0),
            ("transfer", "cpu->emu:0", "copy", 48),
            ("istft", "emu:0", "matmul", 0),
        ]
        assert device.transfers == [24, 24]


def test_reports_add_up_whatever_moved() -> None:
    """The second call moves one tensor more, and another one twice."""
    head, up, down = (
        {"stage": stage, "device": device, "engine": "torch", "method": "torch", "ms": 1.0, "bytes": size}
        for stage, device, size in (("head", "cpu", 0), ("transfer", "cpu->emu:0", 8), ("transfer", "emu:0->cpu", 4))
    )
    total = add_up([[head, up], [down, head, up, up]])  # type: ignore[list-item]
    assert [(row["device"], row["ms"], row["bytes"]) for row in total] == [
        ("cpu", 2.0, 0),
        ("cpu->emu:0", 2.0, 16),
        ("emu:0->cpu", 1.0, 4),
        ("cpu->emu:0", 1.0, 8),
    ]
    assert head["ms"] == 1.0


def test_a_stage_is_timed_to_the_end_of_its_device_work() -> None:
    """Synchronising takes 20 ms here at each edge; only the one after the work belongs to the stage."""
    with emulated(linger_s=0.02):
        timer = StageTimer(enabled=True)
        with timer.stage("head", torch.device("emu", 0), "torch"):
            pass
    (record,) = timer.records
    assert record["ms"] >= 20


def test_nothing_is_kept_or_waited_for_unasked() -> None:
    with emulated(linger_s=0.02) as device:
        timer = StageTimer(enabled=False)
        with timer.stage("head", torch.device("emu", 0), "torch"):
            pass
        timer.move((torch.ones(2),), torch.device("emu", 0))
        assert timer.records == []
        assert device.synchronised == 0


def test_a_failing_stage_leaves_no_record_and_no_lock() -> None:
    timer = StageTimer(enabled=True)
    try:
        with timer.stage("head", torch.device("emu", 0), "torch"):
            raise ValueError
    except ValueError:
        pass
    assert timer.records == []
    with emulated(), timer.stage("head", torch.device("emu", 0), "torch"):
        pass
    assert len(timer.records) == 1
