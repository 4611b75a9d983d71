"""One training: the networks, their optimisers, and a step of both sides."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.data import Segments
from training.discriminators import Discriminators
from training.disturbance import DisturbanceLoss
from training.generator import Generator, Spectrum
from training.losses import (
    OWN,
    Analysis,
    Judgement,
    Spectra,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    phase_loss,
    spectral_losses,
)
from training.perceptual import ConsistencyLoss, LoudnessLoss, PulseLoss, lookahead_loss
from training.recipe import Comparisons, Recipe
from training.refined import TrainableRefinement
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.weights import read_weights

EARLY = 10  # a stream's last frames, which learn: 9 to 0 known frames follow them


class Trainer:
    """The networks, their optimisers, and one step of training."""

    def __init__(self, recipe: Recipe, segments: Segments, device: str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.segments, self.device = recipe, segments, device
        self.generator = Generator(recipe.vocoder).to(device)
        if recipe.start is not None:
            _start_from(Path(recipe.start), self.generator)
        self.average = Generator(recipe.vocoder).to(device).requires_grad_(False)
        self.average.load_state_dict(self.generator.state_dict())
        self.mixed = copy.deepcopy(self.average)  # the shares of the start and of the phases that have ended
        torch._foreach_mul_(list(self.mixed.parameters()), recipe.start_share)
        self.discriminators = Discriminators(recipe.discriminator_width).to(device)
        if recipe.start_discriminators is not None:
            self.discriminators.load_state_dict(read_weights(Path(recipe.start_discriminators)))
        mel = recipe.vocoder.mel
        self.analysis = Analysis(mel).to(device)
        self.loudness = LoudnessLoss(mel.sample_rate).to(device)
        self.disturbance = DisturbanceLoss(mel.sample_rate).to(device)
        self.pulses = PulseLoss(mel.sample_rate).to(device)
        self.consistency = ConsistencyLoss(mel, self.generator.head.istft, recipe.consistency_passes).to(device)
        self.refined = TrainableRefinement(mel, self.generator.head.istft).to(device)
        self.optimiser = _optimiser(self.generator)
        self.discriminators_optimiser = _optimiser(self.discriminators)
        self.step = 0

    def state(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {"step": self.step, **parts}

    def load_state(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step = state["step"]

    def _parts(self) -> dict[str, Any]:
        names = ("generator", "average", "mixed", "discriminators", "optimiser", "discriminators_optimiser")
        return {name: getattr(self, name) for name in names}

    def train_step(self) -> dict[str, float]:
        """One step of both sides. Returns the value of each loss."""
        recipe = self.recipe
        phase, rate = recipe.at(self.step)
        real = self.segments.batch(self.step, phase.batch).to(self.device)
        with torch.no_grad():
            wanted = self.analysis(real)
        predicted = self.generator(wanted[OWN].log_mel, recipe.bfloat16)
        if recipe.bin_limit is not None:
            predicted.limit_gradients(recipe.bin_limit)
        audio, found = predicted.audio, self.analysis(predicted.audio)
        terms = self._comparisons(audio, found, real, wanted)
        terms["phase"] = phase_loss(predicted.phase, wanted[OWN])
        terms["consistency"] = self.consistency(found[OWN].spectrum, wanted[OWN].log_mel)
        if phase.weights.lookahead:
            terms["lookahead"] = self._lookahead(wanted[OWN].log_mel, predicted.spectrum)
        values: dict[str, float] = {}
        loss = audio.new_zeros(())
        if phase.refined_weights is not None:
            half = slice(len(real) // 2, None)  # of the items, because the passes cost as much as the network
            refined, of_refined = self._refined(half, predicted.spectrum, real, wanted)
            audio = torch.cat([audio[: half.start], refined])
            loss = _weighted(of_refined, phase.refined_weights)
            values |= {f"refined_{name}": float(term.detach()) for name, term in of_refined.items()}
        if phase.adversarial:
            values["discriminators"], of_judges = self._judged(audio, real, rate)
            terms |= of_judges
        loss = loss + _weighted(terms, phase.weights)
        values["gradient"] = _descend(self.optimiser, self.generator, loss, rate, 20.0)
        _follow(self.average, self.generator, recipe.ema)
        self.step += 1
        if self.step in recipe.ends:
            _add(self.mixed, self.average, recipe.ends[self.step].share)
        return values | {name: float(term.detach()) for name, term in terms.items()}

    def _comparisons(
        self, audio: Tensor, found: dict[int, Spectra], real: Tensor, wanted: dict[int, Spectra]
    ) -> dict[str, Tensor]:
        """The losses that compare two waveforms, whose spectra are known."""
        return spectral_losses(found, wanted) | {
            "loudness": self.loudness(audio, real),
            "disturbance": self.disturbance(audio, real),
            "pulses": self.pulses(audio, real),
        }

    def _refined(
        self, items: slice, spectrum: Spectrum, real: Tensor, wanted: dict[int, Spectra]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Refined audio of some items, and what compares it with theirs."""
        parts, targets = (spectrum[0][items], spectrum[1][items]), {n: of.items(items) for n, of in wanted.items()}
        audio = self.refined.audio(parts, targets[OWN].log_mel, self.recipe.refined_passes)
        return audio, self._comparisons(audio, self.analysis(audio), real[items], targets)

    def _judged(self, audio: Tensor, real: Tensor, rate: float) -> tuple[float, dict[str, Tensor]]:
        """One step of the discriminators, on a part of the audio. Returns their loss, and those of the generator."""
        part = self.segments.part(self.step, self.recipe.judged)
        audio, real = audio[:, part], real[:, part]
        value, of_real = self._train_discriminators(real, audio.detach(), rate)
        self.discriminators.requires_grad_(False)
        of_audio = self.discriminators(audio, self.recipe.bfloat16)
        self.discriminators.requires_grad_(True)
        return value, {"adversarial": adversarial_loss(of_audio), "features": feature_loss(of_real, of_audio)}

    def _lookahead(self, log_mel: Tensor, exact: Spectrum) -> Tensor:
        """The loss of a stream that waits for few frames: it knows half of the items up to a frame, which is held."""
        items, context = -(-len(log_mel) // 2), self.generator.backbone.receptive_field
        most = max(EARLY, log_mel.shape[1] - context)  # so that `exact` knows what follows
        stop = self.segments.stop(self.step, EARLY, most)
        known = log_mel[:items, :stop]
        held = known[:, -1:].expand(-1, context, -1)
        early = self.generator(torch.cat([known, held], 1), self.recipe.bfloat16).spectrum
        last = slice(items), slice(stop - EARLY, stop)
        return lookahead_loss((early[0][last], early[1][last]), (exact[0][last], exact[1][last]))

    def result(self) -> Generator:
        """The network to export: a mean of the averaged weights, the start and the ends of phases, by their shares."""
        result, recipe = copy.deepcopy(self.mixed), self.recipe
        ended = sum(phase.share for end, phase in recipe.ends.items() if end <= self.step)
        _add(result, self.average, 1 - recipe.start_share - ended)
        return result

    def _train_discriminators(self, real: Tensor, generated: Tensor, rate: float) -> tuple[float, Judgement]:
        """One step of the discriminators. Returns the loss, and their judgement of the real batch."""
        both = self.discriminators(torch.cat([real, generated]), self.recipe.bfloat16)
        split = [(score.chunk(2), [f.chunk(2) for f in features]) for score, features in both]
        of_real, of_generated = ([(s[i], [f[i] for f in fs]) for s, fs in split] for i in (0, 1))
        loss = discriminator_loss(of_real, of_generated)
        rate *= self.recipe.discriminator_rate
        _descend(self.discriminators_optimiser, self.discriminators, loss, rate, 50.0)
        return float(loss.detach()), of_real


def _optimiser(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=0.0, betas=(0.8, 0.99), weight_decay=0.01, fused=True)


def _weighted(terms: dict[str, Tensor], weights: Comparisons) -> Tensor:
    return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()


def _descend(optimiser: torch.optim.Optimizer, network: nn.Module, loss: Tensor, rate: float, limit: float) -> float:
    """One step of an optimiser, skipped if a gradient is not finite. Returns the gradient's norm."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = float(nn.utils.clip_grad_norm_(network.parameters(), limit))
    if norm < float("inf"):
        optimiser.step()
    return norm


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network"""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


@torch.no_grad()
def _add(network: nn.Module, other: nn.Module, share: float) -> None:
    """network <- network + share * other"""
    torch._foreach_add_(list(network.parameters()), list(other.parameters()), alpha=share)


def _start_from(directory: Path, generator: Generator) -> None:
    """Take the weights of a checkpoint in the official layout. Window and filterbank are computed here."""
    model = load_model(resolve(directory))
    generator.backbone.load_state_dict(model.backbone.state_dict())
    generator.head.out.load_state_dict(model.head.out.state_dict())
