"""The one place where the stages meet: each on its own device, timed, tensors moved at the borders.

There is one way through the stages, `Pipeline.run`. Whole signals, several lengths in one batch, pieces and streams
differ only in the state and the mask that go with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.config import DTypeName
from tts_infer.devices import device_lock, precision, release_memory, require_dtype
from tts_infer.engines import ENGINES
from tts_infer.errors import InputError
from tts_infer.runtime.placement import Place, Placement
from tts_infer.runtime.timing import StageTimer
from tts_infer.stages import Stage, State
from tts_infer.vocoders import family_of

StreamState = dict[str, State]  # of each stage, by name


@dataclass(frozen=True)
class Placed:
    """A stage by the means of its engine, and where it runs."""

    stage: Stage
    place: Place


class Pipeline:
    """A model's stages on their devices. Tensors in and out are checked by whoever calls.

    Args:
        model: its modules are moved to where the placement says.
        placement: device, engine and method of each stage.
        dtype: of the matrix products of networks.

    Raises:
        PlacementError: a dtype that the devices of those stages cannot use well.
    """

    def __init__(self, model: nn.Module, placement: Placement, dtype: DTypeName) -> None:
        self.model, self.placement, self.dtype = model, placement, dtype
        self.family = family_of(model)
        self.config: Any = model.config
        self.features = self.family.features(self.config)
        stages = self.family.stages(model)
        for stage in stages:
            if stage.half:
                require_dtype(placement[stage.name].device, dtype)
        with device_lock(*placement.devices):
            self._placed = [_placed(stage, placement[stage.name], dtype) for stage in stages]
        names = [placed.stage.gives for placed in self._placed]
        first = next((i + 1 for i, gives in enumerate(names) if self.features.name in gives), 0)
        self._front, self._decoding = self._placed[:first], self._placed[first:]

    def __reduce__(self) -> tuple[Any, ...]:
        """What was packed or recorded for this process is made anew where a copy is."""
        return Pipeline, (self.model, self.placement, self.dtype)

    @property
    def stages(self) -> list[Stage]:
        """All stages in order, by the means of their engines."""
        return [placed.stage for placed in self._placed]

    @property
    def receptive_field(self) -> int:
        """Frames that a stream waits for at most to be exact, those of refinement and windows not counted."""
        return sum(placed.stage.receptive_field for placed in self._decoding)

    @property
    def max_frames(self) -> int:
        """Frames, over the whole batch, that are decoded at once."""
        return min(placed.stage.max_frames for placed in self._decoding)

    @property
    def out_device(self) -> torch.device:
        """Where audio comes out."""
        return self._placed[-1].place.device

    def n_samples(self, frames: int) -> int:
        """Samples of audio that `frames` give."""
        return self.family.n_samples(self.config, frames)

    def release_memory(self) -> None:
        """Give back what accelerators keep cached."""
        for device in self.placement.devices:
            release_memory(device)

    def front(self) -> list[Placed]:
        """The stages that make features of audio.

        Raises:
            InputError: this family of vocoders has none.
        """
        if not self._front:
            raise InputError(
                "this vocoder makes no {features} of audio; give {features}",
                code="no-features-of-audio",
                features=self.features.name,
            )
        return self._front

    def decoding(self, refine: int = 0, lookahead: int | None = None) -> list[Placed]:
        """The stages that make audio of features.

        Args:
            refine: how often repeated stages run.
            lookahead: frames that a stream waits for, see `receptive_field`; None: all of them, which is exact.

        Raises:
            InputError: repetitions of a vocoder without repeated stages.
        """
        if refine and not any(placed.stage.passes is not None for placed in self._decoding):
            raise InputError(
                "refine needs a mel of the spectrum's own STFT, which this vocoder does not have; leave refine at 0",
                code="refine-unsupported",
            )
        chain = []
        for placed in self._decoding:
            stage = placed.stage
            if stage.passes is not None:
                if not refine:
                    continue
                stage = replace(stage, passes=refine)
            if lookahead is not None and stage.receptive_field:
                stage = stage.with_lookahead(min(lookahead, stage.receptive_field))
                lookahead -= stage.delay_frames
            chain.append(Placed(stage, placed.place))
        return chain

    def decode(
        self, features: Tensor, chain: Sequence[Placed], timer: StageTimer, valid: Tensor | None = None
    ) -> Tensor:
        """Decode whole signals.

        Args:
            features: finite values, also in the padding.
            valid: 1.0 where a frame belongs to its item, else 0.0; None: all do. On the device of `features`.

        Shape: (B, C, L), (B, L, 1) -> (B, T); what padding alone reaches is 0
        """
        batch, _, frames = features.shape
        wishes = [ENGINES[placed.place.engine].padded_frames(batch, frames) for placed in chain]
        padded = max((wish for wish in wishes if wish is not None), default=None)
        if padded is not None:
            with device_lock(features.device):
                marks = features.new_ones(batch, frames, 1) if valid is None else valid
                missing = padded - frames
                features, valid = F.pad(features, (0, missing)), F.pad(marks, (0, 0, 0, missing))
        live, _ = self.run(chain, {self.features.name: features}, timer, valid=valid)
        return live["audio"][:, : self.n_samples(frames)]

    @staticmethod
    def initial_state(chain: Sequence[Placed], batch: int) -> StreamState:
        """The state of a stream before its first piece."""
        with device_lock(*(placed.place.device for placed in chain)):
            return {placed.stage.name: placed.stage.initial_state(batch, placed.place.device) for placed in chain}

    @staticmethod
    def run(
        chain: Sequence[Placed],
        values: Mapping[str, Tensor],
        timer: StageTimer,
        *,
        state: StreamState | None = None,
        valid: Tensor | None = None,
        final: bool = True,
    ) -> tuple[dict[str, Tensor], StreamState]:
        """Run stages one after the other.

        Args:
            chain: the stages.
            values: the tensors that the first ones take, by name.
            state: None: whole signals; else those of a stream. It is not changed.
            valid: for whole signals of several lengths, see `Stage`.
            final: whether a stream ends here.

        Returns:
            The tensors by name, each where it was used last, and the new state.
        """
        assert valid is None or state is None, "the lengths of a stream's items are not known before its end"
        live, after = dict(values), StreamState()
        for placed in chain:
            stage, place = placed.stage, placed.place
            names = [*stage.takes, *([] if valid is None else ["valid"])]
            if valid is not None:
                live.setdefault("valid", valid)
            live |= _moved(live, names, place.device, timer)
            inputs, marks = tuple(live[name] for name in stage.takes), live.get("valid")
            before = None if state is None else state[stage.name]
            timed = timer.stage(stage.name, place.device, place.engine, place.method)
            with timed, precision(place.device, stage.autocast):
                outputs, after[stage.name] = stage(inputs, before, valid=marks, final=final)
            live.update(zip(stage.gives, outputs, strict=True))
        return live, after


def _placed(stage: Stage, place: Place, dtype: DTypeName) -> Placed:
    chosen = stage.by(place.method) if stage.methods else stage
    return Placed(ENGINES[place.engine].prepare(chosen, place.device, dtype), place)


def _moved(
    live: Mapping[str, Tensor], names: Sequence[str], device: torch.device, timer: StageTimer
) -> dict[str, Tensor]:
    """The named tensors that are elsewhere, brought to the device: as one transfer from each place."""
    sources = dict.fromkeys(live[name].device for name in names if live[name].device != device)
    moved: dict[str, Tensor] = {}
    for source in sources:
        here = [name for name in names if live[name].device == source]
        moved |= zip(here, timer.move(tuple(live[name] for name in here), device), strict=True)
    return moved
