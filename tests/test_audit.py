"""The audit sees what MPS would see, and our stages pass it in every release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tts_infer
from tts_infer.diagnose.audit import (
    MPSRecorder,
    StageAudit,
    audit,
    installed_table,
    official_path,
    our_paths,
    shipped_tables,
)
from tts_infer.vocoders.checkpoint import load_model, resolve

RELEASES = list(shipped_tables())


@pytest.fixture(scope="module")
def rows() -> list[StageAudit]:
    model = load_model(resolve(tts_infer.DEFAULT_VOCODER))
    paths = {**our_paths(model), "official": official_path(model)}
    audio = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    return audit(paths, audio, [*shipped_tables().values(), installed_table()])


def test_default_path_is_clean_in_every_release(rows: list[StageAudit]) -> None:
    ours = [row for row in rows if row.path.startswith("matmul")]
    assert len({row.path for row in ours}) == 3
    assert {row.release for row in ours} == {*RELEASES, f"{torch.__version__} (installed)"}
    assert [row.stage for row in ours[:4]] == ["mel", "backbone", "head", "refine"]
    assert [row for row in ours if not row.clean] == []
    assert all(row.operators for row in ours)


def test_fft_path_is_complex_and_nothing_else(rows: list[StageAudit]) -> None:
    for row in rows:
        if row.path == "fft":
            assert bool(row.complex) == (row.stage in ("mel", "refine", "istft"))
            assert not (row.missing or row.float64 or row.syncs)


def test_official_head_needs_an_operator_that_2_4_1_lacks(rows: list[StageAudit]) -> None:
    """And it waits for the device at every call: its istft checks the window envelope."""
    heads = {row.release: row for row in rows if (row.path, row.stage) == ("official", "head")}
    assert heads["2.4.1"].missing == ("unfold_backward",)
    assert all(heads[release].missing == () for release in RELEASES[1:])
    assert all(row.complex and row.syncs for row in heads.values())


def test_installed_table_is_the_shipped_one() -> None:
    """Reading the installed native_functions.yaml gives what was read from the wheel of the same release."""
    release = torch.__version__.split("+")[0]
    if release not in RELEASES:
        pytest.skip(f"no shipped table of torch {release}")
    installed, shipped = installed_table().listed, shipped_tables()[release].listed
    # nested tensors never reach MPS; torchgen and the shipped table differ in how they count their operators
    named = {name for name in installed if "_nested_" not in name}
    assert {name: installed[name] for name in named} == {
        name: kind for name, kind in shipped.items() if kind in ("mps", "none") and name in named
    }
    assert len(named) > 1000


@pytest.mark.parametrize(
    ("operator", "kinds"),
    [
        (torch.ops.aten.unfold_backward.default, "none mps mps mps mps mps"),
        (torch.ops.aten.angle.default, "none none mps mps mps mps"),
        (torch.ops.aten.linear.default, "mps mps mps mps mps mps"),
        (torch.ops.aten.convolution.default, "mps mps mps mps mps mps"),
        (torch.ops.aten.matmul.default, "composite composite composite composite composite composite"),
        (torch.ops.aten._fused_rms_norm.default, "absent absent mps mps mps mps"),
    ],
)
def test_tables(operator: Any, kinds: str) -> None:
    assert [table.kind(operator) for table in shipped_tables().values()] == kinds.split()


def record(run: Callable[[Tensor], Any], release: str = "2.6.0") -> MPSRecorder:
    x = torch.rand(4, 6)
    with torch.inference_mode(), MPSRecorder(shipped_tables()[release]) as seen:
        run(x)
    return seen


def test_composites_are_taken_apart_down_to_kernels() -> None:
    seen = record(lambda x: F.layer_norm(F.linear(x, x), (4,)))
    assert dict(seen.operators) == {"linear": 1, "native_layer_norm": 1}  # linear has a kernel of its own on MPS
    assert "mm" in record(lambda x: torch.matmul(x, x.T)).operators


def test_fold_is_missing_until_2_8() -> None:
    def fold(x: Tensor) -> Tensor:
        return F.fold(x[None], (1, 9), (1, 4), stride=1)

    assert dict(record(fold, "2.6.0").missing) == {"col2im": 1}
    assert +record(fold, "2.8.0").missing == {}


WAITS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool((x > 2).any()),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "mask": lambda x: x[x > 0.5],
    "nonzero": lambda x: x.nonzero(),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "unique": lambda x: x.unique(),
}
FREE: dict[str, Callable[[Tensor], Any]] = {
    "slice": lambda x: x[1:, None, ::2],
    "index": lambda x: x[:, torch.tensor([0, 2])],
    "scalar": lambda x: x * 2.0 / 3.0,
    "where": lambda x: torch.where(x > 0.5, x, 0.0),
    "half": lambda x: x.to(torch.bfloat16),
}


@pytest.mark.parametrize("run", WAITS.values(), ids=WAITS)
def test_host_waits_are_seen(run: Callable[[Tensor], Any]) -> None:
    assert record(run).syncs.total() > 0


@pytest.mark.parametrize("run", FREE.values(), ids=FREE)
def test_what_is_no_wait_is_not_reported(run: Callable[[Tensor], Any]) -> None:
    seen = record(run)
    assert (seen.syncs.total(), seen.float64.total(), seen.complex.total()) == (0, 0, 0)
    assert seen.operators.total() > 0


def test_float64_and_complex_are_seen() -> None:
    assert record(lambda x: x.double()).float64.total() > 0
    assert record(lambda x: torch.ones(3, dtype=torch.float64)).float64.total() > 0
    assert record(lambda x: torch.fft.rfft(x)).complex.total() > 0
