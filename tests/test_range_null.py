"""Range-null decomposition: it is the formula, its mel is the given one, and no way of decoding changes it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

import tts_infer
from tests.helpers import SPLITS, cut
from training.export import export
from training.generator import Generator
from tts_infer.config import MelConfig
from tts_infer.diagnose.audit import audit, our_paths, shipped_tables
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.dsp.range_null import LEAST_SHARE, RangeNull
from tts_infer.dsp.stft import STFT
from tts_infer.errors import ConfigError
from tts_infer.runtime.placement import make_placement
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders.vocos import BackboneConfig, HeadConfig, VocoderConfig, Vocos, VocosFamily

SMALL = VocoderConfig(
    MelConfig(sample_rate=16000, n_fft=512, hop_length=128, n_mels=40),
    BackboneConfig(40, 32, 64, 2),
    HeadConfig(32, 512, 128, "center"),
    range_null=True,
)
# What one frame computes, in matrices of other sizes: float32 rounding, as in the tests of refinement.
ROUNDING = 1e-5


def made(method: Any) -> Vocoder:
    """Random weights, the same for every method."""
    torch.manual_seed(0)
    model = Vocos(SMALL).eval()
    stages = VocosFamily().stages(model)
    return Vocoder(model, make_placement(device="cpu", istft=method, stages=stages), "small")


@pytest.fixture(scope="module")
def small() -> Vocoder:
    return made("fft")


@pytest.fixture(scope="module")
def mel(small: Vocoder, speech: Tensor) -> Tensor:
    return small.mel(speech[:, :12000])[..., :61].clone()


def test_the_mel_is_the_given_one(speech: Tensor) -> None:
    """Of a network that guessed white noise, before the magnitudes are made positive."""
    module, filters = RangeNull(MelConfig()), torch.from_numpy(mel_filterbank(MelConfig())).float()
    real, imag = STFT(1024, 256, method="fft")(speech)
    mel = (real.square() + imag.square()).sqrt().transpose(1, 2) @ filters
    guess = torch.rand(*mel.shape[:2], 513, generator=torch.Generator().manual_seed(0))
    found = module.projected(guess, mel) @ filters
    assert (found - mel).abs().max() <= 1e-4 * mel.abs().max()  # float32 sums of 513 products
    # what the mel cannot see stays
    null = torch.eye(513) - torch.from_numpy(mel_filterbank(MelConfig()) @ np.linalg.pinv(mel_filterbank(MelConfig())))
    torch.testing.assert_close(module.projected(guess, mel) @ null.float(), guess @ null.float(), atol=1e-4, rtol=0)


def test_the_formula_and_the_phases(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    mel = vocoder.mel(speech)
    with torch.inference_mode():
        real, imag = vocoder.head(vocoder.backbone(mel))
        got = RangeNull(MelConfig())(real, imag, mel)
    filters = mel_filterbank(MelConfig()).T  # A
    inverse = np.linalg.pinv(filters)
    spectrum = real[0].double().numpy() + 1j * imag[0].double().numpy()
    network = np.abs(spectrum)
    s = inverse @ np.exp(mel[0].double().numpy()) + network - inverse @ (filters @ network)
    expected = np.maximum(s, LEAST_SHARE * network) * spectrum / np.abs(spectrum)
    error = np.abs(got[0][0].numpy() + 1j * got[1][0].numpy() - expected).max()
    assert error <= 1e-5 * np.abs(expected).max()


def test_silence_stays_finite() -> None:
    module, nothing = RangeNull(MelConfig()), torch.zeros(1, 513, 4)
    real, imag = module(nothing, nothing, torch.full((1, 100, 4), -16.118))
    assert bool(real.isfinite().all() and imag.isfinite().all())
    assert float(real.abs().max()) < 1e-6


@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("refine", [0, 2])
def test_streams_equal_the_whole(sizes: list[int], refine: int, small: Vocoder, mel: Tensor) -> None:
    whole = small.decode(mel, refine=refine)
    stream = small.stream(refine=refine)
    joined = torch.cat(list(stream.decode(cut(mel, sizes))), dim=1)
    assert joined.shape == whole.shape
    assert (joined - whole).abs().max() <= 2 * ROUNDING * whole.abs().max()


def test_batches_and_pieces_equal_singles(small: Vocoder, mel: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [mel[0, :, :frames] for frames in (2, 3, 40, mel.shape[2])]
    singles = [small.decode(item)[0] for item in items]
    other = made("matmul").decode(items)
    assert [str(made(method).placement["range_null"]) for method in ("fft", "matmul")] == ["cpu/fft", "cpu/matmul"]
    for item, by_products, single in zip(small.decode(items), other, singles, strict=True):
        assert (item - single).abs().max() <= ROUNDING * single.abs().max()
        assert (by_products - single).abs().max() <= ROUNDING * single.abs().max()
    monkeypatch.setattr("tts_infer.runtime.pipeline.Pipeline.max_frames", 16)
    in_pieces = small.decode(mel)[0]
    assert (in_pieces - singles[-1]).abs().max() <= ROUNDING * singles[-1].abs().max()


def test_a_stage_of_its_own_that_every_mps_release_runs(small: Vocoder, speech: Tensor) -> None:
    found = [record["stage"] for record in small.synthesize(audio=speech, refine=1).stages]
    assert found == ["mel", "backbone", "head", "range_null", "refine", "istft"]
    rows = audit(our_paths(small.model), speech[:, 8000:10000], shipped_tables().values())
    ours = [row for row in rows if row.stage == "range_null"]
    assert ours and all(row.clean and row.operators for row in ours)


def test_it_is_exported(small: Vocoder, mel: Tensor, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'tts-infer[onnx]'")
    pytest.importorskip("onnx", reason="pip install 'tts-infer[onnx]'")
    file = tts_infer.export_onnx(small, tmp_path / "small.onnx").path
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (audio,) = session.run(None, {session.get_inputs()[0].name: mel.numpy()})
    expected = small.decode(mel)
    assert (torch.from_numpy(audio) - expected).abs().max() <= 1e-4 * expected.abs().max()  # as in test_export


def test_both_packages_load_the_file(official: ModuleType, tmp_path: Path, speech: Tensor) -> None:
    """Ours with the decomposition, the official package without it; both as trained, and as ours without the key."""
    torch.manual_seed(0)
    config = VocoderConfig(
        backbone=BackboneConfig(dim=16, intermediate_dim=32, num_layers=2),
        head=HeadConfig(16, padding="center"),
        range_null=True,
    )
    generator = Generator(config)
    export(generator, config, tmp_path)
    document = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert document["tts_infer"] == {"range_null": True}
    vocoder = tts_infer.load_vocoder(tmp_path, device="cpu")
    assert vocoder.model.config == config
    mel = vocoder.mel(speech)
    audio, whole = vocoder.decode(mel), vocoder.model(mel)
    with torch.no_grad():
        trained = generator(mel.transpose(1, 2)).audio
    theirs = official.Vocos.from_hparams(str(tmp_path / "config.yaml"))
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        without = theirs.eval()(speech)
    del document["tts_infer"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    plain = tts_infer.load_vocoder(tmp_path, device="cpu").decode(mel)
    for got, expected, tolerance in ((whole, audio, 1e-5), (trained, audio, 1e-2), (plain, without, 1e-5)):
        assert (got - expected).abs().max() <= tolerance * expected.abs().max()  # trained: weights are in float16
    assert (plain - audio).abs().max() > 0.1 * audio.abs().max()


def test_what_cannot_be_decomposed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"range_null needs a mel of magnitudes.*got 2 and 0"):
        RangeNull(MelConfig(power=2))
    with pytest.raises(ConfigError, match=r"feature_extractor.n_fft is 1024 but head.n_fft is 512; they must be equal"):
        VocoderConfig(head=HeadConfig(n_fft=512, padding="center"), range_null=True)
    torch.manual_seed(0)
    export(Generator(SMALL), SMALL, tmp_path)
    document = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for wrong, message in (
        ({"rangenull": True}, "unknown key 'rangenull'"),
        ({"range_null": "yes"}, "range_null is 'yes'"),
    ):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(document | {"tts_infer": wrong}))
        with pytest.raises(ConfigError, match=f"config.yaml: tts_infer: {message}"):
            tts_infer.load_vocoder(tmp_path, device="cpu")
