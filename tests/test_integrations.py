"""What replaces the vocoders of other packages: `vocos.Vocos` against the official class, and vocoders of mels."""

from __future__ import annotations

import copy
import io
import math
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

import tts_infer
from tests.emulated_device import emulated
from tests.test_encodec import CONFIG as CODES_CONFIG
from tests.test_encodec import Official, codes_of
from tts_infer.config import MelConfig
from tts_infer.integrations import f5_tts, whisperspeech
from tts_infer.integrations.mel_vocoder import MelVocoder
from tts_infer.integrations.other_packages import replace
from tts_infer.integrations.vocos import Vocos
from tts_infer.runtime.placement import make_placement
from tts_infer.stages import relative_error
from tts_infer.vocoders.vocos import BackboneConfig, HeadConfig, VocoderConfig
from tts_infer.vocoders.vocos import Vocos as Model

CLOSE = 2e-5  # of the peak: float32, and the inverse STFT by other operators
COPIED = 1e-4  # of the peak: the logarithms of silence differ more
CONFIG = {
    "feature_extractor": {
        "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
        "init_args": {"sample_rate": 24000, "n_fft": 1024, "hop_length": 256, "n_mels": 100, "padding": "center"},
    },
    "backbone": {
        "class_path": "vocos.models.VocosBackbone",
        "init_args": {"input_channels": 100, "dim": 32, "intermediate_dim": 64, "num_layers": 2},
    },
    "head": {
        "class_path": "vocos.heads.ISTFTHead",
        "init_args": {"dim": 32, "n_fft": 1024, "hop_length": 256, "padding": "center"},
    },
}


