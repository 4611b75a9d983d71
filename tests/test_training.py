"""Training: its parts by what they promise, and a run that is killed ends as one that is not."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soxr
import torch
import yaml
from torch import Tensor

import tts_infer
from tests.conftest import ROOT
from training.data import Pool, Segments, tones
from training.discriminators import Discriminators
from training.disturbance import DisturbanceLoss
from training.export import export
from training.generator import Generator, Prediction
from training.losses import (
    OWN,
    Analysis,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    phase_loss,
    spectral_losses,
    stft,
)
from training.perceptual import ConsistencyLoss, LoudnessLoss, PulseLoss, lookahead_loss
from training.prepare import PEAK, SPEED_BANDS, prepare
from training.recipe import Comparisons, Phase, Recipe, Source, Weights, read_recipe
from training.refined import TrainableRefinement
from training.train import main
from training.trainer import EARLY, Trainer
from tts_infer.config import MelConfig
from tts_infer.dsp.istft import ISTFT
from tts_infer.errors import ConfigError, InputError
from tts_infer.evaluation import metrics
from tts_infer.vocoders.vocos import BackboneConfig, HeadConfig, VocoderConfig

SMALL = VocoderConfig(
    backbone=BackboneConfig(dim=16, intermediate_dim=32, num_layers=2), head=HeadConfig(16, padding="center")
)
SEGMENT = 8192


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    path = tmp_path_factory.mktemp("pools") / "examples"
    prepare(ROOT / "examples", path, 24000, SEGMENT)
    return Pool.open(path)


@pytest.fixture
def segments(pool: Pool) -> Segments:
    return Segments({"examples": pool}, {"examples": 1.0}, SEGMENT, 24000, seed=5)


def test_a_pool_holds_every_file_in_every_band(pool: Pool) -> None:
    files = [p for p in (ROOT / "examples").iterdir() if p.suffix in (".wav", ".flac")]
    assert len(pool.starts) == len(files) * (1 + len(SPEED_BANDS))
    assert pool.starts[0] == 0 and pool.ends[-1] == len(pool.samples)
    np.testing.assert_array_equal(pool.starts[1:], pool.ends[:-1])
    for start, end in zip(pool.starts, pool.ends, strict=True):
        assert end - start >= SEGMENT
        assert abs(np.abs(pool.samples[start:end]).max() - PEAK * 32767) <= 1


def test_batches_depend_on_seed_and_step_alone(pool: Pool, segments: Segments) -> None:
    batch = segments.batch(7, 4)
    assert batch.shape == (4, SEGMENT) and batch.dtype == torch.float32
    assert torch.equal(segments.batch(7, 4), batch)
    assert not torch.equal(segments.batch(8, 4), batch)
    other = Segments({"examples": pool}, {"examples": 1.0}, SEGMENT, 24000, seed=6)
    assert not torch.equal(other.batch(7, 4), batch)
    assert float(torch.cat([segments.batch(step, 8) for step in range(10)]).abs().max()) <= 1.2  # equal rooms may add


def test_tones_are_in_band_and_at_their_level() -> None:
    for seed in range(20):
        signal_ = tones(24000, 24000, np.random.default_rng(seed))
        assert abs(np.abs(signal_).max() - 0.95) < 1e-6
        spectrum = np.abs(np.fft.rfft(signal_ * np.hanning(len(signal_)))) ** 2
        assert spectrum[:11500].sum() > 0.999 * spectrum.sum()


def test_stft_and_its_gradient_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    window = torch.hann_window(256, dtype=torch.float64)
    audio = torch.randn(2, 1000, dtype=torch.float64, generator=generator, requires_grad=True)
    weights = torch.randn(2, 1000 // 64 + 1, 129, dtype=torch.complex128, generator=generator)
    ours = stft(audio, window, 64)
    official = torch.stft(audio, 256, 64, window=window, return_complex=True).transpose(1, 2)
    torch.testing.assert_close(ours, official)
    gradients = [torch.autograd.grad((s * weights).real.sum(), audio)[0] for s in (ours, official)]
    torch.testing.assert_close(*gradients)


def test_a_copy_has_no_spectral_loss_and_a_quiet_one_what_it_should(speech: Tensor) -> None:
    analysis = Analysis(MelConfig())
    wanted = analysis(speech)
    assert all(float(term) == 0 for term in spectral_losses(wanted, wanted).values())
    half = spectral_losses(analysis(speech / 2), wanted)
    assert float(half["convergence"]) == pytest.approx(4 * 0.5, rel=1e-3)  # four resolutions
    assert float(half["mel"]) == pytest.approx(math.log(2), rel=1e-2)  # some bins are at the floor
    assert wanted[OWN].log_mel.shape[2] == 100
    # the filters from bin 31 on have nothing below 1 kHz
    above = wanted[OWN].log_mel.clone()
    above[..., 31:] += 1
    higher = spectral_losses(wanted | {OWN: replace(wanted[OWN], log_mel=above)}, wanted)
    assert float(higher["low_mel"]) == 0 and float(higher["mel"]) == pytest.approx(0.69)
    # the input of the generator is the product's mel
    mel = tts_infer.LogMel(MelConfig(), "fft")(speech).transpose(1, 2)
    torch.testing.assert_close(wanted[OWN].log_mel, mel, atol=1e-2, rtol=0)  # 1e-12 under the root counts in silence


def test_phase_loss_wants_the_steps_of_the_phase(speech: Tensor) -> None:
    wanted = Analysis(MelConfig())(speech)[OWN]
    true = wanted.spectrum.angle()
    turns = 2 * math.pi * torch.randint(-3, 4, true.shape, generator=torch.Generator().manual_seed(0))
    assert float(phase_loss(true + turns, wanted)) < 1e-4  # whole turns and
    assert float(phase_loss(true + 1.0, wanted)) < 1e-4  # a constant are free
    noise = torch.rand(true.shape, generator=torch.Generator().manual_seed(1)) * 2 * math.pi
    assert float(phase_loss(noise, wanted)) > 1


def test_loudness_hears_what_is_loud(speech: Tensor) -> None:
    loudness = LoudnessLoss(24000)
    assert float(loudness(-speech, speech)) < 0.02  # the root of its smallest square, over a mean of 0.25
    noise = torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))
    faint, loud = (float(loudness(speech + level * noise, speech)) for level in (1e-5, 1e-2))
    assert faint < 0.1 * loud
    twice = float(loudness(2 * speech, speech))
    assert twice == pytest.approx(2 * (2 ** (2 * LoudnessLoss.EXPONENT) - 1), rel=0.5)  # of two resolutions


def test_disturbance_is_what_pesq_takes_off(speech: Tensor) -> None:
    disturbance = DisturbanceLoss(24000)
    noise = torch.randn(speech.shape, generator=torch.Generator().manual_seed(0)) * speech.std()
    for degraded in (speech + level * noise for level in (0.003, 0.02, 0.1)):
        reference, copy = (soxr.resample(x[0].numpy(), 24000, 16000) for x in (speech, degraded))
        pesq = metrics.pesq_wb(reference, copy)
        raw = (3.8224 - math.log(4 / (pesq - 0.999) - 1)) / 1.3669  # P.862.2's mapping, the other way round
        # Its filters run at another rate, and it evens gains out over the whole file: 0.01 to 0.08 on three recordings.
        assert 4.5 - float(disturbance(degraded, speech)) == pytest.approx(raw, abs=0.1)


def test_disturbance_forgives_levels_and_minds_what_is_added(speech: Tensor) -> None:
    disturbance = DisturbanceLoss(24000)
    assert float(disturbance(speech, speech)) < 0.01  # the roots of their smallest squares
    assert float(disturbance(speech / 8, speech)) < 0.01  # both are brought to one level
    noisy = speech + 0.02 * speech.std() * torch.randn(speech.shape, generator=torch.Generator().manual_seed(1))
    assert float(disturbance(noisy / 8, speech / 8)) == pytest.approx(float(disturbance(noisy, speech)), rel=0.03)
    quieter, louder = speech.clone(), speech.clone()
    middle = speech.shape[1] // 2
    quieter[:, middle:] /= 2
    louder[:, middle:] *= 2
    assert max(float(disturbance(x, speech)) for x in (quieter, louder)) < 0.1  # and each frame's gain is made up for
    noise = 0.02 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0)) * speech.std()
    (_, added), (_, removed) = (
        disturbance.disturbances(x, y) for x, y in ((speech + noise, speech), (speech, speech + noise))
    )
    assert float(added.mean()) > 3 * float(removed.mean())


def test_disturbance_at_another_rate(speech: Tensor) -> None:
    noise = 0.02 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(1)) * speech.std()
    noisy, clean = (torch.from_numpy(soxr.resample(x[0].numpy(), 24000, 22050))[None] for x in (speech + noise, speech))
    found = DisturbanceLoss(22050)(noisy.requires_grad_(), clean)
    found.backward()
    # Other frames of the same sound: 0.02 to 0.8 % on three recordings.
    assert float(found.detach()) == pytest.approx(float(DisturbanceLoss(24000)(speech + noise, speech)), rel=0.02)
    assert noisy.grad is not None and bool(noisy.grad.isfinite().all())


def test_silence_is_not_brought_to_the_level_of_speech() -> None:
    silence, generator = torch.zeros(2, SEGMENT), torch.Generator().manual_seed(0)
    faint = (1e-7 * torch.randn(2, SEGMENT, generator=generator)).requires_grad_()
    loss = DisturbanceLoss(24000)(faint, silence)
    loss.backward()
    assert float(loss.detach()) < 0.05  # of a point
    assert faint.grad is not None and bool(faint.grad.isfinite().all())


def test_pulses_count_by_their_shape_and_not_by_their_time() -> None:
    generator = torch.Generator().manual_seed(0)
    pulses = torch.zeros(1, 24000)
    pulses[:, ::200] = 0.5  # 120 Hz
    spectrum = torch.fft.rfft(pulses)
    phases = 2 * torch.pi * torch.rand(spectrum.shape, generator=generator)
    smeared = torch.fft.irfft(torch.polar(spectrum.abs(), phases))  # the same magnitudes
    loss = PulseLoss(24000)
    assert float(loss(pulses, pulses)) == 0
    # frames begin elsewhere in the period
    assert float(loss(pulses.roll(67, dims=1), pulses)) < 0.2 * float(loss(smeared, pulses))
    assert float(loss(0.25 * pulses, pulses)) < 0.01 * float(loss(smeared, pulses))  # not the level either
    assert float(loss(smeared, torch.zeros(1, 24000))) == 0  # silence has no pulses


def test_consistency_wants_what_refinement_makes(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    analysis, config = Analysis(vocoder.mel_config), vocoder.mel_config
    loss = ConsistencyLoss(config, vocoder.head.istft, 2)
    speech = speech[:, : speech.shape[1] // config.hop_length * config.hop_length]
    own = analysis(speech)[OWN]
    copies = [vocoder(speech, refine=passes) for passes in (0, 8)]
    rough, refined = (float(loss(analysis(copy)[OWN].spectrum, own.log_mel)) for copy in copies)
    assert float(loss(own.spectrum, own.log_mel)) < 0.1 * refined  # a recording has its own mel
    assert refined < 0.5 * rough
    spectrum = analysis(copies[0])[OWN].spectrum.requires_grad_()
    loss(spectrum, own.log_mel).backward()
    assert spectrum.grad is not None and float(spectrum.grad.abs().sum()) > 0


def test_refined_audio_is_that_of_the_product_and_has_its_gradients(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    log_mel = vocoder.mel(speech).clone().transpose(1, 2)
    generator = Generator(vocoder.model.config)
    generator.backbone.load_state_dict(vocoder.backbone.state_dict())
    generator.head.out.load_state_dict(vocoder.head.out.state_dict())
    with torch.no_grad():
        got = TrainableRefinement(vocoder.mel_config, vocoder.head.istft).audio(generator(log_mel).spectrum, log_mel, 3)
    expected = vocoder.decode(log_mel.transpose(1, 2), refine=3)
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()  # as without passes

    rng, small = torch.Generator().manual_seed(0), MelConfig(sample_rate=8000, n_fft=32, hop_length=8, n_mels=6)
    refined = TrainableRefinement(small, ISTFT(32, 8, method="fft")).double()
    assert refined.band is not None
    real, imag = (torch.randn(1, 6, 17, generator=rng).double().requires_grad_() for _ in range(2))
    mel = torch.randn(1, 6, 6, generator=rng).double()
    assert torch.autograd.gradcheck(lambda real, imag: refined.audio((real, imag), mel, 2), (real, imag))


def test_no_bin_asks_for_more_than_the_limit() -> None:
    log_magnitude, phase = (torch.zeros(1, 1, 3, requires_grad=True) for _ in range(2))
    given = log_magnitude * 1, phase * 1
    Prediction(torch.zeros(1, 1), *given, given).limit_gradients(0.5)
    (given[0] * torch.tensor([0.1, 1.0, -3.0]) + 2 * given[1]).sum().backward()
    assert log_magnitude.grad is not None and phase.grad is not None
    torch.testing.assert_close(log_magnitude.grad.flatten(), torch.tensor([0.1, 0.5, -0.5]))
    torch.testing.assert_close(phase.grad.flatten(), torch.full((3,), 0.5))


def test_early_frames_learn_from_exact_ones() -> None:
    real, imag = torch.randn(2, 2, 5, 9, generator=torch.Generator().manual_seed(0))
    exact = real.requires_grad_(), imag.requires_grad_()
    early = (1.1 * real).detach().requires_grad_(), (1.1 * imag).detach().requires_grad_()
    assert float(lookahead_loss(exact, exact)) < 1e-5
    lookahead_loss(early, exact).backward()
    assert all(part.grad is not None and (part.grad * part > 0).all() for part in early)
    assert all(part.grad is None for part in exact)


def test_adversarial_losses_pull_apart_what_is_judged() -> None:
    good, bad = torch.full((2, 1, 3, 3), 2.0), torch.full((2, 1, 3, 3), -2.0)
    features = torch.ones(2, 4)
    assert float(discriminator_loss([(good, [])], [(bad, [])])) == 0
    assert float(discriminator_loss([(bad, [])], [(good, [])])) == 6
    assert float(adversarial_loss([(good, []), (bad, [])])) == 1.5
    assert float(feature_loss([(good, [features, features])], [(good, [features, 3 * features])])) == 2


def test_every_discriminator_judges(speech: Tensor) -> None:
    found = Discriminators(8)(speech[:, :SEGMENT].repeat(2, 1))
    assert len(found) == 6
    for score, features in found:
        torch.testing.assert_close(score[0], score[1])  # two copies of one clip
        assert len(features) >= 3


def test_the_generator_is_the_product(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    generator = Generator(vocoder.model.config)
    generator.backbone.load_state_dict(vocoder.backbone.state_dict())
    generator.head.out.load_state_dict(vocoder.head.out.state_dict())
    mel = vocoder.mel(speech).clone()
    with torch.no_grad():
        audio, _, phase, _ = generator(mel.transpose(1, 2))
        expected = vocoder.model(mel)
    assert phase.shape == (1, mel.shape[2], 513)
    # trained weights multiply float32 rounding; see the parity tests
    assert (audio - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_export_is_loaded_strictly_by_both(official: ModuleType, tmp_path: Path, speech: Tensor) -> None:
    torch.manual_seed(0)
    generator = Generator(SMALL)
    export(generator, SMALL, tmp_path)
    vocoder = tts_infer.load_vocoder(tmp_path, device="cpu")
    audio = vocoder(speech)
    theirs = official.Vocos.from_hparams(str(tmp_path / "config.yaml"))
    from safetensors.torch import load_file

    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        expected = theirs.eval()(speech)
    assert (audio - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_learning_rate_of_every_step() -> None:
    phases = {"first": Phase(100, 4, 1e-3, 1e-4), "second": Phase(50, 2, 5e-4, 0.0, adversarial=True)}
    recipe = Recipe({"s": Source("x", 1.0)}, phases, warm_up=10)
    assert recipe.steps == 150 and list(recipe.ends) == [100, 150]
    assert recipe.at(0) == (phases["first"], pytest.approx(1e-4))  # a tenth, to warm up
    assert recipe.at(50) == (phases["first"], pytest.approx(5.5e-4))
    assert recipe.at(99)[0].batch == 4 and recipe.at(100)[0].batch == 2
    assert recipe.at(100)[1] == pytest.approx(5e-5)  # warms up again
    assert recipe.at(149)[1] == pytest.approx(5e-4 * 0.5 * (1 + math.cos(math.pi * 49 / 50)))


def test_wrong_recipes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right: dict[str, Any] = {
        "sources": {"s": {"folder": str(tmp_path / "none"), "share": 1}},
        "phases": {"p": phase(1)},
    }
    recipe = tmp_path / "recipe.yaml"
    for change, message in (
        ({"stpes": 3}, r"unknown key 'stpes'"),
        ({"sources": {}}, r"sources is empty; name at least one"),
        ({"phases": {"p": phase(1) | {"share": 1.5}}}, r"shares of start and phases add up to 1.5; allowed: 0 to 1"),
        ({"start_share": 0.5}, r"start_share is 0.5, but there is no start; name one, or leave start_share out"),
        ({"phases": {"p": phase(1) | {"batch": "many"}}}, r"phases\.p: batch is 'many'; allowed: int"),
    ):
        recipe.write_text(yaml.safe_dump(right | change))
        with pytest.raises(ConfigError, match=message):
            read_recipe(recipe)
    recipe.write_text(yaml.safe_dump(right))
    assert main(["--config", str(recipe), "--run", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"error: no such file: {tmp_path / 'none'}\n"
    missing = {"made_by": "python -m training.voices", **right["sources"]["s"]}
    recipe.write_text(yaml.safe_dump(right | {"sources": {"s": right["sources"]["s"], "t": missing}}))
    assert main(["--config", str(recipe), "--run", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        f"source 's' is left out: no folder {tmp_path / 'none'}\n"
        f"source 't' is left out: no folder {tmp_path / 'none'}; `python -m training.voices` makes it\n"
        "error: none of the recipe's sources is there; make or change one\n"
    )
    with pytest.raises(InputError, match="no pool .*; make it with `python -m training.prepare FOLDER --out"):
        Pool.open(tmp_path / "pool")


@pytest.mark.parametrize("recipe", ["mini", "mini-5", "mini-4", "mini-3", "mini-2"])
def test_the_shipped_recipes_are_of_the_shipped_vocoder(recipe: str, vocoder: tts_infer.Vocoder) -> None:
    assert read_recipe(ROOT / "training" / "configs" / f"{recipe}.yaml").vocoder == vocoder.model.config


def test_the_recipe_goes_on_from_what_is_shipped(
    segments: Segments, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    trainer = Trainer(read_recipe(ROOT / "training" / "configs" / "mini.yaml"), segments)
    for name, value in trainer.generator.backbone.state_dict().items():
        assert torch.equal(value, vocoder.backbone.state_dict()[name])
    # they have learnt: the same magnitudes with random phases are judged to be worse, by 0.2 here
    real, window = segments.batch(0, 4), torch.hann_window(1024)
    size = torch.stft(real, 1024, 256, window=window, return_complex=True).abs()
    phases = 2 * torch.pi * torch.rand(size.shape, generator=torch.Generator().manual_seed(0))
    wrong = torch.istft(torch.polar(size, phases), 1024, 256, window=window, length=SEGMENT)
    with torch.no_grad():
        of_real, of_wrong = (trainer.discriminators(audio) for audio in (real, wrong))
    assert float(adversarial_loss(of_real)) + 0.1 < float(adversarial_loss(of_wrong))


def phase(steps: int, adversarial: bool = False) -> dict[str, object]:
    return {
        "steps": steps,
        "batch": 2,
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-4,
        "adversarial": adversarial,
    }


ADVERSARIAL = Recipe(
    {"examples": Source("examples", 1.0)},
    {"adversarial": Phase(3, 2, 1e-3, 1e-4, adversarial=True)},
    vocoder=SMALL,
    judged=4096,
    discriminator_width=8,
)


def test_a_step_moves_everything_and_the_average_follows(segments: Segments) -> None:
    recipe = replace(ADVERSARIAL, ema=0.75, warm_up=1)
    trainer = Trainer(recipe, segments)
    parts = (trainer.generator, trainer.discriminators)
    before = [[p.detach().clone() for p in part.parameters()] for part in parts]
    losses = trainer.train_step()
    assert trainer.step == 1 and {"mel", "phase", "adversarial", "features", "discriminators"} <= set(losses)
    for part, old in zip(parts, before, strict=True):
        assert all(not torch.equal(p, q) for p, q in zip(part.parameters(), old, strict=True))
    for average, old_, new in zip(trainer.average.parameters(), before[0], trainer.generator.parameters(), strict=True):
        torch.testing.assert_close(average, 0.75 * old_ + 0.25 * new)


def test_refined_audio_has_losses_and_is_judged(segments: Segments) -> None:
    (plain,) = ADVERSARIAL.phases.values()
    nothing = Comparisons(*[0.0] * len(fields(Comparisons)))
    choices = (None, nothing, Comparisons())
    recipes = [
        replace(ADVERSARIAL, phases={"p": replace(plain, refined_weights=one)}, refined_passes=2) for one in choices
    ]
    without, judged, weighted = (Trainer(recipe, segments).train_step() for recipe in recipes)
    compared = {"mel", "other_mels", "log_magnitude", "loudness", "disturbance", "pulses"}
    assert {*without, *(f"refined_{name}" for name in compared)} <= set(weighted)
    assert weighted["mel"] == without["mel"] and weighted["refined_mel"] < weighted["mel"]
    assert judged["discriminators"] != without["discriminators"]  # they hear the refined half
    assert weighted["discriminators"] == judged["discriminators"]
    assert weighted["gradient"] != judged["gradient"] and math.isfinite(weighted["gradient"])


@pytest.mark.parametrize("batch", [1, 2])
def test_less_lookahead_has_a_loss(segments: Segments, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (plain,) = ADVERSARIAL.phases.values()
    phases = [replace(plain, batch=batch, weights=Weights(lookahead=weight)) for weight in (0.0, 1.0)]
    ranges, stop = [], Segments.stop

    def noted(segments: Segments, step: int, least: int, most: int) -> int:
        ranges.append((least, most))
        return stop(segments, step, least, most)

    monkeypatch.setattr(Segments, "stop", noted)
    trainers = [Trainer(replace(ADVERSARIAL, phases={"p": phase}), segments) for phase in phases]
    without, with_it = (trainer.train_step() for trainer in trainers)
    assert "lookahead" not in without and with_it["lookahead"] > 0
    assert with_it["gradient"] != without["gradient"] and math.isfinite(with_it["gradient"])
    frames, context = SEGMENT // 256 + 1, trainers[0].generator.backbone.receptive_field
    assert ranges == [(EARLY, frames - context)]  # the exact frames know all that follows them


def test_what_is_exported_is_mixed_by_the_shares_of_start_and_phases(segments: Segments, tmp_path: Path) -> None:
    export(Generator(SMALL), SMALL, tmp_path)
    phases = {"first": Phase(1, 1, 1e-2, 1e-2, share=0.25), "second": Phase(2, 1, 1e-2, 1e-2)}
    sources = {"examples": Source("examples", 1.0)}
    recipe = Recipe(sources, phases, vocoder=SMALL, ema=0.5, warm_up=1, start=str(tmp_path), start_share=0.125)
    trainer = Trainer(replace(recipe, consistency_passes=5), segments)
    assert trainer.consistency.passes == 5
    start = [p.clone() for p in trainer.average.parameters()]
    for mixed, begin in zip(trainer.result().parameters(), start, strict=True):
        torch.testing.assert_close(mixed, begin)
    trainer.train_step()
    first = [p.clone() for p in trainer.average.parameters()]
    for _ in range(2):
        trainer.train_step()
    parts = zip(trainer.result().parameters(), start, first, trainer.average.parameters(), strict=True)
    for mixed, begin, early, late in parts:
        assert not torch.equal(begin, early) and not torch.equal(early, late)
        torch.testing.assert_close(mixed, 0.125 * begin + 0.25 * early + 0.625 * late)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_steps_on_a_gpu_are_those_of_the_cpu(segments: Segments) -> None:
    recipe = replace(ADVERSARIAL, bfloat16=False)
    trainers = [Trainer(recipe, segments, device) for device in ("cpu", "cuda")]
    losses = [[trainer.train_step() for _ in range(3)] for trainer in trainers]
    for on_cpu, on_gpu in zip(*losses, strict=True):
        assert on_gpu == pytest.approx(on_cpu, rel=1e-2)  # TF32 convolutions


# Trains like the command, and kills itself while it replaces the state of step 4: that of step 3 stays on disk.
KILLED_AT_4 = """
import os, signal, sys, torch
from training import train
replace = os.replace
def killed_at_4(source, target):
    if str(target).endswith("state.pt") and torch.load(source, weights_only=True)["step"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
train.os.replace = killed_at_4
train.main(sys.argv[1:])
"""
# One run after the other, as the command does each.
UNDISTURBED = "import sys; from training.train import main; sys.exit(any(main(run.split()) for run in sys.argv[1:]))"


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Both phases, kill -9 in the second one; then weights, log and plot are those of the undisturbed run."""
    document = {
        "vocoder": {
            "backbone": {"dim": 16, "intermediate_dim": 32, "num_layers": 2},
            "head": {"dim": 16, "padding": "center"},
        },
        "sources": {"examples": {"folder": str(ROOT / "examples"), "share": 1}},
        "phases": {"spectral": phase(2) | {"share": 0.25}, "adversarial": phase(4, adversarial=True)},
        "segment": SEGMENT,
        "judged": 4096,
        "discriminator_width": 4,
        "save_minutes": 0,
        "log_steps": 2,
    }
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(document))
    calm, killed = (["--config", str(recipe), "--run", str(tmp_path / run)] for run in ("calm", "killed"))

    assert subprocess.run([sys.executable, "-c", KILLED_AT_4, *killed], cwd=ROOT).returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "killed" / "state.pt", weights_only=True)["step"] == 3
    assert logged_steps(tmp_path / "killed") == [2, 4]  # the line of step 4 has no state
    runs = [" ".join(run) for run in (killed, calm)]
    assert subprocess.run([sys.executable, "-c", UNDISTURBED, *runs], cwd=ROOT).returncode == 0

    states = [torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("calm", "killed")]
    assert states[0]["step"] == states[1]["step"] == 6
    for part in ("generator", "average", "discriminators"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name]), f"{part}: {name}"
    weights = [(tmp_path / run / "export" / "model.safetensors").read_bytes() for run in ("calm", "killed")]
    assert weights[0] == weights[1]
    assert logged_steps(tmp_path / "killed") == logged_steps(tmp_path / "calm") == [2, 4, 6]
    assert (tmp_path / "killed" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.rglob("*.partial"))


def logged_steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
