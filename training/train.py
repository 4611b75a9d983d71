"""Train a vocoder: `python -m training.train --config training/configs/mini.yaml`.

The same command continues after an interruption, even kill -9, with the same result: the state on disk is replaced
whole, and each batch depends on its step alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import torch

from training.data import Pool, Segments
from training.export import export, export_discriminators
from training.plot import plot
from training.prepare import prepare
from training.recipe import Recipe, read_recipe
from training.speakers import read_table
from training.trainer import Trainer
from tts_infer.errors import InputError, TTSInferError


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
        found: dict[str, list[float]] = defaultdict(list)
        done = 0
        while self.trainer.step < self.recipe.steps and time.monotonic() - start < 60 * minutes:
            for name, value in self.trainer.train_step().items():
                found[name].append(value)
            done += 1
            if self.trainer.step % self.recipe.log_steps == 0:
                now = time.monotonic()
                self._log({name: fmean(values) for name, values in found.items()}, done / (now - last))
                found.clear()
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
