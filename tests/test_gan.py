"""HiFi-GAN and BigVGAN against modules written after their repositories, from the files that those save."""

from __future__ import annotations

import copy
from pathlib import Path

import librosa
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tts_infer
from tests.emulated_device import emulated
from tests.gan import KINDS, MELS, SIZES, Reference, official_weights, save
from tts_infer.diagnose.audit import audit, installed_table, our_paths, shipped_tables
from tts_infer.runtime.selftest import StageTrial
from tts_infer.stages import relative_error
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.checkpoint import load_model, resolve


@pytest.fixture(params=KINDS, scope="module")
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tts_infer.Vocoder, Reference]:
    """A vocoder loaded from files, and the reference with the same weights."""
    config = SIZES | KINDS[request.param]
    weights = official_weights(config)
    folder = save(tmp_path_factory.mktemp("gan"), config, weights)
    return tts_infer.load_vocoder(folder, device="cpu", check=False), Reference(config, weights)


def test_parity(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, reference = pair
    for frames in (1, 2, 3, 10, 94):
        for batch in (1, 3):
            mel = MELS[:batch, :, :frames]
            want = reference(mel)
            got = vocoder.decode(mel)
            assert got.shape == (batch, 16 * frames)
            assert relative_error(got, want) <= 1e-5  # float32 sums in another order
    assert want.std() > 0.1 and want.abs().quantile(0.95) < 0.98  # the network matters, and is not clipped


def test_pieces_ragged_batches_and_streams(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    """The context is the receptive field, so all of them are exact."""
    vocoder, _ = pair
    whole = vocoder.decode(MELS)
    for sizes in ([1] * 10 + [84], [5, 40, 0, 49], [94]):
        stream = vocoder.stream()
        pieces = torch.cat(list(stream.decode(MELS.split(sizes, dim=2))), dim=1)
        assert relative_error(pieces, whole) <= 1e-5  # as above
    lengths = [94, 1, 37]
    items = [MELS[i, :, :n] for i, n in enumerate(lengths)]
    for got, item in zip(vocoder.decode(items), items, strict=True):
        assert relative_error(got, vocoder.decode(item)[0]) <= 1e-5  # as above
    padded = torch.stack([F.pad(item, (0, 94 - item.shape[1]), value=9.0) for item in items])
    for got, item in zip(vocoder.decode(padded, lengths), items, strict=True):
        assert relative_error(got, vocoder.decode(item)[0]) <= 1e-5  # as above


def test_long_input_is_decoded_in_pieces(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, reference = pair
    mel = torch.randn(1, 12, vocoder.max_frames + 100, generator=torch.Generator().manual_seed(2))
    assert relative_error(vocoder.decode(mel), reference(mel)) <= 1e-5  # as above


def test_the_receptive_field_is_exact(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    """By gradients: they show even the weakest of all paths, where outputs would round it away."""
    model, middle = copy.deepcopy(pair[0].model).double(), 47
    mel = MELS[:1].double().requires_grad_()
    model(mel)[0, 16 * middle : 16 * middle + 16].sum().backward()
    assert mel.grad is not None
    touched = mel.grad.abs().amax(dim=(0, 1)).nonzero().flatten()
    reach = max(middle - int(touched[0]), int(touched[-1]) - middle)
    assert reach == model.receptive_field
    assert pair[0].stream().delay_frames == reach


def test_less_lookahead_comes_earlier(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, _ = pair
    whole, full = vocoder.decode(MELS), vocoder.stream().delay_frames
    errors = []
    for lookahead in (full, full // 2, 0):
        stream = vocoder.stream(lookahead)
        assert stream.push(MELS[..., :50]).shape == (3, 16 * (50 - lookahead))
        stream.reset()
        audio = torch.cat(list(stream.decode(MELS.split(20, dim=2))), dim=1)
        assert audio.shape == whole.shape
        errors.append(relative_error(audio, whole))
    assert errors[0] <= 1e-5 < errors[2] and errors[1] < errors[2]  # the first as above


def test_frames_that_a_stream_does_not_wait_for_are_copies_of_the_last_one(
    pair: tuple[tts_infer.Vocoder, Reference],
) -> None:
    vocoder, _ = pair
    held = torch.cat([MELS[..., :50], MELS[..., 49:50].expand(-1, -1, 8)], dim=2)
    got = vocoder.stream(2).push(MELS[..., :50])
    assert relative_error(got, vocoder.decode(held)[:, : 16 * 48]) <= 1e-5  # as above


def test_the_mel_is_that_of_the_repositories(pair: tuple[tts_infer.Vocoder, Reference], speech: Tensor) -> None:
    """Source: meldataset.py mel_spectrogram of both repositories."""
    vocoder, reference = pair
    config = reference.config
    sizes = {"sr": 24000, "n_fft": 64, "n_mels": 12, "fmin": 0, "fmax": config["fmax"]}
    basis = torch.from_numpy(librosa.filters.mel(**sizes)).float()
    padded = F.pad(speech[:, None, :8000], (24, 24), mode="reflect")[:, 0]
    window = torch.hann_window(64)
    spectrum = torch.stft(padded, 64, 16, 64, window, center=False, return_complex=True)
    want = (basis @ (spectrum.abs().square() + 1e-9).sqrt()).clamp(min=1e-5).log()
    got = vocoder.mel(speech[:, :8000])
    assert got.shape == want.shape == (1, 12, 500)
    assert (got - want).abs().max() <= 1e-3  # logarithms magnify what float32 rounds, where the mel is near its floor
    assert vocoder(speech[:, :8000]).shape == (1, 8000)


def test_self_test_stage_report_and_placement(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, _ = pair
    for stage in FAMILIES["bigvgan"].stages(vocoder.model):
        check = StageTrial(stage, torch.device("cpu"), "torch", "fft" if stage.methods else "").check()
        assert check.passed and check.error < 1e-5  # the same code on the same device
    rows = vocoder.synthesize(audio=torch.zeros(1, 320)).stages
    assert [row["stage"] for row in rows] == ["mel", "generator"]
    assert str(vocoder.placement) == "mel=cpu/fft,generator=cpu/torch"
    with pytest.raises(tts_infer.InputError, match="leave refine at 0"):
        vocoder.decode(MELS, refine=1)


@pytest.mark.parametrize("kind", ["HiFi-GAN, blocks 1", "BigVGAN v2"])
def test_the_audit_is_clean_in_every_release(kind: str, tmp_path: Path) -> None:
    config = SIZES | KINDS[kind]
    model = load_model(resolve(save(tmp_path / "gan", config, official_weights(config))))
    audio = torch.randn(2, 320, generator=torch.Generator().manual_seed(0)) * 0.1
    rows = audit(our_paths(model), audio, [*shipped_tables().values(), installed_table()])
    ours = [row for row in rows if row.path in ("matmul", "matmul, in pieces")]
    assert {row.stage for row in ours} == {"mel", "generator"} and all(row.operators for row in ours)
    assert [row for row in ours if not row.clean] == []
    # items of several lengths run one by one, and their lengths are read from the device: nothing else is reported
    ragged = [row for row in rows if row.path == "matmul, ragged batch" and row.stage == "generator"]
    assert ragged and all(row.syncs and not (row.missing or row.complex or row.float64) for row in ragged)


def test_the_emulated_device_equals_the_cpu(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, _ = pair
    with emulated("2.4.1") as device:
        placement = tts_infer.make_placement(device="emu", check=False, stages=vocoder.stages)
        there = tts_infer.Vocoder(copy.deepcopy(vocoder.model), placement, "there")
        mel = MELS[:2, :, :30]
        audio = there.decode(mel)
        assert device.waits == 0
        assert relative_error(audio.cpu(), vocoder.decode(mel)) <= 1e-5  # float32 sums in another order
        mixed = "mel=cpu/fft,generator=emu"
        split = tts_infer.make_placement(mixed, check=False, stages=vocoder.stages)
        copied = tts_infer.Vocoder(copy.deepcopy(vocoder.model), split, "mixed")(torch.ones(1, 320))
        assert relative_error(copied.cpu(), vocoder(torch.ones(1, 320))) <= 1e-5  # as above


@pytest.mark.parametrize("kind", ["HiFi-GAN, blocks 1", "BigVGAN v2"])
def test_onnx_runtime_equals_torch(kind: str, tmp_path: Path) -> None:
    """Other lengths than the one that the graph was traced with, too."""
    config = SIZES | KINDS[kind]
    folder = save(tmp_path / "gan", config, official_weights(config))
    vocoder = tts_infer.load_vocoder(folder, device="cpu", check=False)
    graph = tts_infer.load_vocoder(folder, placement="generator=cpu/onnxruntime", check=False)
    for frames in (1, 2, 94):
        mel = MELS[..., :frames]
        assert relative_error(graph.decode(mel), vocoder.decode(mel)) <= 1e-5  # float32 sums in another order
