"""The passes of refinement as one call: torch reads them, and they give the bits that Python gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tts_infer.config import MelConfig, SpectralMethod
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.passes import passed, passed_at_once
from tts_infer.dsp.refine import Refinement
from tts_infer.dsp.script import Script
from tts_infer.stages import State

FRAMES, PASSES = 24, 3


def test_torch_reads_all_passes() -> None:
    assert isinstance(passed_at_once.compiled(), torch.jit.ScriptFunction)


@pytest.mark.parametrize("pieces", [[FRAMES], [1] * FRAMES, [2, 0, 9, 13], [FRAMES, 0]], ids=str)
@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("sizes", [(64, 16), (64, 24)], ids=str)
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("method", ["fft", "matmul"])
def test_one_call_is_what_python_computes(
    method: SpectralMethod,
    power: int,
    sizes: tuple[int, int],
    marked: bool,
    pieces: list[int],
) -> None:
    config = MelConfig(n_fft=sizes[0], hop_length=sizes[1], n_mels=8, power=power)  # type: ignore[arg-type]
    refinement = Refinement(config, ISTFT(*sizes, method=method))
    once = refined(refinement, pieces, marked)
    refinement.passed_on_cpu = passed
    assert len(once) == len(pieces)
    assert sum(part.shape[2] for part, _ in once) == FRAMES
    for got, expected in zip(once, refined(refinement, pieces, marked), strict=True):
        assert all(map(torch.equal, got, expected))


def refined(refinement: Refinement, pieces: list[int], marked: bool) -> list[tuple[Tensor, Tensor]]:
    real, imag = torch.randn(2, 2, 33, FRAMES, generator=torch.Generator().manual_seed(0))
    mel, valid, begin, out = torch.zeros(2, 8, FRAMES), torch.ones(2, FRAMES, 1), 0, []
    state: State = {}
    valid[1, 11:] = 0.0
    for i, count in enumerate(pieces):
        part = slice(begin, begin + count)
        given = (real[..., part], imag[..., part]), mel[..., part], state, PASSES
        spectrum, state = refinement.advance(*given, valid[:, part] if marked else None, final=i + 1 == len(pieces))
        out.append(spectrum)
        begin += count
    return out


@pytest.mark.parametrize("method", ["fft", "matmul"])
def test_gradients_go_through(method: SpectralMethod) -> None:
    refinement = Refinement(MelConfig(n_fft=64, hop_length=16, n_mels=8), ISTFT(64, 16, method=method))
    real, imag = torch.randn(2, 2, 33, FRAMES, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mel, found = torch.zeros(2, 8, FRAMES), []
    for refine in (refinement, refinement.whole):
        got = refine((real, imag), mel, PASSES)
        found.append(torch.autograd.grad((got[0].square() + got[1].square()).sum(), real)[0])
    assert (found[0] - found[1]).abs().max() <= 1e-4 * found[1].abs().max()  # rounding


def test_what_torch_cannot_read_runs_as_it_is() -> None:
    made: dict[str, Any] = {}
    exec("def doubled(x):\n    return 2 * x", made)  # it has no source
    with pytest.raises(RuntimeError, match="no source"):
        Script(made["doubled"]).compiled()
    assert Script(made["doubled"])(torch.ones(2)).tolist() == [2, 2]

    def named(x: Tensor) -> str:
        return f"{x.shape}"  # an inner function is indented, and scripts have no such strings

    with pytest.raises(RuntimeError):
        Script(named).compiled()
    assert Script(named)(torch.ones(2)) == "torch.Size([2])"
