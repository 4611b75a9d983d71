"""The baseline: aligned with what its mel is of, in every convention."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from tts_infer import LogMel, MelConfig, log_mel_error_db
from tts_infer.config import Padding
from tts_infer.diagnose.audit import MPSRecorder, installed_table, shipped_tables
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.stages import relative_error
from tts_infer.vocoders.griffin_lim import GriffinLim


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


def test_no_worse_than_librosa(speech: torch.Tensor) -> None:
    """In log-mel error, from the same mel. `benchmarks/griffin_lim.py` also has the times."""
    librosa = pytest.importorskip("librosa", reason="librosa is not installed: pip install 'tts-infer[evaluate]'")
    config = MelConfig()
    mel = LogMel(config)(speech[:, :36000])
    magnitude = librosa.util.nnls(mel_filterbank(config).T, mel[0].double().exp().numpy())
    theirs = librosa.griffinlim(magnitude, n_iter=32, hop_length=256, n_fft=1024, momentum=0.99, random_state=0)
    errors = [
        log_mel_error_db(mel, LogMel(config)(audio), config)
        for audio in (GriffinLim(config)(mel), torch.from_numpy(theirs.astype(np.float32))[None])
    ]
    assert errors[0] < errors[1] < 3.0


def test_a_batch_is_its_items(speech: torch.Tensor) -> None:
    config = MelConfig()
    mel = LogMel(config)(torch.cat([speech[:, :9000], speech[:, 20000:29000]]))
    one = GriffinLim(config)
    for item, together in zip(mel, one(mel), strict=True):
        assert relative_error(together, one(item[None])[0]) <= 1e-3  # iterations magnify the rounding of float32 sums


def test_an_apple_gpu_has_every_operator_of_every_release() -> None:
    config = MelConfig(16000, n_fft=256, hop_length=64, n_mels=20)
    one, mel = GriffinLim(config, "matmul", passes=3), torch.zeros(2, 20, 30)
    for table in [*shipped_tables().values(), installed_table()]:
        with torch.inference_mode(), MPSRecorder(table) as seen:
            one(mel)
        found = (seen.missing, seen.complex, seen.float64, seen.syncs)
        assert [+counts for counts in found] == [{}, {}, {}, {}], table.release
        assert seen.operators.total() > 100 and not any("angle" in name for name in seen.operators)
