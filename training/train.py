"""Train a vocoder: `python -m training.train --config training/configs/mini.yaml`.

The same command continues after an interruption, even kill -9, with the same result: the state on disk is replaced
whole, and each batch depends on its step alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.data import Pool, Segments
from training.discriminators import Discriminators
from training.disturbance import DisturbanceLoss
from training.export import export, export_discriminators
from training.generator import Generator
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
from training.perceptual import ConsistencyLoss, LoudnessLoss, PulseLoss, Spectrum, lookahead_loss
from training.plot import plot
from training.prepare import prepare
from training.recipe import Recipe, Weights, read_recipe
from training.refined import Refined, limit_gradients
from training.speakers import read_table
from tts_infer.errors import InputError, TTSInferError
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.weights import read_weights

EARLY = 10  # frames before the end that a stream may give too early


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
        self.refined = Refined(mel, self.generator.head.istft).to(device)
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
        audio, phases, spectrum = self.generator(wanted[OWN].log_mel, recipe.bfloat16)
        limit_gradients(spectrum, recipe.bin_limit)
        found = self.analysis(audio)
        terms = self._losses(audio, found, real, wanted)
        terms["phase"] = phase_loss(phases, wanted[OWN])
        if phase.weights.lookahead:
            terms["lookahead"] = self._lookahead(wanted[OWN].log_mel, spectrum)
        terms["consistency"] = self.consistency(found[OWN].spectrum, wanted[OWN].log_mel)
        values = {}
        if phase.adversarial:
            judged = self.segments.part(self.step, recipe.judged)
            audio = audio[:, judged]
            values["discriminators"], of_real = self._train_discriminators(real[:, judged], audio.detach(), rate)
            self.discriminators.requires_grad_(False)
            of_audio = self.discriminators(audio, recipe.bfloat16)
            self.discriminators.requires_grad_(True)
            terms["adversarial"] = adversarial_loss(of_audio)
            terms["features"] = feature_loss(of_real, of_audio)
        loss = _weighted(terms, phase.weights)
        if phase.refined_weights is not None:
            of_refined = self._of_refined(spectrum, real, wanted[OWN].log_mel)
            loss = loss + _weighted(of_refined, phase.refined_weights)
            values |= {f"refined_{name}": float(term.detach()) for name, term in of_refined.items()}
        values["gradient"] = _descend(self.optimiser, self.generator, loss, rate, 20.0)
        _follow(self.average, self.generator, recipe.ema)
        self.step += 1
        if self.step in recipe.ends:
            _add(self.mixed, self.average, recipe.ends[self.step].share)
        return values | {name: float(term.detach()) for name, term in terms.items()}

    def _losses(
        self, audio: Tensor, found: dict[int, Spectra], real: Tensor, wanted: dict[int, Spectra]
    ) -> dict[str, Tensor]:
        """The losses that compare two waveforms."""
        return spectral_losses(found, wanted) | {
            "loudness": self.loudness(audio, real),
            "disturbance": self.disturbance(audio, real),
            "pulses": self.pulses(audio, real),
        }

    def _of_refined(self, spectrum: Spectrum, real: Tensor, log_mel: Tensor) -> dict[str, Tensor]:
        """The losses of refined audio: of half of the items, because the passes cost as much as the network."""
        half = slice(len(real) // 2, None)
        parts = spectrum[0][half], spectrum[1][half]
        refined = self.refined.audio(parts, log_mel[half], self.recipe.refined_passes)
        with torch.no_grad():
            wanted = self.analysis(real[half])
        return self._losses(refined, self.analysis(refined), real[half], wanted)

    def _lookahead(self, log_mel: Tensor, exact: Spectrum) -> Tensor:
        """The loss of a stream that waits for few frames: half of the items end at a frame, which is held."""
        items, end = len(log_mel) // 2, self.segments.end(self.step, EARLY, log_mel.shape[1])
        known = log_mel[:items, :end]
        held = known[:, -1:].expand(-1, self.generator.backbone.receptive_field, -1)
        early = self.generator(torch.cat([known, held], 1), self.recipe.bfloat16).spectrum
        frames = slice(end - EARLY, end)
        return lookahead_loss(*((real[:items, frames], imag[:items, frames]) for real, imag in (early, exact)))

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


def _weighted(terms: dict[str, Tensor], weights: Weights) -> Tensor:
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


class Run:
    """A trainer, and its folder: `state.pt`, `log.jsonl`, `loss.png`, `export/` and the pools of its sources.

    Args:
        recipe: what to train.
        folder: where everything is kept; a run that is there is continued.
        device: for the networks.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: str) -> None:
        self.recipe, self.folder = recipe, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.trainer = Trainer(recipe, self._segments(), device)
        if self.state_file.is_file():
            self.trainer.load_state(torch.load(self.state_file, map_location=device, weights_only=True))
            self._forget_after(self.trainer.step)

    @property
    def state_file(self) -> Path:
        return self.folder / "state.pt"

    @property
    def log_file(self) -> Path:
        return self.folder / "log.jsonl"

    def _segments(self) -> Segments:
        """The pools of the recipe's sources; missing pools are made.

        If there are several sources, one whose folder is missing is left out, and a line on stderr says so.
        """
        recipe, sample_rate, pools, shares = self.recipe, self.recipe.vocoder.mel.sample_rate, {}, {}
        for name, source in recipe.sources.items():
            path = self.folder / "pools" / name
            if not path.with_suffix(".npy").is_file():
                if len(recipe.sources) > 1 and not Path(source.folder).is_dir():
                    hint = f"; `{source.made_by}` makes it" if source.made_by else ""
                    print(f"source {name!r} is left out: no folder {source.folder}{hint}", file=sys.stderr)
                    continue
                files = None if source.table is None else read_table(Path(source.table), "train")
                prepare(Path(source.folder), path, sample_rate, recipe.segment, files=files)
            pools[name], shares[name] = Pool.open(path), source.share
        if not pools:
            raise InputError("none of the recipe's sources is there; make or change one", code="no-source")
        return Segments(pools, shares, recipe.segment, sample_rate, recipe.seed)

    def go(self, minutes: float) -> None:
        """Train to the end of the recipe, or for this many minutes; then save and export."""
        start = saved = last = time.monotonic()
        sums: dict[str, float] = defaultdict(float)
        done = 0
        while self.trainer.step < self.recipe.steps and time.monotonic() - start < 60 * minutes:
            for name, value in self.trainer.train_step().items():
                sums[name] += value
            done += 1
            if self.trainer.step % self.recipe.log_steps == 0:
                now = time.monotonic()
                self._log({name: total / done for name, total in sums.items()}, done / (now - last))
                sums.clear()
                last, done = now, 0
            if time.monotonic() - saved > 60 * self.recipe.save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()
        plot(self.log_file, self.folder / "loss.png")
        export(self.trainer.result(), self.recipe.vocoder, self.folder / "export")
        export_discriminators(self.trainer.discriminators, self.folder / "discriminators.safetensors")

    def save(self) -> None:
        """Replace the state on disk, whole."""
        partial = self.state_file.with_suffix(".partial")
        torch.save(self.trainer.state(), partial)
        os.replace(partial, self.state_file)

    def _log(self, means: dict[str, float], rate: float) -> None:
        step = self.trainer.step
        line = {"step": step, "steps_per_s": rate, "learning_rate": self.recipe.at(step - 1)[1], **means}
        with self.log_file.open("a") as log:
            log.write(json.dumps({name: round(value, 6) for name, value in line.items()}) + "\n")
        print(
            f"{step}/{self.recipe.steps}  " + "  ".join(f"{k} {v:.4g}" for k, v in line.items() if k != "step"),
            flush=True,
        )

    def _forget_after(self, step: int) -> None:
        """Drop log lines that the interrupted run wrote after its last saved state."""
        if self.log_file.is_file():
            lines = [line for line in self.log_file.read_text().splitlines() if json.loads(line)["step"] <= step]
            self.log_file.write_text("".join(line + "\n" for line in lines))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--config", type=Path, required=True, help="a recipe, see training/configs")
    parser.add_argument("--run", type=Path, help="folder of the run; default: training/runs/NAME OF THE RECIPE")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after this time; continue with the same command"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    folder = args.run or Path(__file__).parent / "runs" / args.config.stem
    torch.set_flush_denormal(True)
    try:
        Run(read_recipe(args.config), folder, args.device).go(args.minutes)
    except TTSInferError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
