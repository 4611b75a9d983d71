"""Our vocoders in the real packages: F5-TTS, WhisperSpeech and Matcha-TTS, with tiny random weights.

`make integrations` installs these packages into an environment of their own, and runs this file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

import tts_infer
from tests import gan
from tests.conftest import ROOT
from tests.emulated_device import emulated
from tests.test_encodec import CONFIG as CODES_CONFIG
from tests.test_encodec import Official, codes_of
from tests.test_integrations import CLOSE, CONFIG, MEL, mel_vocoder
from tts_infer.integrations import f5_tts, whisperspeech
from tts_infer.integrations.mel_vocoder import MelVocoder
from tts_infer.integrations.vocos import Vocos
from tts_infer.stages import relative_error
from tts_infer.vocoders.reference import import_vocos

pytestmark = pytest.mark.slow

# A DiT of F5-TTS with 0.1 M parameters beside its table of letters. Source: configs/F5TTS_v1_Base.yaml, in small.
ARCH = {"dim": 32, "depth": 2, "heads": 2, "dim_head": 16, "ff_mult": 2, "text_dim": 16, "conv_layers": 1}
TEXT = {"ref_text": "Some words that were said.", "gen_text": "And these were not said."}


def need(package: str, module: str, wanted: str) -> Any:
    """The module, of the version that the docs name; the test is skipped if the package is not installed."""
    try:
        assert version(package) == wanted
    except PackageNotFoundError:
        pytest.skip(f"`make integrations` installs {package}")
    import_vocos()  # whose way around torchaudio's native library helps these packages, too
    return import_module(module)


@pytest.fixture(scope="module")
def utils() -> Any:
    return need("f5-tts", "f5_tts.infer.utils_infer", "1.1.22")


@pytest.fixture(scope="module")
def api(utils: Any) -> Any:
    return import_module("f5_tts.api")


@pytest.fixture(autouse=True)
def _audio_without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchaudio reads and writes files by TorchCodec and FFmpeg, which are no concern of ours."""
    import_vocos()
    import torchaudio

    def load(path: str) -> tuple[Tensor, int]:
        clip = tts_infer.read_audio(path)
        return torch.from_numpy(clip.samples)[None], clip.sample_rate

    monkeypatch.setattr(torchaudio, "load", load)


