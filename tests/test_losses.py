"""The losses are those of auraloss 0.4, with lengths, finite gradients, and nothing that an Apple GPU lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import auraloss.freq
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tts_infer import ConfigError, InputError, LogMel, MelConfig
from tts_infer.config import SpectralMethod
from tts_infer.diagnose.audit import MPSRecorder, shipped_tables
from tts_infer.losses import (
    LogMelLoss,
    MelSTFTLoss,
    MultiResolutionSTFTLoss,
    RandomResolutionSTFTLoss,
    STFTLoss,
    SumAndDifferenceSTFTLoss,
    Terms,
)

METHODS: tuple[SpectralMethod, ...] = ("matmul", "fft")
THREE: dict[str, Any] = {"fft_sizes": [1024, 2048, 512], "hop_sizes": [120, 240, 50], "win_lengths": [600, 1200, 240]}
MEL: dict[str, Any] = {"sample_rate": 24000, "scale": "mel", "n_bins": 40}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one": ("STFTLoss", {}),
    "several": ("MultiResolutionSTFTLoss", {}),
    "convergence": ("MultiResolutionSTFTLoss", {"w_log_mag": 0.0}),
    "log": ("MultiResolutionSTFTLoss", {"w_sc": 0.0, "eps": 1e-5}),
    "linear": ("MultiResolutionSTFTLoss", {"w_sc": 0.0, "w_log_mag": 0.0, "w_lin_mag": 0.7}),
    "sum of squares": ("MultiResolutionSTFTLoss", {"w_lin_mag": 2.0, "reduction": "sum", "mag_distance": "L2"}),
    "phase": ("MultiResolutionSTFTLoss", {"w_phs": 0.5}),
    "mel": ("MelSTFTLoss", {"sample_rate": 24000, "n_mels": 64}),
    "several, mel": ("MultiResolutionSTFTLoss", MEL),
    "weighted": ("MultiResolutionSTFTLoss", {"sample_rate": 44100, "perceptual_weighting": True}),
    "weighted, 16 kHz": ("STFTLoss", {"sample_rate": 16000, "perceptual_weighting": True}),
    "stereo": ("SumAndDifferenceSTFTLoss", {**THREE, "w_diff": 0.3}),
    **{name: ("STFTLoss", {"window": f"{name}_window"}) for name in ("hamming", "blackman", "bartlett", "kaiser")},
}
OURS = {c.__name__: c for c in (STFTLoss, MultiResolutionSTFTLoss, MelSTFTLoss, SumAndDifferenceSTFTLoss)}


def pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise and a disturbed copy. Both begin and end in silence: the first and last frame of an STFT are mirrored, so
    their phases are 0 or +-pi, and rounding decides which."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(*shape, generator=generator) * 0.1
    input = target + torch.randn(*shape, generator=generator) * 0.05
    for audio in (input, target):
        audio[..., :1200] = audio[..., -1200:] = 0.0
    return input, target


def run(loss: nn.Module, input: Tensor, target: Tensor, *lengths: Tensor) -> tuple[float, Tensor]:
    """The loss and its gradient."""
    input = input.clone().requires_grad_()
    value = loss(input, target, *lengths)
    (gradient,) = torch.autograd.grad(value, input)
    return value.item(), gradient


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_parity_with_auraloss(case: str, method: SpectralMethod) -> None:
    name, settings = CASES[case]
    input, target = pair(1, 2, 4000)
    value, gradient = run(OURS[name](**settings, method=method), input, target)
    expected, slope = run(getattr(auraloss.freq, name)(**settings), input, target)
    assert value == pytest.approx(expected, rel=1e-5)
    # where input and target are nearly equal, rounding decides the sign of the difference, which is the slope of L1
    assert (gradient - slope).norm() <= 2e-3 * slope.norm()


@pytest.mark.parametrize("method", METHODS)
def test_random_resolutions_are_drawn_as_auraloss_draws_them(method: SpectralMethod) -> None:
    input, target = pair(2, 1, 6000)
    np.random.seed(3)
    theirs = auraloss.freq.RandomResolutionSTFTLoss(max_fft_size=2048, randomize_rate=2)
    expected = [theirs(input, target).item() for _ in range(4)]
    ours = RandomResolutionSTFTLoss(max_fft_size=2048, randomize_rate=2, seed=3, method=method)
    got = [ours(input, target).item() for _ in range(4)]
    assert got == pytest.approx(expected, rel=1e-5)
    assert got[0] == got[1] != got[2] == got[3]


def test_scale_invariance_is_that_of_each_item() -> None:
    input, target = pair(3, 1, 6000)
    ours = STFTLoss(scale_invariance=True, w_sc=0.0)
    theirs = auraloss.freq.STFTLoss(scale_invariance=True, w_sc=0.0)
    one_by_one = [theirs(x[None], y[None]).item() for x, y in zip(input, target, strict=True)]  # refuses batches
    assert ours(input, target).item() == pytest.approx(np.mean(one_by_one), rel=1e-5)
    gains = torch.tensor([0.5, 2.0, 3.0])[:, None, None]
    input, target = input[..., 1200:4800], target[..., 1200:4800]  # silence stays at the floor and has no scale
    linear = STFTLoss(scale_invariance=True, w_sc=0.0, eps=1e-20)
    assert linear(input, target * gains).item() == pytest.approx(linear(input, target).item(), rel=1e-4)


def test_terms_are_those_of_auraloss() -> None:
    input, target = pair(2, 1, 6000)
    weights: dict[str, Any] = {"w_lin_mag": 0.5, "w_phs": 0.25}
    expected = auraloss.freq.STFTLoss(**weights, output="full")(input, target)
    got = STFTLoss(**weights).terms(input, target)
    assert [term.item() for term in got] == pytest.approx([term.item() for term in expected], rel=1e-5)
    several = MultiResolutionSTFTLoss().terms(input, target)
    assert several.loss.item() == pytest.approx((several.convergence + several.log).item(), rel=1e-6)
    assert several.linear.item() == several.phase.item() == 0.0


def test_log_mel_loss_is_the_distance_of_log_mels() -> None:
    input, target = pair(2, 6000)
    for config in (MelConfig(), MelConfig(padding="same", power_eps=1e-9, log_floor=1e-5), MelConfig(power=2)):
        mel = LogMel(config)
        expected = (mel(input) - mel(target)).abs().mean().item()
        for method in METHODS:
            assert LogMelLoss(config, method)(input, target).item() == pytest.approx(expected, rel=1e-5)


EVERYTHING: dict[str, Callable[[], nn.Module]] = {
    "magnitudes": lambda: MultiResolutionSTFTLoss([512, 256], [100, 64], [400, 256], w_lin_mag=1.0),
    "phase": lambda: STFTLoss(w_phs=1.0),
    "mel": lambda: STFTLoss(sample_rate=24000, scale="mel", n_bins=80),
    "empty mel bands": lambda: MelSTFTLoss(24000, 64, 16, 64, n_mels=128),
    "weighted": lambda: STFTLoss(perceptual_weighting=True, sample_rate=24000, scale_invariance=True),
    "random": lambda: RandomResolutionSTFTLoss(min_fft_size=64, max_fft_size=512, seed=1),
    "log-mel": LogMelLoss,
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_comes_after_an_item_has_no_influence(name: str) -> None:
    """Items of one length in longer tensors, followed by NaN, against the items alone."""
    input, target = (audio[..., 1200:4000] for audio in pair(2, 6000))
    value, slope = run(EVERYTHING[name](), input, target)
    longer = [nn.functional.pad(audio, (0, 900), value=float("nan")) for audio in (input, target)]
    got, gradient = run(EVERYTHING[name](), *longer, torch.tensor([2800, 2800]))
    assert got == pytest.approx(value, rel=1e-5)
    # a few bins of mirrored frames are at the branch cut, see `pair`
    assert (gradient[:, :2800] - slope).norm() <= 2e-3 * slope.norm()
    assert not gradient[:, 2800:].any()


@pytest.mark.parametrize("settings", [{}, MEL, {"mag_distance": "L2"}], ids=["L1", "mel", "L2"])
def test_items_of_several_lengths(settings: dict[str, Any]) -> None:
    """A sum is that of the items alone, a mean counts frames, and the norms are those of all frames."""
    input, target = (audio[..., 1200:4500] for audio in pair(4, 2, 6000))
    lengths = torch.tensor([3300, 1, 700, 0])
    loss = STFTLoss(256, 64, 256, w_lin_mag=1.0, **settings)
    alone = [loss.terms(input[i : i + 1, :, :n], target[i : i + 1, :, :n]) for i, n in enumerate((3300, 1, 700))]
    weights = np.array([3300 // 64 + 1, 1, 700 // 64 + 1])
    together = loss.terms(input, target, lengths)
    for name in ("log", "linear"):
        expected = np.average([getattr(terms, name).item() for terms in alone], weights=weights)
        assert getattr(together, name).item() == pytest.approx(expected, rel=1e-5)
    total = STFTLoss(256, 64, 256, w_sc=0.0, reduction="sum", **settings)
    expected = sum(
        total(input[i : i + 1, :, :n], target[i : i + 1, :, :n]).item() for i, n in enumerate((3300, 1, 700))
    )
    assert total(input, target, lengths).item() == pytest.approx(expected, rel=1e-5)
    halves = loss.terms(torch.cat([input[:1]] * 2), torch.cat([target[:1]] * 2), torch.tensor([3300, 0]))
    assert halves.convergence.item() == pytest.approx(alone[0].convergence.item(), rel=1e-5)


@pytest.mark.parametrize("samples", [1, 300, 1500])
@pytest.mark.parametrize("name", EVERYTHING)
def test_gradients_are_finite_at_zero_and_for_short_signals(name: str, samples: int) -> None:
    noise = pair(2, 6000)[0][:, 2000 : 2000 + samples]
    silence = torch.zeros(2, samples)
    for input, target in ((silence, noise), (noise, silence), (silence, silence), (noise, noise)):
        for lengths in ((), (torch.tensor([samples, 0]),)):
            value, gradient = run(EVERYTHING[name](), input, target, *lengths)
            assert np.isfinite(value) and gradient.isfinite().all()
            assert (value == 0.0) == (input is target)


def test_silence_has_no_phase() -> None:
    """Powers that float32 cannot hold count as silence."""
    quiet = pair(1, 4000)[0] * 1e-25
    loss = STFTLoss(w_phs=1.0)
    assert loss.terms(quiet, torch.zeros_like(quiet)).phase == 0.0
    assert loss.terms(quiet * 1e25, torch.zeros_like(quiet)).phase > 1.0


def test_gradients_are_those_of_the_values() -> None:
    """Against differences of values, in float64."""
    input, target = (audio[..., 2000:2036].double() for audio in pair(2, 6000))
    loss = STFTLoss(16, 8, 12, w_lin_mag=1.0, w_phs=0.1, sample_rate=16000, perceptual_weighting=True).double()
    mel = LogMelLoss(MelConfig(n_fft=16, hop_length=8, n_mels=4)).double()
    for one in (loss, mel):
        for lengths in (None, torch.tensor([36, 19])):
            assert torch.autograd.gradcheck(lambda x: one(x, target, lengths), input.clone().requires_grad_())  # noqa: B023


def recorded(loss: nn.Module, release: str, *lengths: Tensor) -> MPSRecorder:
    input, target = (audio[..., 2000:2800] for audio in pair(2, 1, 6000))
    input.requires_grad_()
    with MPSRecorder(shipped_tables()[release]) as seen:
        loss(input, target, *lengths).backward()
    return seen


@pytest.mark.parametrize("release", shipped_tables())
@pytest.mark.parametrize("name", [name for name in EVERYTHING if name != "random"])
def test_apple_gpus_have_every_operator_forward_and_backward(name: str, release: str) -> None:
    loss = EVERYTHING[name]()
    for lengths in ((), (torch.tensor([800, 500]),)):
        seen = recorded(loss, release, *lengths)
        assert [+seen.missing, +seen.complex, +seen.float64, +seen.syncs] == [{}, {}, {}, {}]
        assert seen.operators["mm"] + seen.operators["bmm"] > 4 and "angle" not in seen.operators


def test_auraloss_lacks_operators_there() -> None:
    """The audit of a loss can fail."""
    seen = recorded(auraloss.freq.STFTLoss(512, 128, 512), "2.4.1")
    assert "angle" in +seen.missing and +seen.complex


def test_mistakes_are_named() -> None:
    audio = torch.zeros(2, 100)
    wrong: dict[str, Callable[[], object]] = {
        "loss-shapes": lambda: STFTLoss()(audio, audio[:1]),
        "loss-lengths": lambda: STFTLoss()(audio, audio, torch.tensor([100])),
        "loss-audio-short": lambda: LogMelLoss(MelConfig(padding="same"))(audio, audio),
        "loss-stereo": lambda: SumAndDifferenceSTFTLoss()(audio, audio),
        "loss-window": lambda: STFTLoss(window="hann"),  # type: ignore[arg-type]
        "loss-argument": lambda: STFTLoss(reduction="none"),  # type: ignore[arg-type]
        "loss-bins": lambda: STFTLoss(scale="mel", sample_rate=24000),
        "loss-sample-rate": lambda: STFTLoss(perceptual_weighting=True),
        "loss-resolutions": lambda: MultiResolutionSTFTLoss([512], [128], []),
        "loss-random": lambda: RandomResolutionSTFTLoss(max_fft_size=16),
    }
    for code, call in wrong.items():
        with pytest.raises((ConfigError, InputError)) as caught:
            call()
        assert caught.value.code == code and len(str(caught.value)) < 300


def test_losses_have_no_weights() -> None:
    loss = MultiResolutionSTFTLoss(sample_rate=24000, perceptual_weighting=True)
    assert not loss.state_dict() and not list(loss.parameters())
    assert Terms._fields == ("loss", "convergence", "log", "linear", "phase")
