"""The one place where the stages meet: each on its own device, timed, tensors moved at the borders."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import cast

from torch import Tensor

from tts_infer.config import DTypeName, SpectralMethod
from tts_infer.devices import exclusive, precision, release_memory, require_dtype
from tts_infer.incremental import BackboneStream, ISTFTStream, RefinementStream
from tts_infer.model import RaggedEdges, Vocos
from tts_infer.parity import stage_module
from tts_infer.placement import Placement, StagePlacement
from tts_infer.refine import Refinement, Spectrum
from tts_infer.timing import StageTimer


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
        with exclusive(*placement.devices):
            model.feature_extractor.to(placement.mel.device)
            model.backbone.to(placement.backbone.device)
            model.head.out.to(placement.head.device)
            model.head.istft.to(placement.istft.device)
        self.backbone = stage_module(model.backbone, placement.backbone.method, dtype)
        self.head = stage_module(model.head, placement.head.method, dtype)

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
        with exclusive(self.placement.istft.device):
            return Refinement(self.model.config.mel, self.model.head.istft).to(self.placement.istft.device)

    def decode(self, features: Tensor, refine: int, timer: StageTimer) -> Tensor:
        """Decode whole signals of one length. Shape: (B, n_mels, L) -> (B, T)"""
        refinement = partial(RefinementStream(self.refinement, refine).push, final=True) if refine else None
        return self._decode(features, timer, self.backbone, refinement, self.model.head.istft)

    def decode_ragged(self, features: Tensor, valid: Tensor, refine: int, timer: StageTimer) -> Tensor:
        """Decode whole signals of several lengths.

        Args:
            features: finite values, also in the padding.
            valid: 1.0 where a frame belongs to its item, else 0.0; on the device of `features`.
            refine: passes of refinement.

        Shape: (B, n_mels, L), (B, L, 1) -> (B, T); what padding alone reaches is 0
        """
        (on_backbone,) = timer.move((valid,), self.placement.backbone.device)
        (on_istft,) = timer.move((on_backbone,), self.placement.istft.device)
        return self._decode(
            features,
            timer,
            partial(self.backbone, edges=RaggedEdges(on_backbone)),
            partial(self.refinement, passes=refine, valid=on_istft) if refine else None,
            partial(self.model.head.istft, valid=on_istft),
        )

    def decode_piece(self, features: Tensor, state: DecodeState, timer: StageTimer, final: bool) -> Tensor:
        """Decode the next piece of a longer signal. Shape: (B, n_mels, L) -> (B, T), T >= 0"""
        return self._decode(
            features,
            timer,
            partial(state.backbone.push, final=final),
            partial(state.refinement.push, final=final) if state.refinement else None,
            partial(state.istft.push, final=final),
        )

    def _decode(
        self,
        features: Tensor,
        timer: StageTimer,
        run_backbone: Callable[[Tensor], Tensor],
        run_refinement: Callable[[Spectrum, Tensor], Spectrum] | None,
        run_istft: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        backbone, head, istft = self.placement.backbone, self.placement.head, self.placement.istft
        (on_backbone,) = timer.move((features,), backbone.device)
        with timer.stage("backbone", backbone.device, backbone.method), self._precision(backbone):
            hidden = run_backbone(on_backbone)
        (hidden,) = timer.move((hidden,), head.device)
        with timer.stage("head", head.device, head.method), self._precision(head):
            spectrum = self.head(hidden)
        real, imag = timer.move(spectrum, istft.device)
        if run_refinement is not None:
            (wanted,) = timer.move((on_backbone,), istft.device)
            with timer.stage("refine", istft.device, istft.method), precision(istft.device):
                real, imag = run_refinement((real, imag), wanted)
        with timer.stage("istft", istft.device, istft.method), precision(istft.device):
            return run_istft(real, imag)

    def _precision(self, place: StagePlacement) -> AbstractContextManager[object]:
        """Half precision for the reference modules; packed ones see to it themselves."""
        return precision(place.device, "float32" if place.method == "packed" else self.dtype)


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