@pytest.fixture(scope="module")
def model(utils: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The arguments of `F5TTS` that load a tiny model: files as the project publishes them."""
    models, text = import_module("f5_tts.model"), import_module("f5_tts.model.utils")
    path, package = tmp_path_factory.mktemp("f5"), Path(utils.__file__).parent.parent
    table, size = text.get_tokenizer(str(package / "infer" / "examples" / "vocab.txt"), "custom")
    torch.manual_seed(0)
    flow = models.CFM(transformer=models.DiT(**ARCH, text_num_embeds=size, mel_dim=100), vocab_char_map=table)
    save_file({f"ema_model.{name}": one for name, one in flow.state_dict().items()}, path / "model.safetensors")
    for kind in ("vocos", "bigvgan"):
        mel = {"target_sample_rate": 24000, "mel_spec_type": kind}
        (path / f"{kind}.yaml").write_text(
            yaml.safe_dump({"model": {"backbone": "DiT", "arch": ARCH, "mel_spec": mel}})
        )
    return {
        "model": os.path.relpath(path / "vocos", package / "configs"),  # it looks for NAME.yaml there
        "ckpt_file": str(path / "model.safetensors"),
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def vocos_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    vocos, path = import_vocos(), tmp_path_factory.mktemp("vocos")
    torch.manual_seed(1)
    theirs = vocos.Vocos(**{name: vocos.pretrained.instantiate_class((), one) for name, one in CONFIG.items()})
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    torch.save(theirs.state_dict(), path / "pytorch_model.bin")
    return str(path)


@pytest.fixture(scope="module")
def bigvgan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = gan.BIGVGAN | {"num_mels": 100}
    return gan.save(tmp_path_factory.mktemp("bigvgan"), config, gan.official_weights(config))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two seconds of speech."""
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    samples = tts_infer.read_audio(ROOT / "examples" / "english.wav", 24000).samples
    tts_infer.write_audio(path, samples[12000:60000], 24000)
    return str(path)


@pytest.fixture
def installed(utils: Any) -> Iterator[None]:
    undo = f5_tts.install(vocos="vocos-mini-24khz")
    yield
    undo()


def say(tts: Any, clip: str) -> tuple[Tensor, Tensor]:
    wave, rate, mel = tts.infer(clip, **TEXT, nfe_step=2, seed=7, show_info=lambda text: None, progress=None)
    assert rate == 24000
    return torch.from_numpy(wave)[None], torch.from_numpy(mel)[None]


def test_f5_tts_says_the_same_with_its_loader_and_with_ours(
    api: Any, utils: Any, model: dict[str, str], vocos_folder: str, clip: str
) -> None:
    """`f5_tts.api` imported the loader by value before it was replaced."""
    original = api.load_vocoder
    theirs, mel = say(api.F5TTS(**model, vocoder_local_path=vocos_folder), clip)
    undo = f5_tts.install()
    try:
        assert api.load_vocoder is utils.load_vocoder is not original
        tts = api.F5TTS(**model, vocoder_local_path=vocos_folder)
        assert isinstance(tts.vocoder, Vocos)
        ours, same = say(tts, clip)
    finally:
        undo()
    assert api.load_vocoder is utils.load_vocoder is original
    assert torch.equal(mel, same) and ours.shape == theirs.shape
    assert relative_error(ours, theirs) < CLOSE


@pytest.mark.usefixtures("installed")
def test_f5_tts_with_a_vocoder_by_name(api: Any, model: dict[str, str], clip: str) -> None:
    """The embedded one, without a network."""
    tts = api.F5TTS(**model)
    assert tts.vocoder.vocoder.name == "vocos-mini-24khz"
    audio, mel = say(tts, clip)
    assert relative_error(audio / audio.abs().max(), level(tts.vocoder.decode(mel))) < CLOSE  # F5-TTS sets the level


def level(audio: Tensor) -> Tensor:
    return audio / audio.abs().max()


@pytest.mark.usefixtures("installed")
def test_f5_tts_with_bigvgan(api: Any, utils: Any, model: dict[str, str], bigvgan_folder: Path, clip: str) -> None:
    """Its package does not contain the code of BigVGAN, so its own loader cannot load one."""
    tts = api.F5TTS(**model | {"model": model["model"].replace("vocos", "bigvgan")}, vocoder_local_path=bigvgan_folder)
    assert isinstance(tts.vocoder, MelVocoder)
    audio, mel = say(tts, clip)
    plain = tts_infer.load_vocoder(bigvgan_folder, device="cpu", check_convention=False)
    assert relative_error(level(audio), level(plain.decode(mel))) < CLOSE


@pytest.mark.usefixtures("installed")
def test_f5_tts_on_an_apple_gpu_without_fallback(
    api: Any, utils: Any, model: dict[str, str], vocos_folder: str, clip: str
) -> None:
    """The vocoder on the emulated device, which has no fallback, and allows one thread at a time. `infer_process` has a
    thread for each piece of a text. The vocoder has no passes of refinement: of noise, which this mel is, they make
    differences in rounding as large as 5e-4.
    """
    tts = api.F5TTS(**model, vocoder_local_path=vocos_folder)
    torch.manual_seed(7)
    options = {"show_info": lambda text: None, "progress": None, "nfe_step": 2, "cross_fade_duration": 0}

    def process(text: str) -> tuple[Tensor, Tensor]:
        wave, rate, mel = utils.infer_process(
            clip, TEXT["ref_text"], text, tts.ema_model, vocoder, device="cpu", **options
        )
        assert rate == 24000
        return torch.from_numpy(wave)[None], torch.from_numpy(mel)[None]

    with emulated("2.4.1") as device:
        vocoder = utils.load_vocoder("vocos", is_local=True, local_path=vocos_folder, device="emu")
        assert {str(place.device) for place in vocoder.vocoder.placement.values()} == {"emu:0"}
        audio, mel = process(TEXT["gen_text"])
        launched = device.launched
        assert vocoder.decode(mel.to("emu")).device.type == "cpu"
        several, mels = process("Here is one sentence of some length, and it goes on. Another one is there, too. " * 5)
    assert launched > 0 and relative_error(level(audio), level(tts.vocoder.decode(mel))) < CLOSE
    pieces = mels.shape[2] - several.shape[1] // 256  # each is one frame shorter
    assert pieces >= 2 and several.isfinite().all()


@pytest.fixture(scope="module")
def reference(official: Any) -> Official:
    return Official(official)


@pytest.fixture(scope="module")
def codes_folder(reference: Official, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encodec")
    (path / "config.yaml").write_text(yaml.safe_dump(CODES_CONFIG))
    save_file(reference.weights(), path / "model.safetensors")
    return path


def test_tokens_in_whisperspeech(reference: Official, codes_folder: Path) -> None:
    a2wav = need("WhisperSpeech", "whisperspeech.a2wav", "0.8.9")
    pipeline = import_module("whisperspeech.pipeline")  # it has the class by value
    codes, original = codes_of(4, 2, 30).permute(1, 0, 2), a2wav.Vocoder
    with pytest.MonkeyPatch.context() as patch:  # its own code around the class that replaces `vocos.Vocos`
        patch.setattr(a2wav, "Vocos", Vocos)
        theirs = original(codes_folder, device="cpu").decode(codes)
    undo = whisperspeech.install()
    try:
        assert pipeline.Vocoder is whisperspeech.Vocoder
        ours = a2wav.Vocoder(codes_folder, device="cpu")
        assert type(ours) is whisperspeech.Vocoder and torch.equal(ours.decode(codes), theirs)
    finally:
        undo()
    assert a2wav.Vocoder is pipeline.Vocoder is original
    want = reference.model.decode(
        reference.model.codes_to_features(codes.permute(1, 0, 2)), bandwidth_id=torch.tensor(1)
    )
    assert relative_error(theirs, want) < CLOSE


def test_tokens_in_a_notebook(codes_folder: Path) -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell", reason="`make integrations` installs IPython")
    shell.InteractiveShell.instance()
    try:
        with import_module("IPython.utils.capture").capture_output() as shown:
            whisperspeech.Vocoder(codes_folder, device="cpu").decode_to_notebook(codes_of(4, 1, 30)[:, 0])
    finally:
        shell.InteractiveShell.clear_instance()
    assert "data:audio/wav;base64" in shown.outputs[0].data["text/html"]


def test_matcha_makes_waveforms() -> None:
    """Its `to_waveform`, without its denoiser and with it."""
    cli = need("matcha-tts", "matcha.cli", "0.0.7.2")
    plain = mel_vocoder()
    vocoder = MelVocoder(plain)
    denoiser = cli.Denoiser(vocoder, mode="zeros")
    assert denoiser.bias_spec.shape == (1, 513, 1) and denoiser.bias_spec.abs().max() > 0
    want = plain.decode(MEL).clamp(-1, 1)
    assert torch.equal(cli.to_waveform(MEL, vocoder), want)
    untouched = cli.to_waveform(MEL, vocoder, denoiser, denoiser_strength=0.0)
    want = want[:, : untouched.shape[1]]
    error = relative_error(untouched, want)
    assert error < 1e-3  # its own STFT and inverse
    assert error < relative_error(cli.to_waveform(MEL, vocoder, denoiser), want) < 0.5
    one = cli.to_waveform(MEL[:1], vocoder, denoiser, denoiser_strength=0.0)
    assert relative_error(one[None], want[:1]) < 1e-3
