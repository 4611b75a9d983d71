"""The vocoder of LuxTTS, against the official vocos package and modules written after ysharma3501/LinaCodec."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import tts_infer
from tests.emulated_device import emulated
from tts_infer.cli import main
from tts_infer.diagnose import doctor
from tts_infer.diagnose.audit import audit, our_paths, shipped_tables
from tts_infer.dsp.crossover import HighPass
from tts_infer.dsp.resample import Resampled
from tts_infer.evaluation.systems import systems_of
from tts_infer.runtime import workers
from tts_infer.stages import relative_error
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.family import read_document

DIM, HOP = 128, 64
HEAD = {"dim": DIM, "n_fft": 256, "hop_length": HOP, "padding": "center"}


def section(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


CONFIG = {
    "feature_extractor": section(
        "vocos.feature_extractors.MelSpectrogramFeatures", sample_rate=24000, n_fft=256, hop_length=HOP, n_mels=20
    ),
    "backbone": section("vocos.models.VocosBackbone", input_channels=20, dim=DIM, intermediate_dim=96, num_layers=2),
    "head": section("vocos.heads.ISTFTHead", **HEAD),
    "upsampler": section(
        "linacodec.vocoder.upsampler_block.UpSamplerBlock",
        in_channels=DIM,
        upsample_factors=[2, 1],
        kernel_sizes=[8, 8],
    ),
    "head_48k": section("vocos.heads.ISTFTHead", **HEAD),
}
STAGES = ["backbone", "head", "istft", "upsample", "head_48k", "istft_48k", "crossover"]


class Alpha(nn.Module):
    """The parameter of a Snake."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(0.5 + torch.rand(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (1 / (self.alpha + 1e-9)) * torch.sin(self.alpha * x) ** 2