@pytest.fixture(scope="module")
def theirs(official: ModuleType) -> Any:
    """The official class with random weights."""
    torch.manual_seed(0)
    return official.Vocos(**{name: official.pretrained.instantiate_class((), one) for name, one in CONFIG.items()})


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the official package loads it."""
    path = tmp_path_factory.mktemp("vocos")
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    torch.save(theirs.state_dict(), path / "pytorch_model.bin")
    return path


@pytest.fixture
def ours(folder: Path) -> Vocos:
    return Vocos.from_pretrained(folder)


def test_the_official_package_is_the_one_that_the_docs_name() -> None:
    assert version("vocos") == "0.1.0"


def test_vocos_computes_what_the_official_class_computes(theirs: Any, ours: Vocos, speech: Tensor) -> None:
    mel = theirs.feature_extractor(speech)
    assert (ours.feature_extractor(speech) - mel).abs().max() < 1e-2  # of a logarithm near its floor, where mels are 0
    assert (ours.feature_extractor(speech) - mel).abs().mean() < 1e-5
    assert relative_error(ours.decode(features_input=mel), theirs.decode(features_input=mel)) < CLOSE
    assert relative_error(ours(speech), theirs(speech)) < COPIED
    assert relative_error(ours.forward(audio_input=speech), theirs.forward(audio_input=speech)) < COPIED
    number = torch.tensor(0)  # both pass over what they have no norms for
    assert torch.equal(ours.decode(mel, bandwidth_id=number), ours.decode(mel))
    assert relative_error(ours.decode(mel, bandwidth_id=number), theirs.decode(mel, bandwidth_id=number)) < CLOSE


def test_weights_go_both_ways(theirs: Any, ours: Vocos, folder: Path, official: ModuleType, speech: Tensor) -> None:
    weights = ours.state_dict()
    assert weights.keys() == theirs.state_dict().keys()
    other = official.Vocos.from_hparams(str(folder / "config.yaml"))
    other.load_state_dict(weights)  # strict
    mine = Vocos.from_hparams(folder / "config.yaml")
    random = mine.eval()(speech)
    mine.load_state_dict(theirs.state_dict())
    assert relative_error(mine(speech), theirs(speech)) < COPIED < relative_error(random, theirs(speech))
    assert relative_error(other(speech), theirs(speech)) < COPIED
    names = [name for name, _ in mine.named_parameters()]
    assert names == [name for name, _ in theirs.named_parameters()]


def test_weights_of_another_convention_are_refused(ours: Vocos) -> None:
    weights = ours.state_dict()
    weights["feature_extractor.mel_spec.mel_scale.fb"] = weights["feature_extractor.mel_spec.mel_scale.fb"] * 2
    with pytest.raises(tts_infer.CheckpointError, match="state dict: stored feature_extractor.mel_spec.mel_scale.fb"):
        ours.load_state_dict(weights)
    with pytest.raises(RuntimeError, match=r"Missing key.*head.out.bias"):
        ours.load_state_dict({name: one for name, one in weights.items() if "feat" not in name and "bias" not in name})


class Larger(nn.Module):
    """A model that owns a vocoder."""

    def __init__(self, vocoder: nn.Module) -> None:
        super().__init__()
        self.vocoder, self.scale = vocoder, nn.Parameter(torch.ones(()))


def test_it_is_a_module_of_larger_ones(ours: Vocos, theirs: Any, speech: Tensor) -> None:
    model = Larger(ours).eval().requires_grad_(True)
    assert {f"vocoder.{name}" for name in theirs.state_dict()} | {"scale"} == model.state_dict().keys()
    assert all(weight.requires_grad for weight in ours.parameters())
    exact = ours(speech)
    saved = io.BytesIO()
    torch.save(model.state_dict(), saved)
    torch.nn.init.zeros_(ours.head.out.weight)
    saved.seek(0)
    model.load_state_dict(torch.load(saved, weights_only=True))
    assert torch.equal(ours(speech), exact)
    assert torch.equal(copy.deepcopy(model).vocoder(speech), exact)
    with pytest.raises(tts_infer.PlacementError, match="'float16' is slow and incomplete on the CPU; use"):
        model.half()
    with pytest.raises(tts_infer.PlacementError, match="dtype 'float64' is unknown"):
        ours.double()
    assert ours.vocoder.dtype == "float32" and torch.equal(model.float().cpu().vocoder(speech), exact)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16")
def test_a_dtype_is_that_of_the_products(ours: Vocos, speech: Tensor) -> None:
    exact = ours(speech)
    Larger(ours).to("cpu", dtype=torch.bfloat16)
    assert ours.vocoder.dtype == "bfloat16" and next(ours.parameters()).dtype == torch.float32
    assert 1e-5 < relative_error(ours(speech), exact) < 0.1  # eight bits of mantissa
    assert torch.equal(ours.float()(speech), exact)


def test_a_larger_module_takes_it_to_another_device(ours: Vocos, speech: Tensor) -> None:
    """One without complex numbers and FFTs; torch 2.4 on Apple GPUs is such a device."""
    exact, mel = ours(speech), ours.feature_extractor(speech)
    with emulated("2.4.1"):
        Larger(ours).to("emu")
        assert {str(place.device) for place in ours.vocoder.placement.values()} == {"emu:0"}
        audio = ours.decode(mel)
        assert audio.device.type == "emu" and ours.feature_extractor(speech.to("emu")).device.type == "emu"
        assert relative_error(audio.cpu(), exact) < CLOSE
        ours.cpu()
    assert relative_error(ours(speech), exact) < CLOSE


@pytest.mark.slow
def test_engines_of_the_cpu_fetch_weights_from_other_devices(speech: Tensor) -> None:
    plain = mel_vocoder(100)
    model, mel = plain.model, torch.randn(1, 100, 30) - 5
    want = plain.decode(mel)
    for engine in ("onednn", "onnxruntime", "torch"):
        with emulated():
            model.to("emu")
            placed = make_placement(f"backbone=cpu/{engine}", device="cpu")
            assert relative_error(tts_infer.Vocoder(model, placed, engine).decode(mel), want) < CLOSE


@pytest.fixture(scope="module")
def reference(official: ModuleType) -> Official:
    """The official class for codes of EnCodec, with random weights."""
    return Official(official)


@pytest.fixture(scope="module")
def codes_folder(reference: Official, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encodec")
    (path / "config.yaml").write_text(yaml.safe_dump(CODES_CONFIG))
    save_file(reference.weights(), path / "model.safetensors")
    return path


def test_codes(reference: Official, codes_folder: Path) -> None:
    ours, theirs = Vocos.from_pretrained(codes_folder), reference.model
    for codebooks, number in [(2, 0), (4, 1), (8, 2), (16, 3)]:
        for codes in (codes_of(codebooks, 2, 20), codes_of(codebooks, 1, 20)[:, 0]):
            features, bandwidth_id = ours.codes_to_features(codes), torch.tensor(number)
            assert relative_error(features, theirs.codes_to_features(codes)) < CLOSE
            want = theirs.decode(features, bandwidth_id=bandwidth_id)
            assert relative_error(ours.decode(features, bandwidth_id=bandwidth_id), want) < CLOSE
    assert ours.state_dict().keys() == reference.weights().keys()
    with pytest.raises(tts_infer.InputError, match="bandwidth_id is missing; give bandwidth_id=0 to 3"):
        ours.decode(features)
    with pytest.raises(tts_infer.InputError, match="cannot make features from audio"):
        ours.feature_extractor(torch.zeros(1, 24000), bandwidth_id=number)
    with pytest.raises(tts_infer.InputError, match="cannot make mel from codes"):
        Vocos(tts_infer.load_vocoder(device="cpu")).codes_to_features(codes)


def test_tokens_of_whisperspeech(
    reference: Official, codes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its own class: (K, L) or (B, K, L), and the bandwidth by the number of codebooks."""
    vocoder = whisperspeech.Vocoder(codes_folder, device="cpu")
    for codebooks, number in [(2, 0), (4, 1), (8, 2)]:
        codes = codes_of(codebooks, 3, 20)
        want = reference.model.decode(reference.model.codes_to_features(codes), bandwidth_id=torch.tensor(number))
        assert relative_error(vocoder.decode(codes.permute(1, 0, 2)), want) < CLOSE
        assert relative_error(vocoder.decode(codes[:, 0]), want[:1]) < CLOSE
    vocoder.decode_to_file(tmp_path / "out.wav", codes[:, 0])
    written = torch.from_numpy(tts_infer.read_audio(tmp_path / "out.wav").samples)
    torch.testing.assert_close(written, want[0].clamp(-1, 1), rtol=0, atol=2e-4)  # 16 bits, and the two decodes
    with pytest.raises(tts_infer.InputError, match="a file holds one item, but tokens of 3"):
        vocoder.decode_to_file(tmp_path / "out.wav", codes.permute(1, 0, 2))
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(tts_infer.MissingPackageError, match="needs IPython.display .* pip install ipython"):
        vocoder.decode_to_notebook(codes[:, 0])
    with emulated("2.4.1"):  # where the package itself decodes on the CPU
        there = whisperspeech.Vocoder(codes_folder, device="emu")
        assert there.device.type == "emu" and relative_error(there.decode(codes[:, 0]).cpu(), want[:1]) < CLOSE


