"""Peers in the place of a vocoder's stages: the official package with the same weights, and Griffin-Lim."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import tts_infer
from tests.gan import MELS, SIZES, official_weights, save
from tts_infer.cli import main
from tts_infer.runtime import workers
from tts_infer.stages import relative_error
from tts_infer.vocoders import peer_of
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.encodec import EncodecConfig, EncodecVocos, EncodecVocosConfig
from tts_infer.vocoders.griffin_lim import GriffinLim
from tts_infer.vocoders.vocos import BackboneConfig, HeadConfig

PEERS = ("vocos", "griffin-lim")


@pytest.fixture(scope="module")
def peers() -> dict[str, tts_infer.Vocoder]:
    return {name: tts_infer.load_vocoder(device="cpu", engine=name) for name in PEERS}


@pytest.fixture(scope="module")
def mel(vocoder: tts_infer.Vocoder, speech: Tensor) -> Tensor:
    return vocoder.mel(speech[:, 12000:27600])


def test_the_official_package_copies(peers: dict[str, tts_infer.Vocoder], official: ModuleType, speech: Tensor) -> None:
    """Its own class, put together of its own modules, gives the same."""
    from vocos.feature_extractors import MelSpectrogramFeatures
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    config = load_model(resolve(tts_infer.DEFAULT_VOCODER)).config
    sizes = config.backbone
    theirs = official.Vocos(
        MelSpectrogramFeatures(24000, 1024, 256, 100, config.mel.padding),
        VocosBackbone(100, sizes.dim, sizes.intermediate_dim, sizes.num_layers),
        ISTFTHead(sizes.dim, 1024, 256, config.head.padding),
    ).eval()
    keys = theirs.load_state_dict(peers["vocos"].model.state_dict(), strict=False)
    assert not keys.unexpected_keys and not keys.missing_keys
    with torch.inference_mode():
        expected = theirs(speech[:, 12000:36000])
    assert torch.equal(peers["vocos"](speech[:, 12000:36000]), expected)
    assert [stage.name for stage in peers["vocos"].stages] == ["mel", "vocos"]


def test_the_official_package_has_our_weights(
    peers: dict[str, tts_infer.Vocoder], vocoder: tts_infer.Vocoder, mel: Tensor
) -> None:
    # the trained network magnifies the rounding of float32 sums, see `test_onednn`
    assert relative_error(peers["vocos"].decode(mel), vocoder.decode(mel)) <= 5e-5


def test_griffin_lim_is_the_baseline(peers: dict[str, tts_infer.Vocoder], mel: Tensor) -> None:
    one = peers["griffin-lim"]
    with torch.inference_mode():
        assert torch.equal(one.decode(mel), GriffinLim(one.mel_config)(mel))
    by_products = tts_infer.load_vocoder(device="cpu", engine="griffin-lim", placement="griffin-lim=cpu/matmul")
    assert [row["method"] for row in by_products.synthesize(mel[..., :20]).stages] == ["matmul"]
    # iterations magnify the rounding of float32 sums
    assert relative_error(by_products.decode(mel[..., :20]), one.decode(mel[..., :20])) <= 1e-2
    assert sum(parameter.numel() for parameter in one.model.parameters()) == 0


@pytest.mark.parametrize("name", PEERS)
def test_batches(name: str, peers: dict[str, tts_infer.Vocoder], mel: Tensor) -> None:
    one = peers[name]
    with pytest.raises(tts_infer.InputError, match="has no streams and no pieces"):
        one.stream()
    made = one.decode([mel[0], mel[0, :, :30], mel[0, :, :1]])
    assert [len(item) for item in made] == [one.n_samples(n) for n in (mel.shape[2], 30, 1)]
    assert torch.equal(made[0], one.decode(mel)[0]) and torch.equal(made[1], one.decode(mel[..., :30])[0])


@pytest.mark.parametrize("name", PEERS)
def test_workers_do_not_cut_it(
    name: str, peers: dict[str, tts_infer.Vocoder], mel: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = mel.repeat(1, 1, 5)
    whole = peers[name].decode(long)
    monkeypatch.setattr(workers, "should_share", lambda: True)
    # by one thread, so sums have another order, which Griffin-Lim's iterations magnify
    assert relative_error(peers[name].decode(long), whole) <= (1e-2 if name == "griffin-lim" else 5e-5)


@pytest.mark.parametrize("name", PEERS)
def test_files(name: str, peers: dict[str, tts_infer.Vocoder], mel: Tensor, tmp_path: Path) -> None:
    np.save(tmp_path / "mel.npy", mel)
    out = tmp_path / "out.wav"
    arguments = ["--engine", name, "--device", "cpu", "--sample-format", "float32", "--json"]
    assert main(["decode", str(tmp_path / "mel.npy"), "-o", str(out), *arguments]) == 0
    samples, rate = soundfile.read(out, dtype="float32")
    assert rate == 24000 and np.array_equal(samples, peers[name].decode(mel)[0].numpy())


def test_short_input(peers: dict[str, tts_infer.Vocoder], mel: Tensor) -> None:
    for one in peers.values():
        assert one.decode(mel[..., :1]).shape == (1, 0) and one.decode(mel[..., :2]).shape == (1, 256)
    assert peers["griffin-lim"](torch.zeros(1, 300)).shape == (1, 256)
    assert peers["vocos"](torch.zeros(1, 513)).shape == (1, 512)
    with pytest.raises(tts_infer.InputError, match="audio has 512 samples; at least 513 are needed"):
        peers["vocos"](torch.zeros(1, 512))


def test_what_is_refused(peers: dict[str, tts_infer.Vocoder], mel: Tensor, tmp_path: Path) -> None:
    load = tts_infer.load_vocoder
    with pytest.raises(tts_infer.PlacementError, match=r"'vocos' computes in float32, not in bfloat16"):
        load(engine="vocos", dtype="bfloat16")
    with pytest.raises(
        tts_infer.PlacementError, match=r"engine is 'nope'; allowed: auto, onednn.*, vocos, griffin-lim"
    ):
        load("a name that nothing has", engine="nope")  # before anything is looked for
    with pytest.raises(tts_infer.PlacementError, match="names the stage 'istft'; the stages are: mel, vocos"):
        load(device="cpu", engine="vocos", placement="istft=cpu/fft")
    for one in peers.values():
        with pytest.raises(tts_infer.InputError, match="leave refine at 0"):
            one.decode(mel, refine=1)
        with pytest.raises(tts_infer.ExportError, match="or is other software"):
            tts_infer.export_onnx(one, tmp_path / "v.onnx")


def test_of_another_family(tmp_path: Path) -> None:
    """Griffin-Lim decodes the mels of every family; the official package has one network only."""
    folder = save(tmp_path / "gan", SIZES, official_weights(SIZES))
    one = tts_infer.load_vocoder(folder, device="cpu", engine="griffin-lim")
    assert one.mel_config.n_mels == 12 and one.decode(MELS[:1], check_convention=False).shape == (1, one.n_samples(94))
    with pytest.raises(tts_infer.ConfigError, match=r"vocos 0.1.0 runs .* not HiFiGAN"):
        tts_infer.load_vocoder(folder, device="cpu", engine="vocos")
    codes = EncodecVocos(EncodecVocosConfig(EncodecConfig(), BackboneConfig(128, 16, 16, 1), HeadConfig(16, 1280, 320)))
    with pytest.raises(tts_infer.ConfigError, match="'griffin-lim' decodes mels, and this vocoder takes"):
        peer_of("griffin-lim", codes)


def test_a_missing_package_is_one_line_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "vocos", None)
    np.save(tmp_path / "mel.npy", np.zeros((100, 5), np.float32))
    assert main(["decode", str(tmp_path / "mel.npy"), "-o", str(tmp_path / "out.wav"), "--engine", "vocos"]) == 2
    said = capsys.readouterr().err
    assert "needs vocos" in said and "pip install 'tts-infer[vocos]'" in said and said.count("\n") == 1
    assert not (tmp_path / "out.wav").exists()
