"""The one place where the stages meet: each on its own device, timed, tensors moved at the borders."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tts_infer.config import DTypeName, SpectralMethod
from tts_infer.devices import device_lock, precision, release_memory, require_dtype
from tts_infer.dsp.refine import Refinement, Spectrum
from tts_infer.engines.cuda_graphs import Replayed, is_short, padded_length, problem
from tts_infer.runtime.incremental import BackboneStream, ISTFTStream, RefinementStream
from tts_infer.runtime.placement import Placement, StagePlacement
from tts_infer.runtime.selftest import TOLERANCE, Stage, stage_module
from tts_infer.runtime.timing import StageTimer
from tts_infer.vocoders.vocos import RaggedEdges, Vocos


@dataclass(frozen=True)
class _Stages:
    """What computes each stage. Where signals have several lengths, all but the head are given the mask, too."""

    backbone: Callable[..., Tensor]  # of features
    head: Callable[[Tensor], Spectrum]
    refinement: Callable[..., Spectrum] | None  # of real, imag and the mel
    istft: Callable[..., Tensor]  # of real and imag


class Pipeline:
    """A model's stages on their devices. Tensors in and out are checked by whoever calls.

    Args:
        model: its modules are moved to where the placement says.
        placement: device and method of each stage.
        dtype: of the matrix products in backbone and head.

    Raises:
        PlacementError: a dtype that the devices of backbone and head cannot use well.
    """

    def __init__(self, model: Vocos, placement: Placement, dtype: DTypeName) -> None:
        for place in (placement.backbone, placement.head):
            require_dtype(place.device, dtype)
        self.model, self.placement, self.dtype = model, placement, dtype
        model.use_methods(cast(SpectralMethod, placement.mel.method), cast(SpectralMethod, placement.istft.method))
        with device_lock(*placement.devices):
            model.feature_extractor.to(placement.mel.device)
            model.backbone.to(placement.backbone.device)
            model.head.out.to(placement.head.device)
            model.head.istft.to(placement.istft.device)
        self.backbone = stage_module(model.backbone, placement.backbone.method, dtype)
        self.head = stage_module(model.head, placement.head.method, dtype)
        self._ragged = _Stages(self._ragged_backbone, self.head, self._ragged_refinement, model.head.istft)
        self._recorded = self._ragged
        if placement.backbone.method == "graph":
            self._recorded = _Stages(
                self._replayed("backbone", self._ragged_backbone),
                self._replayed("head", self.head),
                self._replayed("istft", self._ragged_refinement),
                self._replayed("istft", model.head.istft),
            )
        # graphs read the weights where they are: they must stay there, even if someone moves the modules
        self._weights = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]

    def __reduce__(self) -> tuple[Any, ...]:
        """What was packed or recorded for this process is made anew where a copy is."""
        return Pipeline, (self.model, self.placement, self.dtype)

    def release_memory(self) -> None:
        """Give back what accelerators keep cached."""
        for device in self.placement.devices:
            release_memory(device)

    def mel(self, audio: Tensor, timer: StageTimer) -> Tensor:
        """Shape: (B, T) -> (B, n_mels, L)"""
        place = self.placement.mel
        (audio,) = timer.move((audio,), place.device)
        with timer.stage("mel", place.device, place.method), precision(place.device):
            mel: Tensor = self.model.feature_extractor(audio)
        return mel

    @cached_property
    def refinement(self) -> Refinement:
        """The passes between head and istft, on the device of the latter and by its method.

        Raises:
            InputError: the mel's convention does not allow it, see `Refinement`.
        """
        with device_lock(self.placement.istft.device):
            return Refinement(self.model.config.mel, self.model.head.istft).to(self.placement.istft.device)

    def decode(self, features: Tensor, refine: int, timer: StageTimer) -> Tensor:
        """Decode whole signals of one length. Shape: (B, n_mels, L) -> (B, T)"""
        batch, _, frames = features.shape
        if self._by_graphs(batch, frames):
            with device_lock(features.device):
                valid = torch.ones(batch, frames, 1, dtype=torch.float32, device=features.device)
            return self.decode_ragged(features, valid, refine, timer)
        stream = RefinementStream(self.refinement, refine) if refine else None
        stages = _Stages(self.backbone, self.head, _refinement(stream, final=True), self.model.head.istft)
        return self._decode((features,), stages, timer)

    def decode_ragged(self, features: Tensor, valid: Tensor, refine: int, timer: StageTimer) -> Tensor:
        """Decode whole signals of several lengths.

        Args:
            features: finite values, also in the padding.
            valid: 1.0 where a frame belongs to its item, else 0.0; on the device of `features`.
            refine: passes of refinement.

        Shape: (B, n_mels, L), (B, L, 1) -> (B, T); what padding alone reaches is 0
        """
        batch, _, frames = features.shape
        stages = self._ragged
        if refine:
            _ = self.refinement  # made, or refused, before anything is computed
        if self._by_graphs(batch, frames):
            stages, missing = self._recorded, padded_length(frames) - frames
            with device_lock(features.device):
                features, valid = F.pad(features, (0, missing)), F.pad(valid, (0, 0, 0, missing))
        refinement = partial(stages.refinement, refine) if stages.refinement and refine else None
        audio = self._decode((features, valid), replace(stages, refinement=refinement), timer)
        return audio[:, : self.model.head.istft.n_samples(frames)]

    def decode_piece(self, features: Tensor, state: DecodeState, timer: StageTimer, final: bool) -> Tensor:
        """Decode the next piece of a longer signal. Shape: (B, n_mels, L) -> (B, T), T >= 0"""
        stages = _Stages(
            partial(state.backbone.push, final=final),
            self.head,
            _refinement(state.refinement, final),
            partial(state.istft.push, final=final),
        )
        return self._decode((features,), stages, timer)

    def _decode(self, inputs: tuple[Tensor, ...], stages: _Stages, timer: StageTimer) -> Tensor:
        """Run the stages on features and, for several lengths, the mask, which goes wherever they go."""
        backbone, head, istft = self.placement.backbone, self.placement.head, self.placement.istft
        features, *valid = timer.move(inputs, backbone.device)
        with timer.stage("backbone", backbone.device, backbone.method), self._precision(backbone):
            hidden = stages.backbone(features, *valid)
        hidden, *valid = timer.move((hidden, *valid), head.device)
        with timer.stage("head", head.device, head.method), self._precision(head):
            spectrum = stages.head(hidden)
        real, imag, *valid = timer.move((*spectrum, *valid), istft.device)
        if stages.refinement is not None:
            (wanted,) = timer.move((features,), istft.device)
            with timer.stage("refine", istft.device, istft.method), precision(istft.device):
                real, imag = stages.refinement(real, imag, wanted, *valid)
        with timer.stage("istft", istft.device, istft.method), precision(istft.device):
            return stages.istft(real, imag, *valid)

    def _by_graphs(self, batch: int, frames: int) -> bool:
        return self.placement.backbone.method == "graph" and is_short(batch, frames)

    def _replayed(self, stage: Stage, function: Callable[..., Any]) -> Callable[..., Any]:
        place = self.placement[stage]
        if place.method == "torch" or problem(place.device):
            return function
        return Replayed(function, place.device, TOLERANCE[self.dtype])

    def _ragged_backbone(self, features: Tensor, valid: Tensor) -> Tensor:
        hidden: Tensor = self.backbone(features, RaggedEdges(valid))
        return hidden

    def _ragged_refinement(self, passes: int, real: Tensor, imag: Tensor, wanted: Tensor, valid: Tensor) -> Spectrum:
        return self.refinement.forward((real, imag), wanted, passes, valid)

    def _precision(self, place: StagePlacement) -> AbstractContextManager[object]:
        """Half precision for the reference modules; packed ones see to it themselves."""
        return precision(place.device, "float32" if place.method == "packed" else self.dtype)


def _refinement(stream: RefinementStream | None, final: bool) -> Callable[..., Spectrum] | None:
    return None if stream is None else lambda real, imag, wanted: stream.push((real, imag), wanted, final)


class DecodeState:
    """What a signal's next piece needs of the pieces before it.

    Args:
        pipeline: whose stages keep it.
        refine: passes of refinement.
        lookahead: see `BackboneStream`; None: all of it, which is exact.
    """

    def __init__(self, pipeline: Pipeline, refine: int, lookahead: int | None = None) -> None:
        backbone = pipeline.backbone
        self.backbone = BackboneStream(backbone, backbone.reach if lookahead is None else lookahead)
        self.refinement = RefinementStream(pipeline.refinement, refine) if refine else None
        self.istft = ISTFTStream(pipeline.model.head.istft)

    @property
    def delay_frames(self) -> int:
        """Frames by which audio is later than the mel.

        Lookahead, refinement, and the frames that a sample waits for because their windows overlap it.
        """
        refinement = self.refinement.delay_frames if self.refinement else 0
        return self.backbone.lookahead + refinement + self.istft.istft.overlap // 2
