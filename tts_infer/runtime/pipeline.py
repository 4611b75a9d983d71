"""The pipeline: runs the stages one after the other, each on its device, and moves tensors between devices.

Everything goes through `Pipeline.run`. Whole signals, batches of several lengths, and streams differ only in the state
and the mask that they pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.config import DTypeName
from tts_infer.devices import CPU, device_lock, keep_memory, precision, release_memory, require_dtype
from tts_infer.engines import ENGINES
from tts_infer.errors import InputError
from tts_infer.runtime import workers
from tts_infer.runtime.placement import Place, Placement
from tts_infer.runtime.short import short_stage
from tts_infer.runtime.timing import StageTimer
from tts_infer.stages import Stage, State, total_frames
from tts_infer.vocoders import conditions, family_of
from tts_infer.vocoders.conditions import NO_NUMBERS, require_batch

StreamState = dict[str, State]  # stage name -> state


@dataclass(frozen=True)
class Placed:
    """A stage, prepared by its engine, and the place where it runs."""

    stage: Stage
    place: Place


class Pipeline:
    """A model's stages on their devices. The caller checks the tensors that go in.

    Args:
        model: its modules are moved to the devices of the placement.
        placement: device, engine and method of each stage.
        dtype: of the matrix products of networks.

    Raises:
        PlacementError: the device of a network cannot use the dtype well.
    """

    def __init__(self, model: nn.Module, placement: Placement, dtype: DTypeName) -> None:
        keep_memory()
        workers.survive_fork()
        self.model, self.placement, self.dtype = model, placement, dtype
        self.family = family_of(model)
        self.config: Any = model.config
        self.features = self.family.features(self.config)
        stages = self.family.stages(model)
        for stage in (one for one in stages if one.half):
            require_dtype(placement[stage.name].device, dtype)
        self._placed = place_stages(stages, placement, dtype)
        short = placement.short
        self._short = None if short is None else Placed(short_stage(short, stages, self.stages, dtype), short.place)
        first = next((i + 1 for i, one in enumerate(self._placed) if self.features.name in one.stage.gives), 0)
        self._front, self._decoding = self._placed[:first], self._placed[first:]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy packs weights and records graphs again: both are valid in one process only."""
        return Pipeline, (self.model, self.placement, self.dtype)

    @property
    def stages(self) -> list[Stage]:
        """All stages in order, prepared by their engines."""
        return [placed.stage for placed in self._placed]

    @property
    def receptive_field(self) -> int:
        """Frames after a frame that the networks need to decode it exactly: the largest useful lookahead."""
        return total_frames((placed.stage for placed in self._decoding), lambda stage: stage.receptive_field)

    @property
    def max_frames(self) -> int:
        """Frames, summed over the batch, that are decoded at once."""
        return min(placed.stage.max_frames for placed in self._decoding)

    @cached_property
    def is_whole(self) -> bool:
        """Whether it computes over whole signals only."""
        return any(placed.stage.whole for placed in self._decoding)

    @cached_property
    def is_on_cpu(self) -> bool:
        """Whether every stage runs on the CPU."""
        return self.placement.devices == {CPU}

    @cached_property
    def out_device(self) -> torch.device:
        """The device on which the audio is made."""
        return self._placed[-1].place.device

    def n_samples(self, frames: int) -> int:
        """Samples of audio that `frames` give."""
        return self.family.n_samples(self.config, frames)

    def release_memory(self) -> None:
        """Give the cached memory of all accelerators in use back to the system."""
        for device in self.placement.devices:
            release_memory(device)

    def front(self, source: str = "audio") -> list[Placed]:
        """The stages that make features of audio, or of codes.

        Raises:
            InputError: this family of vocoders has no such stages.
        """
        if not self._front or source not in self._front[0].stage.takes:
            raise InputError(
                "this vocoder cannot make {features} from {source}; give {features}",
                code="no-features-of-source",
                features=self.features.name,
                source=source,
            )
        return self._front

    def conditions(self, given: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors that stages take besides features, from the arguments of a call; see `checked`."""
        return conditions.checked(self.features.conditions, given)

    def decoding(self, refine: int = 0, lookahead: int | None = None, frames: int | None = None) -> list[Placed]:
        """The stages that make audio of features.

        Args:
            refine: how often repeated stages run.
            lookahead: frames that a stream waits for; None: `receptive_field`, which is exact.
            frames: of a batch of whole signals of one length; None: of anything else.

        Raises:
            InputError: `refine` is not 0, and the vocoder has no repeated stage.
        """
        if refine and not any(placed.stage.passes is not None for placed in self._decoding):
            raise InputError(
                "refine needs a mel of the spectrum's own STFT, which this vocoder does not have; leave refine at 0",
                code="refine-unsupported",
            )
        short = self.placement.short
        if short is not None and self._short is not None and not refine and 0 < (frames or 0) <= short.frames:
            return [self._short]
        chain, rate = [], 1
        for placed in self._decoding:
            stage = placed.stage
            if stage.passes is not None:
                if not refine:
                    continue
                stage = replace(stage, passes=refine)
            if lookahead is not None and stage.receptive_field:
                stage = stage.with_lookahead(min(lookahead * rate, stage.receptive_field))
                lookahead -= -(-stage.delay_frames // rate)
            rate *= stage.rate
            chain.append(replace(placed, stage=stage))
        return chain

    def decode(
        self,
        features: Tensor,
        chain: Sequence[Placed],
        timer: StageTimer,
        valid: Tensor | None = None,
        numbers: Mapping[str, Tensor] = NO_NUMBERS,
    ) -> Tensor:
        """Decode whole signals.

        Args:
            features: finite values, also in the padding.
            chain: see `decoding`.
            timer: records the stages.
            valid: 1.0 where a frame belongs to its item, else 0.0; None: all frames do. On the device of `features`.
            numbers: what else the stages take, by name.

        Shape: (B, C, L), (B, L, 1) -> (B, T); samples that only padding reaches are 0
        """
        batch, _, frames = features.shape
        lengths = [ENGINES[placed.place.engine].padded_frames(batch, frames) for placed in chain]
        padded = max((length for length in lengths if length is not None), default=None)
        if padded is not None:
            with device_lock(features.device):
                marks = features.new_ones(batch, frames, 1) if valid is None else valid
                missing = padded - frames
                features, valid = F.pad(features, (0, missing)), F.pad(marks, (0, 0, 0, missing))
        require_batch(numbers, batch)
        live, _ = self.run(chain, {self.features.name: features, **numbers}, timer, valid=valid)
        return live["audio"][:, : self.n_samples(frames)]

    def decode_ragged(
        self,
        features: Tensor,
        lengths: Sequence[int],
        chain: Sequence[Placed],
        timer: StageTimer,
        numbers: Mapping[str, Tensor] = NO_NUMBERS,
    ) -> list[Tensor]:
        """Decode a padded batch of several lengths.

        Args:
            features: finite values, also in the padding.
            lengths: frames of each item.
            chain, timer, numbers: as for `decode`.

        Shape: (B, C, L) -> B times (T,)
        """
        positions, ends = torch.arange(features.shape[2], device=CPU), torch.tensor(lengths, device=CPU)
        valid = (positions[None, :] < ends[:, None]).to(torch.float32).unsqueeze(2)
        with device_lock(features.device):
            valid = valid.to(features.device)
        audio = self.decode(features, chain, timer, valid, numbers)
        return [item[: self.n_samples(n)] for item, n in zip(audio, lengths, strict=True)]

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
            values: the input tensors by name.
            timer: records the stages.
            state: the state of a stream; None for whole signals. It is not changed.
            valid: for whole signals of several lengths, see `Stage`.
            final: whether the stream ends with this piece.

        Returns:
            All tensors by name, each on the device where it was last used, and the new state.
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
            if marks is not None:
                live["valid"] = stage.marks(marks)
        return live, after


def require_pieces(chain: Sequence[Placed]) -> None:
    """Refuse pieces and streams where a stage computes over whole signals.

    Raises:
        InputError: names the stage.
    """
    stage = next((placed.stage for placed in chain if placed.stage.whole), None)
    if stage is not None:
        text = "this vocoder has no streams and no pieces: its stage {stage!r} computes over the whole signal. Decode "
        text += "whole signals of at most {most} frames, such as sentences"
        most = min(placed.stage.max_frames for placed in chain)
        raise InputError(text, code="whole-signals-only", stage=stage.name, most=most)


def place_stages(stages: Sequence[Stage], placement: Placement, dtype: DTypeName) -> list[Placed]:
    """Stages, each prepared by its engine for its place."""
    with device_lock(*placement.devices):
        return [_placed(stage, placement[stage.name], dtype) for stage in stages]


def _placed(stage: Stage, place: Place, dtype: DTypeName) -> Placed:
    chosen = stage.by(place.method) if stage.methods else stage
    return Placed(ENGINES[place.engine].prepare(chosen, place.device, dtype), place)


def _moved(
    live: Mapping[str, Tensor], names: Sequence[str], device: torch.device, timer: StageTimer
) -> dict[str, Tensor]:
    """Copy the named tensors that are on other devices to `device`, in one transfer from each device."""
    moved: dict[str, Tensor] = {}
    for source in dict.fromkeys(live[name].device for name in names if live[name].device != device):
        here = [name for name in names if live[name].device == source]
        moved |= zip(here, timer.move(tuple(live[name] for name in here), device), strict=True)
    return moved
