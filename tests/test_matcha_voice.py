"""The front end `matcha-tts`, in the real package with random weights of the published size: `make integrations`."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import tts_infer
from tests import gan
from tests.test_integrations_packages import need
from tts_infer.frontends import matcha
from tts_infer.stages import relative_error

# HiFi-GAN's convention, in a small network.
HIFIGAN = gan.SIZES | {
    "upsample_rates": [8, 8, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4], "num_mels": 80, "n_fft": 1024,
    "hop_size": 256, "win_size": 1024, "sampling_rate": 22050, "fmax": 8000,
}  # fmt: skip
TEXT = "Matcha speaks. And it goes on, Mr. Smith!"


def test_without_the_package_the_line_says_what_to_install() -> None:
    if find_spec("matcha") is not None:
        pytest.skip("matcha-tts is installed")
    with pytest.raises(tts_infer.MissingPackageError, match="pip install matcha-tts"):
        tts_infer.load_speaker("ljspeech")


@pytest.fixture(scope="module")
def package() -> Any:
    return need("matcha-tts", "matcha.models.matcha_tts", "0.0.7.2")


@pytest.fixture(scope="module")
def model(package: Any) -> Any:
    torch.manual_seed(0)
    model = matcha.network(package, 178).eval()
    model.encoder.proj_w.proj.bias.data.fill_(1.0)  # else a phoneme lasts one frame
    model.mel_mean.fill_(-5.5)
    model.mel_std.fill_(2.1)
    return model


@pytest.fixture
def home(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The voice as Lightning saves it: with settings and a scheduler, whose classes are never looked up."""
    omegaconf = pytest.importorskip("omegaconf")
    settings = omegaconf.OmegaConf.create({"n_vocab": 178, "encoder": {"n_feats": 80}})
    settings = {"decoder": settings, "optimizer": partial(torch.optim.Adam, lr=1e-4)}
    monkeypatch.setenv("MATCHA_HOME", str(tmp_path))
    folder = tmp_path / "matcha_tts"
    folder.mkdir()
    saved = {"state_dict": model.state_dict(), "hyper_parameters": settings, "pytorch-lightning_version": "2.0.2"}
    torch.save(saved, folder / "matcha_ljspeech.ckpt")
    return folder


@pytest.mark.slow
def test_the_network_is_that_of_the_published_voice(model: Any) -> None:
    """The paper states 18.2 M parameters (arXiv 2309.03199)."""
    assert round(sum(one.numel() for one in model.parameters()) / 1e6, 1) == 18.2


@pytest.mark.slow
def test_the_mel_is_that_of_the_package(home: Path, model: Any) -> None:
    voice = matcha.MatchaFrontEnd().load("ljspeech")
    parts = list(voice.read(TEXT))
    assert len(parts) == 2 and not any(part.left_out for part in parts)
    ids = parts[0].tensor
    assert ids is not None
    torch.manual_seed(5)
    theirs = model.synthesise(ids, torch.tensor([ids.shape[1]]), n_timesteps=10, temperature=0.667, length_scale=0.95)
    (ours,), _ = voice.stages[0]((ids, torch.ones(1), torch.tensor([5])))
    assert relative_error(ours, theirs["mel"]) <= 1e-5  # the same operators, other shapes of two products


@pytest.mark.slow
@pytest.mark.filterwarnings("default::tts_infer.TextLeftOutWarning")
def test_it_speaks(home: Path) -> None:
    vocoder = tts_infer.load_vocoder(gan.save(home.parent / "hifigan", HIFIGAN, gan.official_weights(HIFIGAN)))
    speaker = tts_infer.load_speaker("matcha-tts/ljspeech", vocoder=vocoder, device="cpu")
    made = speaker.speak(TEXT, seed=1)
    assert [row["stage"] for row in made.stages][:2] == ["phonemes", "acoustic"]
    assert made.audio.isfinite().all() and made.sample_rate == 22050
    assert torch.equal(made.audio, speaker.speak(TEXT, seed=1).audio)
    slow = speaker.speak(TEXT, seed=1, speed=0.5)
    assert 1.8 < slow.seconds / made.seconds < 2.2
    assert speaker.speak("Hello 😀 there.").left_out == ("😀",)
    with pytest.raises(tts_infer.InputError, match="nothing to say"):
        speaker.speak("😀 !")
    with pytest.raises(tts_infer.InputError, match="'matcha-tts/ljspeech' gives mel of hifigan-22k, which needs"):
        tts_infer.load_speaker("ljspeech")


@pytest.mark.slow
def test_a_voice_that_is_not_there(package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATCHA_HOME", str(tmp_path))
    with pytest.raises(tts_infer.VoiceNotFoundError, match=r"\(218 MB, MIT\): fetch github.com/shivammehta25"):
        tts_infer.load_speaker("ljspeech")