class Block(nn.Module):
    """Source: upsampler_block.py ResnetBlock with temb_channels 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for i in (1, 2):
            setattr(self, f"norm{i}", nn.GroupNorm(32, channels, eps=1e-6))
            setattr(self, f"snake{i}", Alpha(channels))
            setattr(self, f"conv{i}", nn.Conv1d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for i in (1, 2):
            for kind in ("norm", "snake", "conv"):
                h = getattr(self, f"{kind}{i}")(h)
        return x + h


class Reference(nn.Module):
    """Source: vocos.py Vocos.decode, upsampler_block.py UpSamplerBlock, linkwitz.py, with the cutoff of LuxTTS."""

    def __init__(self, official: ModuleType) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = official.models.VocosBackbone(20, DIM, 96, 2)
        self.head, self.head_48k = (official.heads.ISTFTHead(**HEAD) for _ in range(2))
        self.upsampler = nn.Module()
        convolutions = [nn.ConvTranspose1d(128, 64, 8, 2, padding=3), nn.ConvTranspose1d(64, 32, 8, 1, padding=3)]
        self.upsampler.upsample_layers = nn.ModuleList(weight_norm(one) for one in convolutions)
        self.upsampler.resnet_blocks = nn.ModuleList([Block(64), Block(32)])
        self.upsampler.out_proj = nn.Linear(32, DIM)
        self.upsampler.final_snake = Alpha(DIM)
        for block in self.backbone.convnext:
            block.pwconv1.weight.data *= 10
            block.pwconv2.weight.data *= 10

    @torch.no_grad()
    def forward(self, mel: Tensor) -> Tensor:
        upsampler: Any = self.upsampler
        x = hidden = self.backbone(mel)
        x = x.transpose(1, 2)
        for i in range(2):
            x = upsampler.resnet_blocks[i](upsampler.upsample_layers[i](x))
        x = upsampler.final_snake(upsampler.out_proj(x.transpose(1, 2)).transpose(1, 2))
        high, low = self.head_48k(x.transpose(1, 2)), doubled(self.head(hidden))
        high = high[:, : low.shape[1]]
        one, other = torch.fft.rfft(high), torch.fft.rfft(low)
        bins = one.shape[1]
        middle = int(12000 / 24000 * bins)
        gain = torch.ones(bins)
        gain[: middle - 4] = 0
        t = (torch.linspace(-1, 1, 8) + 1) / 2
        gain[middle - 4 : middle + 4] = 3 * t**2 - 2 * t**3
        audio: Tensor = torch.fft.irfft(one * gain + other * (1 - gain), n=high.shape[1])
        return audio


def doubled(audio: Tensor) -> Tensor:
    """torchaudio.functional.resample(audio, 1, 2) as the sum that defines it, in float64."""
    samples, phase = audio.shape[1], torch.tensor([0, 0.5], dtype=torch.float64)
    near = torch.nn.functional.pad(audio.double(), (8, 8))
    result = torch.zeros(*audio.shape, 2, dtype=torch.float64)
    for offset in range(-8, 9):
        t = (0.99 * (phase - offset)).clamp(-6, 6)
        taps = torch.sinc(t) * torch.cos(t * torch.pi / 12) ** 2 * 0.99
        result += near[:, 8 + offset : 8 + offset + samples, None] * taps
    return result.flatten(1).float()


@pytest.fixture(scope="module")
def reference(official: ModuleType) -> Reference:
    return Reference(official).eval()


@pytest.fixture(scope="module")
def folder(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("luxtts")
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    torch.save(reference.state_dict(), path / "vocos.bin")
    return path


@pytest.fixture(scope="module")
def vocoder(folder: Path) -> tts_infer.Vocoder:
    return tts_infer.load_vocoder(folder, device="cpu", check=False)


def mel_of(batch: int, frames: int) -> Tensor:
    return torch.randn(batch, 20, frames, generator=torch.Generator().manual_seed(frames)) * 2 - 4


@pytest.mark.parametrize("istft", ["fft", "matmul"])
def test_parity_with_the_reference(reference: Reference, folder: Path, istft: Any) -> None:
    ours = tts_infer.load_vocoder(folder, device="cpu", istft=istft, check=False)
    assert (ours.sample_rate, ours.hop_length, ours.n_mels, ours.mel_config.sample_rate) == (48000, 128, 20, 24000)
    assert ours.decode(mel_of(3, 1)).shape == (3, 0)  # one frame has no end
    for frames in (2, 3, 10, 94):
        for batch in (1, 3):
            mel = mel_of(batch, frames)
            got, want = ours.decode(mel), reference(mel)
            assert got.shape == want.shape == (batch, (frames - 1) * 2 * HOP)
            assert relative_error(got, want) <= 1e-5  # float32 sums in another order


def test_both_bands_count(vocoder: tts_infer.Vocoder) -> None:
    """Otherwise parity would say nothing about one of them."""
    power = torch.fft.rfft(vocoder.decode(mel_of(1, 94))).abs().square()[0]
    half = len(power) // 2
    assert 0.01 < power[half:].sum() / power[:half].sum() < 100


def test_weights_without_parametrizations(reference: Reference, folder: Path, vocoder: tts_infer.Vocoder) -> None:
    """As the published file has them: weight norm was removed, and no other name changed."""
    stored = {key: value for key, value in reference.state_dict().items() if "parametrizations" not in key}
    for i, layer in enumerate(reference.upsampler.upsample_layers):  # type: ignore[arg-type]
        stored[f"upsampler.upsample_layers.{i}.weight"] = layer.weight.detach().contiguous()
    (folder / "plain").mkdir()
    (folder / "plain" / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    save_file({key: value.clone() for key, value in stored.items()}, folder / "plain" / "model.safetensors")
    loaded = tts_infer.load_vocoder(folder / "plain", device="cpu", check=False)
    assert relative_error(loaded.decode(mel_of(1, 10)), vocoder.decode(mel_of(1, 10))) <= 1e-6  # of the folded norm


@pytest.mark.parametrize("method", ["fft", "matmul"])
@pytest.mark.parametrize("samples", [512, 1536, 512 * 93, 10, 128])
def test_the_high_pass(samples: int, method: Any) -> None:
    x = torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))
    spectrum = torch.fft.rfft(x.double())
    bins = spectrum.shape[1]
    t = torch.arange(min(bins, bins // 2 + 4) - max(0, bins // 2 - 4), dtype=torch.float64)
    t = t / (len(t) - 1)
    gain = torch.cat([torch.zeros(max(0, bins // 2 - 4)), 3 * t**2 - 2 * t**3, torch.ones(bins)])[:bins]
    want = torch.fft.irfft(spectrum * gain, samples)
    got = HighPass(0.5, method)(x)
    assert (got - want).abs().max() <= 2e-6 * want.abs().max()  # float32 sums of up to 512 products, twice


@pytest.mark.parametrize(("old", "new", "hz"), [(1, 2, 1000.0), (2, 1, 2000.0)])
def test_resampling_keeps_a_tone(old: int, new: int, hz: float) -> None:
    rate = 24000 * old
    tone = torch.sin(2 * torch.pi * hz * torch.arange(rate // 10, dtype=torch.float64) / rate).float()[None]
    got = Resampled(old, new)(tone)
    want = torch.sin(2 * torch.pi * hz * torch.arange(got.shape[1]) / (24000 * new))
    assert got.shape == (1, 2400 * new)
    assert (got[0] - want)[100:-100].abs().max() <= 2e-3  # the passband ripple of a filter of 12 zero crossings


@pytest.mark.parametrize("istft", ["fft", "matmul"])
def test_batches_of_several_lengths_are_exact(folder: Path, istft: Any) -> None:
    ours = tts_infer.load_vocoder(folder, device="cpu", istft=istft, check=False)
    mel, lengths = mel_of(4, 61), [61, 17, 2, 1]
    ragged = ours.decode([mel[i, :, :n] for i, n in enumerate(lengths)])
    for i, n in enumerate(lengths):
        alone = ours.decode(mel[i : i + 1, :, :n])[0]
        assert ragged[i].shape == alone.shape == (128 * (n - 1),)
        assert not n > 1 or relative_error(ragged[i], alone) <= 1e-5  # float32 sums in another order


def test_items_that_are_too_many_for_once(vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vocoder.decode(mel_of(3, 30))
    monkeypatch.setattr("tts_infer.runtime.pipeline.Pipeline.max_frames", 40)
    assert relative_error(vocoder.decode(mel_of(3, 30)), whole) <= 1e-5  # as above
    with pytest.raises(tts_infer.InputError, match="has no streams and no pieces: its stage 'upsample' computes over"):
        vocoder.decode(mel_of(1, 41))


def test_busy_workers_cut_nothing(vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    mel = mel_of(1, 900)  # long enough for two parts of any other vocoder
    expected = vocoder.decode(mel)
    monkeypatch.setattr(workers, "should_share", lambda: True)
    monkeypatch.setattr(workers, "count", lambda: 2)
    assert relative_error(vocoder.decode(mel), expected) <= 1e-5  # one thread sums in another order


def test_streams_and_pieces_are_refused(vocoder: tts_infer.Vocoder, tmp_path: Path) -> None:
    for begin in (vocoder.stream, lambda: vocoder.stream(0), vocoder.mel_stream, lambda: vocoder.astream(iter([]))):
        with pytest.raises(tts_infer.InputError, match="this vocoder has no streams and no pieces") as caught:
            begin()
        assert len(str(caught.value)) < 300
    assert vocoder.max_frames == 16384
    np.save(tmp_path / "long.npy", np.zeros((20, 16385), np.float32))
    with pytest.raises(tts_infer.InputError, match="whole signals of at most 16384 frames"):
        tts_infer.synthesize_file(vocoder, tmp_path / "long.npy", tmp_path / "o.wav")
    assert not (tmp_path / "o.wav").exists()


def test_copies_and_files(vocoder: tts_infer.Vocoder, tmp_path: Path) -> None:
    """Audio comes at the rate of the vocoder, and its mel is that of half the rate."""
    audio = torch.randn(1, 48000, generator=torch.Generator().manual_seed(0)) / 10
    mel = vocoder.mel(audio)
    assert mel.shape == (1, 20, 1 + 24000 // HOP)
    halved = Resampled(2, 1)(audio)
    torch.testing.assert_close(mel, tts_infer.LogMel(vocoder.mel_config)(halved), rtol=0, atol=1e-3)  # small values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert relative_error(vocoder(audio), vocoder.decode(mel)) <= 1e-5  # as above
        tts_infer.write_audio(tmp_path / "a.wav", audio[0], 48000, "float32")
        tts_infer.write_audio(tmp_path / "b.wav", audio[0, ::2], 24000, "float32")
        for name in ("a.wav", "b.wav"):
            made = tts_infer.synthesize_file(vocoder, tmp_path / name, tmp_path / "o.wav", sample_format="float32")
            assert (made.sample_rate, made.samples, made.frames) == (48000, 375 * 128, 376)
        report = tts_infer.synthesize_batch(vocoder, [tmp_path / "b.wav"], tmp_path / "out")
    assert report.outputs == {"b.wav": 1.0} and not report.failed
    with pytest.raises(tts_infer.InputError, match="makes audio of 48000 Hz from mels of 24000 Hz"):
        systems_of([vocoder], [None])


def test_audit_self_test_and_report(folder: Path, vocoder: tts_infer.Vocoder) -> None:
    rows = audit(our_paths(load_model(resolve(folder))), torch.randn(2, 2560) / 10, shipped_tables().values())
    ours = [row for row in rows if row.path == "matmul"]
    assert {row.stage for row in ours} == {"halve", "mel", *STAGES}
    assert [row for row in ours if not row.clean] == []
    # items of several lengths run one by one, and their lengths are read from the device: nothing else is reported
    ragged = [row for row in rows if row.path == "matmul, ragged batch"]
    assert {row.stage for row in ragged if row.syncs} == {"upsample", "crossover"}
    assert not any(row.missing or row.complex or row.float64 for row in ragged)
    assert not any(row.path == "matmul, in pieces" for row in rows)
    report = doctor.examine("cpu", str(folder))
    assert {check["stage"] for check in report["checks"]} == {"halve", "mel", *STAGES}
    assert all(check["passed"] for check in report["checks"])
    result = vocoder.synthesize(mel_of(1, 20))
    assert [row["stage"] for row in result.stages] == STAGES and result.audio.shape == (1, 19 * 128)


@pytest.mark.parametrize("release", ["2.4.1", "2.13.0"])
def test_an_apple_gpu_gives_the_same(folder: Path, vocoder: tts_infer.Vocoder, release: str) -> None:
    mel = mel_of(2, 20)
    with emulated(release):
        there = tts_infer.load_vocoder(folder, device="emu", check=False)
        assert relative_error(there.decode(mel).cpu(), vocoder.decode(mel)) <= 1e-5  # float32 sums in another order
        for got, want in zip(
            there.decode([mel[0], mel[1, :, :7]]), vocoder.decode([mel[0], mel[1, :, :7]]), strict=True
        ):
            assert relative_error(got.cpu(), want) <= 1e-5  # as above
        split = tts_infer.load_vocoder(folder, device="cpu", placement="upsample=emu,crossover=emu/matmul", check=False)
        assert relative_error(split.decode(mel).cpu(), vocoder.decode(mel)) <= 1e-5  # as above
        assert split.max_frames == 4096  # by products


def test_it_is_not_exported(vocoder: tts_infer.Vocoder, tmp_path: Path) -> None:
    with pytest.raises(tts_infer.ExportError, match="its stage 'halve' computes over the whole signal") as caught:
        tts_infer.export_onnx(vocoder, tmp_path / "a.onnx")
    assert len(str(caught.value)) < 300 and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("upsampler", {"upsample_factors": [3, 1]}, "upsample_factors is (3, 1); allowed: factors of 2"),
        ("upsampler", {"upsample_factors": []}, "upsample_factors is (); allowed: a few whole numbers above 0"),
        ("upsampler", {"kernel_sizes": [8]}, "kernel_sizes is (8,); allowed: as many as upsample_factors"),
        ("upsampler", {"kernel_sizes": [1, 8]}, "kernel_sizes is (1, 8); allowed: no less than the factors"),
        ("upsampler", {"in_channels": 96}, "in_channels is 96; allowed: a multiple of 128"),
        ("upsampler", {"in_channels": 256}, "backbone.dim is 128 but upsampler.in_channels is 256"),
        ("head_48k", {"hop_length": 32}, "head.hop_length is 64 but head_48k.hop_length is 32"),
        ("head_48k", {"padding": "same"}, "head.padding is center but head_48k.padding is same"),
    ],
)
def test_sizes_that_do_not_fit(part: str, change: dict[str, Any], message: str) -> None:
    document = json.loads(json.dumps(CONFIG))
    document[part]["init_args"] |= change
    with pytest.raises(tts_infer.ConfigError) as caught:
        read_document(document, FAMILIES.values(), None, "config.yaml")
    assert message in str(caught.value)


def test_its_entry(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    preset = tts_infer.known_vocoders()["luxtts-48khz"]
    sizes = {"n_fft": 1024, "hop_length": 256, "padding": "center", "dim": 512}
    document = {
        "feature_extractor": section(CONFIG["feature_extractor"]["class_path"]),
        "backbone": section(
            "vocos.models.VocosBackbone", input_channels=100, dim=512, intermediate_dim=1536, num_layers=8
        ),
        "head": section("vocos.heads.ISTFTHead", **sizes),
        "upsampler": section(CONFIG["upsampler"]["class_path"], in_channels=512, upsample_factors=[2, 1]),
        "head_48k": section("vocos.heads.ISTFTHead", **sizes),
    }
    family, config = read_document(document, FAMILIES.values(), preset, "config.yaml")
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in family.build(config).parameters())
    assert f"{count / 1e6:.1f} M parameters" in preset.description and preset.size_mb == round(4 * count / 1e6, 1)
    assert (preset.sample_rate, family.features(config).sample_rate) == (48000, 48000)
    assert main(["vocoders", str(folder)]) == 0
    assert "receptive field      the whole signal: no streams, no pieces" in capsys.readouterr().out