def mel_vocoder(n_mels: int = 80) -> tts_infer.Vocoder:
    """Random weights, in the convention of HiFi-GAN."""
    torch.manual_seed(0)
    mel = MelConfig(22050, 1024, 256, n_mels=n_mels, padding="same", mel_scale="slaney", norm="slaney", f_max=8000.0)
    config = VocoderConfig(mel, BackboneConfig(n_mels, 32, 64, 2), HeadConfig(32, 1024, 256, "same"))
    model = Model(config, "fft").eval()
    return tts_infer.Vocoder(model, make_placement(device="cpu"), "hifigan-like", check_convention=False)


MEL = torch.randn(2, 80, 30, generator=torch.Generator().manual_seed(1)) - 5


def test_programs_that_call_a_vocoder_with_a_mel() -> None:
    """The calls; tests/test_integrations_packages.py and test_integrations_systems.py run the programs themselves."""
    plain = mel_vocoder()
    vocoder, want = MelVocoder(plain).eval(), plain.decode(MEL)
    vocoder.remove_weight_norm()
    assert torch.equal(vocoder(MEL), want[:, None]) and torch.equal(vocoder.inference(MEL[:1])[0], want[:1])
    espnet = MelVocoder(plain, frames_first=True, unit="log10")
    assert isinstance(espnet, nn.Module) and espnet.to(dtype=torch.float32).eval().fs == 22050
    assert relative_error(espnet(MEL[0].T / math.log(10))[None], want[:1]) < CLOSE


def test_weights_without_a_configuration(folder: Path, theirs: Any, speech: Tensor, tmp_path: Path) -> None:
    """As ChatTTS has them."""
    save_file(theirs.state_dict(), tmp_path / "Vocos.safetensors")
    ours = Vocos.from_pretrained(tmp_path / "Vocos.safetensors", config="vocos-mel-24khz")
    mel = theirs.feature_extractor(speech)
    assert relative_error(ours.decode(mel), theirs.decode(mel)) < CLOSE


def test_the_vocoder_itself_is_called_as_modules_are(vocoder: tts_infer.Vocoder) -> None:
    mel = torch.full((1, 100, 20), -5.0)
    one = tts_infer.load_vocoder(dtype=torch.float32, device="cpu", refine=0)
    assert one.cpu().float().train(False).requires_grad_(False).to(dtype="float32").to(torch.float32) is one
    assert torch.equal(one.decode(mel), vocoder.decode(mel))
    assert next(one.parameters()).device.type == "cpu" and one.state_dict().keys() >= one.model.state_dict().keys()
    audio = torch.zeros(1, 24000)
    assert torch.equal(one.feature_extractor(audio), one.mel(audio))
    with pytest.raises(tts_infer.PlacementError, match="'float16' is slow and incomplete on the CPU"):
        one.half()
    with pytest.raises(tts_infer.PlacementError, match="device 'cuda:7' is not available"):
        one.cuda(7)
    with emulated():
        mixed = tts_infer.load_vocoder(placement="istft=cpu", device="emu", check=False)
        before = {name: place.device for name, place in mixed.placement.items()}
        assert {str(device) for device in before.values()} == {"cpu", "emu:0"}
        after = mixed.to(torch.float32).placement  # a dtype moves nothing
        assert {name: place.device for name, place in after.items()} == before
        assert mixed.cpu().placement.devices == {torch.device("cpu")}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tts_infer.Vocoder.from_pretrained("a/b"), tts_infer.InputError, "loaded by tts_infer.load_vocoder"),
        (lambda: f5_tts.load_vocoder("hifigan"), tts_infer.InputError, "'hifigan'; allowed: vocos, bigvgan"),
        (lambda: f5_tts.load_vocoder(is_local=True), tts_infer.InputError, "local_path is empty; give its folder"),
        (lambda: f5_tts.load_vocoder(hf_cache_dir="x"), tts_infer.InputError, "set HF_HUB_CACHE before Python starts"),
        (lambda: MelVocoder(mel_vocoder(), unit="sones"), tts_infer.ConfigError, "from_ is 'sones'; allowed: ln, log2"),
        (
            lambda: replace("no_such_package.a", "b", None, "no-such-package"),
            tts_infer.MissingPackageError,
            "needs no_such_package.a .*; pip install no-such-package",
        ),
    ],
)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
