"""Who takes part in a comparison on the page, and how they share the machine: piece by piece, each in its turn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

import tts_infer
from ui.session import AUTO, DType, Input, load, passes_of
from ui.synthesis import decoded
from ui.work import Job, desk

RUNS = 3  # timed ones of each, after one that is not
MOST = 6  # players that fit on a page, and that a listener can tell apart


@dataclass(frozen=True)
class Choices:
    """What a visitor chose of each setting, in the order in which the combinations are made."""

    vocoders: Sequence[str]
    placements: Sequence[str]
    istft: Sequence[tts_infer.MethodChoice]
    dtypes: Sequence[DType]
    refine: Sequence[str]

    def combinations(self) -> list[tuple[str, ...]]:
        """Every combination.

        Raises:
            InputError: they are too few or too many.
        """
        chosen = (self.vocoders, self.placements, self.istft, self.dtypes, self.refine)
        found = list(itertools.product(*(some or () for some in chosen)))
        if not 2 <= len(found) <= MOST:
            raise tts_infer.InputError(
                "These settings make {count} combinations; choose two to {most}.",
                code="page-combinations",
                count=len(found),
                most=MOST,
            )
        return found

    def systems(self, job: Job) -> list[tts_infer.System]:
        """The combinations, in order, loaded and ready to take turns.

        Raises:
            Stopped: the job was told to stop.
            TTSInferError: see `load`.
        """

        def loaded(
            name: str, *, engine: str, placement: str, istft: tts_infer.MethodChoice, dtype: DType
        ) -> tts_infer.Vocoder:
            with desk.turn(job):
                return load(name, *where(placement), istft, dtype)

        found = tts_infer.contestants(
            self.vocoders,
            placements=self.placements,
            refine=[passes_of(passes) for passes in self.refine],
            istft=self.istft,
            dtypes=self.dtypes,
            load=loaded,
        )
        return [in_turns(system, job, len(found) * (1 + RUNS)) for system in found]


def where(placement: str) -> tuple[str, str]:
    """A choice of the Placement field, which offers devices, too: device and placement, as `load` takes them."""
    return (AUTO, placement) if placement in tts_infer.named_placements() else (placement, AUTO)


def in_turns(system: tts_infer.System, job: Job, runs: int) -> tts_infer.System:
    """The system, which computes piece by piece, each piece in a turn of the job.

    Args:
        system: has a vocoder.
        job: is told what is done.
        runs: of all systems together.
    """
    model = system.vocoder
    assert model is not None

    def timed(features: torch.Tensor | None = None, *, audio: torch.Tensor) -> tts_infer.Synthesis:
        given = Input("audio", audio, [])
        job.what, job.total = "comparing", runs * given.seconds(model)
        return decoded(model, given, desk.turns(job), job.advance)

    def mel(samples: torch.Tensor) -> torch.Tensor:
        with desk.turn(job):
            return model.mel(samples)

    return replace(system, timed=timed, mel=mel)


def compared(audio: str, systems: Sequence[tts_infer.System], job: Job) -> tts_infer.Comparison:
    """Compare the systems on a clip, and say how far that is.

    Raises:
        Stopped: the job was told to stop.
        TTSInferError: see `tts_infer.compare`.
    """

    def progress(done: int, of: int) -> None:
        job.done = job.total * done / of

    return tts_infer.compare(audio, systems, runs=RUNS, progress=progress)
