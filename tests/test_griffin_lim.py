"""The baseline: aligned with what its mel is of, in every convention."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch

from tts_infer import LogMel, MelConfig, MissingPackageError
from tts_infer.config import Padding
from tts_infer.evaluation.griffin_lim import GriffinLim


@pytest.mark.parametrize(("padding", "power"), [("center", 1), ("same", 1), ("center", 2)])
def test_a_click_stays_where_it_was(padding: Padding, power: int) -> None:
    config = MelConfig(16000, n_fft=512, hop_length=128, n_mels=80, padding=padding, power=power)  # type: ignore[arg-type]
    audio = torch.zeros(1, 12800)
    audio[0, 6400:6500] = 0.5 * torch.sin(torch.arange(100.0) * 0.8)
    mel = LogMel(config)(audio)
    copy = GriffinLim(config)(mel)
    assert copy.shape == (1, 12800) and copy.dtype == torch.float32
    middle = float((copy[0].square() * torch.arange(12800)).sum() / copy.square().sum())
    assert middle == pytest.approx(6450, abs=40)  # a shift of half a hop would be 64
    again = LogMel(config)(copy)[0, :, 48:53]
    assert float((again.exp() - mel[0, :, 48:53].exp()).abs().mean() / mel[0, :, 48:53].exp().mean()) < 0.35


def test_the_same_every_time() -> None:
    config = MelConfig(16000, n_fft=256, hop_length=64, n_mels=20)
    mel = LogMel(config)(torch.randn(1, 2000, generator=torch.Generator().manual_seed(0)))
    np.random.seed(1)
    first = GriffinLim(config)(mel)
    np.random.seed(2)
    assert torch.equal(first, GriffinLim(config)(mel))


@pytest.mark.parametrize(("padding", "samples"), [("center", 0), ("same", 64)])
def test_one_frame_is_silent(padding: Padding, samples: int) -> None:
    config = MelConfig(16000, n_fft=256, hop_length=64, n_mels=20, padding=padding)
    warnings.simplefilter("error")
    assert GriffinLim(config)(torch.zeros(1, 20, 1)).shape == (1, samples)


def test_without_librosa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(MissingPackageError, match="needs librosa"):
        GriffinLim(MelConfig())
