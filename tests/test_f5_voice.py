"""The front end `f5-tts`: the recording and the text here; speech by `make integrations`, which installs f5-tts."""

from __future__ import annotations

import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import tts_infer
from tests.conftest import ROOT
from tests.test_integrations_packages import ARCH, _audio_without_ffmpeg, model, need, utils  # noqa: F401 - fixtures
from tts_infer.frontends import f5
from tts_infer.stages import relative_error

WORDS = "Some words that were said."


def utils_dit() -> Any:
    return import_module("f5_tts.model.backbones.dit").DiT


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two seconds of speech, and what is said in them."""
    path = tmp_path / "me.wav"
    samples = tts_infer.read_audio(ROOT / "examples" / "english.wav", 24000).samples
    tts_infer.write_audio(path, samples[12000:60000], 24000)
    path.with_suffix(".txt").write_text(WORDS, encoding="utf-8")
    return path


def test_a_recording_and_its_words(recording: Path) -> None:
    words, mel = f5.read_recording(recording)
    assert words == f"{WORDS}  " and mel.shape == (1, 100, 188)
    assert mel.min() >= np.log(1e-5) - 1e-6 and np.isfinite(mel.numpy()).all()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda path: path.with_suffix(".txt").unlink(), "recording-text"),
        (lambda path: path.with_suffix(".txt").write_text(" \n"), "recording-unfit"),
        (lambda path: tts_infer.write_audio(path, np.zeros(48000, np.float32), 24000), "recording-unfit"),
        (lambda path: tts_infer.write_audio(path, np.full(24000 * 13, 0.1, np.float32), 24000), "recording-unfit"),
        (lambda path: path.with_suffix(".txt").write_bytes(b"caf\xe9"), "text-encoding"),
        (Path.unlink, "file-not-found"),
    ],
)
def test_what_is_no_voice(recording: Path, damage: Any, code: str) -> None:
    damage(recording)
    with pytest.raises(tts_infer.TTSInferError) as caught:
        f5.read_recording(recording)
    assert caught.value.code == code and len(str(caught.value)) < 300


def test_phrases_keep_every_word() -> None:
    text = "One, two; three! Four five six seven eight nine ten. 你好，世界。" + "x" * 95
    for most in (5, 20, 40, 1000):
        made = list(f5.phrases(text, most))
        assert max(len(one.encode()) for one in made) <= most
        assert "".join("".join(made).split()) == "".join(text.split())
    assert list(f5.phrases("One, two. Three", 9)) == ["One, two.", "Three"]
    assert list(f5.phrases("   ", 9)) == []


def test_without_the_package_the_line_says_what_to_install(recording: Path) -> None:
    if find_spec("f5_tts") is not None:
        pytest.skip("f5-tts is installed")
    with pytest.raises(tts_infer.MissingPackageError, match="pip install f5-tts"):
        tts_infer.load_speaker(f"f5-tts/{recording}")


@pytest.fixture
def home(model: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:  # noqa: F811
    """A folder with a tiny model, named as the user's own."""
    package = Path(need("f5-tts", "f5_tts.infer.utils_infer", "1.1.22").__file__).parents[1]
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(model["ckpt_file"], folder)
    shutil.copy(package / "infer" / "examples" / "vocab.txt", folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"backbone": "DiT", "arch": ARCH}}))
    monkeypatch.setenv(f5.HOME, str(folder))
    return folder


@pytest.mark.slow
def test_the_mel_is_that_of_the_package(home: Path, recording: Path, utils: Any) -> None:  # noqa: F811
    text = "And these were not said."
    network = utils.load_model(utils_dit(), ARCH, str(next(home.glob("*.safetensors"))), device="cpu")
    torch.manual_seed(7)
    _, _, theirs = utils.infer_process(
        str(recording), f"{WORDS} ", text, network, vocoder=lambda mel: mel, mel_spec_type="bigvgan",
        show_info=lambda _: None, progress=None, device="cpu",
    )  # fmt: skip
    voice = f5.F5FrontEnd().load(str(recording))
    (part,) = voice.read(text)
    (ours,), _ = voice.stages[0]((part.tensor, torch.ones(1), torch.tensor([7])))  # type: ignore[arg-type]
    # float32: the mels of the recording differ by 1e-5, and 32 steps with guidance add that up
    assert relative_error(ours[0], torch.from_numpy(theirs[:, 1:])) <= 1e-3  # theirs begins with the recording's last


@pytest.mark.slow
def test_fast_speech_has_a_frame_for_every_letter(home: Path, recording: Path) -> None:
    """The network drops letters that are more than the frames."""
    recording.with_suffix(".txt").write_text("w" * 400, encoding="utf-8")
    stage = f5.F5FrontEnd().load(str(recording)).stages[0]
    part = torch.tensor([[1, 20, *range(1, 501)]])
    (mel,), _ = stage((part, torch.full((1,), 4.0), torch.tensor([0])))
    assert stage.module.reference.shape[1] + mel.shape[2] == 501


@pytest.mark.slow
@pytest.mark.filterwarnings("default::tts_infer.TextLeftOutWarning")
def test_it_speaks(home: Path, recording: Path, tmp_path: Path) -> None:
    speaker = tts_infer.load_speaker(f"f5-tts/{recording}", device="cpu")
    assert speaker.voice == "f5-tts/me.wav" and speaker.vocoder is not None
    made = speaker.speak("Hello there. " * 20, seed=3)
    assert [row["stage"] for row in made.stages][:3] == ["letters", "acoustic", "backbone"]
    assert made.audio.isfinite().all() and made.seconds > 2
    again = torch.cat(list(speaker.stream("Hello there. " * 20, seed=3)), dim=1)
    assert torch.equal(made.audio, again)
    assert not torch.equal(made.audio[:, :24000], speaker.speak("Hello there. " * 20, seed=4).audio[:, :24000])
    slow = speaker.speak("Hello there, how do you do?", speed=0.5, seed=3).seconds
    assert 1.9 < slow / speaker.speak("Hello there, how do you do?", seed=3).seconds < 2.1
    assert speaker.speak("Hello \ue000 there.", seed=3).left_out == ("\ue000",)
    with pytest.raises(tts_infer.InputError, match="nothing to say"):
        speaker.speak("\ue000")


@pytest.mark.slow
def test_a_model_that_is_not_there(
    home: Path, recording: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    next(home.glob("*.safetensors")).unlink()
    with pytest.raises(tts_infer.VoiceNotFoundError, match=r"must hold config.yaml, vocab.txt and one file of weights"):
        tts_infer.load_speaker(f"f5-tts/{recording}")
    monkeypatch.delenv(f5.HOME)
    with pytest.raises(tts_infer.VoiceNotFoundError, match=r"1348 MB, CC-BY-NC-4.0.*hf download SWivid/F5-TTS"):
        tts_infer.load_speaker(f"f5-tts/{recording}")
