"""The public vocoder: it checks its input, decodes any length and any batch, and reports times on request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, overload

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer import decoding
from tts_infer.arguments import checked
from tts_infer.config import DTypeName
from tts_infer.decoding import Synthesis
from tts_infer.devices import device_lock, device_of, uncompiled
from tts_infer.dsp.mismatch import ConventionCheck
from tts_infer.errors import InputError
from tts_infer.io.features import as_audio
from tts_infer.live import LiveAudio, LiveSource, live_mels
from tts_infer.modulelike import ModuleLike
from tts_infer.runtime import workers
from tts_infer.runtime.pipeline import Pipeline
from tts_infer.runtime.placement import Placement
from tts_infer.runtime.timing import StageTimer
from tts_infer.streaming import Lookahead, StreamingDecoder, StreamingMel
from tts_infer.vocoders.features import CodesSpec, MelSpec

Features = Tensor | NDArray[Any]
Waveform = Tensor | NDArray[Any]
Lengths = Tensor | NDArray[Any] | Sequence[int]
Number = int | Tensor | NDArray[Any] | Sequence[int]  # of a condition: one, or one for each item


class Vocoder(ModuleLike):
    """A pretrained vocoder whose stages are placed on devices.

    It is called as `vocos.Vocos` is: `decode(mel)` gives audio, and calling it with audio copies that audio through the
    mel. `tts_infer.integrations.vocos.Vocos` replaces the class itself. Several threads may use one vocoder.

    Attributes:
        name: the name that it was loaded by.
        refine: the default number of refinement passes of a decode, see `TwoBandRefinement`.
        convention_check: what judges mels, see `ConventionCheck`; None: nothing does.

    Raises:
        PlacementError: the devices of its networks cannot use the dtype well.
        InputError: `refine` is not a number of passes, 0 or more.
    """

    def __init__(
        self,
        model: nn.Module,
        placement: Placement,
        name: str,
        dtype: DTypeName = "float32",
        refine: int = 0,
        check_convention: bool = True,
    ) -> None:
        self.name = name
        self.refine = self._passes(refine)
        self._pipeline = Pipeline(model, placement, dtype)
        spec = self._pipeline.features
        self.convention_check = ConventionCheck(spec.config) if check_convention and isinstance(spec, MelSpec) else None

    @workers.forkable
    @uncompiled(torch.no_grad)  # not inference_mode: a model may be trained on the result
    def mel(self, audio: Waveform) -> Tensor:
        """Compute the log-mel spectrogram in this vocoder's convention.

        Args:
            audio: floating point, full scale 1.0, at `sample_rate`.

        Shape: (B, T) or (T,) -> (B, n_mels, L), L as in `STFT`
        Raises:
            InputError, InputTypeError: see `as_audio`; or the audio is too short for one frame.
        """
        return self._mel(audio, StageTimer(enabled=False))

    feature_extractor = mel  # the name that programs for vocos know

    @torch.no_grad()  # as `mel`
    def codes_to_features(self, codes: Features) -> Tensor:
        """Look up the vectors of codes and add them, frame by frame. Only for vocoders that take codes.

        Args:
            codes: whole numbers, of as many codebooks as were used: of EnCodec at 24 kHz 2, 4, 8 or 16.

        Shape: (K, L) or (K, B, L) -> (B, C, L)
        Raises:
            InputError, InputTypeError: see `as_codes`; or this vocoder takes no codes.
        Source: vocos/pretrained.py Vocos.codes_to_features.
        """
        return self._from_codes(self._checked_codes(codes), StageTimer(enabled=False))

    @property
    def takes_codes(self) -> bool:
        """Whether its features can be made of codes."""
        return isinstance(self.features, CodesSpec)

    def conditions_of(self, codes: Features) -> dict[str, Number]:
        """The conditions that the number of codes a frame says. Shape: (K, L) or (K, B, L)"""
        return dict(self.features.conditions_of(len(codes))) if isinstance(self.features, CodesSpec) else {}

    @overload
    def decode(
        self,
        features: Features,
        lengths: None = None,
        *,
        refine: int | None = None,
        check_convention: bool = True,
        **conditions: Number,
    ) -> Tensor: ...
    @overload
    def decode(
        self,
        features: Features,
        lengths: Lengths,
        *,
        refine: int | None = None,
        check_convention: bool = True,
        **conditions: Number,
    ) -> list[Tensor]: ...
    @overload
    def decode(
        self,
        features: Sequence[Features],
        lengths: None = None,
        *,
        refine: int | None = None,
        check_convention: bool = True,
        **conditions: Number,
    ) -> list[Tensor]: ...

    @workers.forkable
    @uncompiled(torch.inference_mode)
    @checked("check_convention")
    def decode(
        self,
        features: Features | Sequence[Features],
        lengths: Lengths | None = None,
        *,
        refine: int | None = None,
        check_convention: bool = True,
        **conditions: Number,
    ) -> Tensor | list[Tensor]:
        """Turn log-mel spectrograms into audio.

        Memory is bounded, however long the input is. Items of several lengths are decoded as if each were alone.

        Args:
            features: floating point, in this vocoder's convention, on any device; or a list of tensors (n_mels, L).
            lengths: number of valid frames of each item of a padded batch. The values of the padding do not matter.
            refine: passes that bring the audio's mel closer to the given mel; None: `self.refine`; 0: as vocos.
            check_convention: warn of a mel of another convention, see `ConventionCheck`.
            conditions: what `features.conditions` names, such as `bandwidth_id=2`; a number, or one for each item.

        Returns:
            Audio on the device of the last stage: one tensor; for several lengths a list of tensors (T,).

        Shape:
            (B, n_mels, L) or (n_mels, L) -> (B, T); T = (L - 1) * hop_length for padding "center" (one frame gives
            an empty waveform), L * hop_length for "same".
        Raises:
            InputError, InputTypeError: see `as_features`, `as_ragged`; `refine` is not 0 or more; or a condition
                is missing or unknown.
        Source: vocos/pretrained.py Vocos.decode, which fails on one frame with padding "center".
        """
        timer, passes = StageTimer(enabled=False), self._passes(refine)
        given = self._pipeline.conditions(conditions)
        if isinstance(features, Sequence) or lengths is not None:
            items = features if isinstance(features, Sequence) else [features]
            with device_lock(*map(device_of, items)):
                padded, counts = self._pipeline.features.check_ragged(features, lengths)
                if self.convention_check is not None and check_convention:
                    self.convention_check.warn(padded, counts)
            return decoding.decode_ragged(self._pipeline, padded, counts, passes, timer, given)
        return decoding.decode(self._pipeline, self._checked(features, check_convention), passes, timer, given)

    @workers.forkable
    @uncompiled(torch.inference_mode)
    def __call__(self, audio: Waveform, *, refine: int | None = None, **conditions: Number) -> Tensor:
        """Copy audio: compute its mel and decode that.

        Args:
            audio, refine, conditions: as for `mel` and for `decode`.

        Shape: (B, T) or (T,) -> (B, T'), T rounded down to a multiple of hop_length
        Raises:
            InputError, InputTypeError: see `mel`.
        """
        given = self._pipeline.conditions(conditions)
        passes, untimed = self._passes(refine), StageTimer(enabled=False)
        return decoding.decode(self._pipeline, self.mel(audio), passes, untimed, given)

    @workers.forkable
    @uncompiled(torch.inference_mode)
    def synthesize(
        self,
        features: Features | None = None,
        *,
        audio: Waveform | None = None,
        codes: Features | None = None,
        refine: int | None = None,
        **conditions: Number,
    ) -> Synthesis:
        """Decode features or codes, or copy audio, and report where the time went.

        Args:
            features: as for `decode`, but of one length. Give one of features, audio and codes.
            audio: as for `__call__`.
            codes: as for `codes_to_features`. Conditions that their number says may be left out.
            refine, conditions: as for `decode`.

        Raises:
            InputError, InputTypeError: see `decode`, `mel` and `codes_to_features`; or not exactly one input was given.
        """
        start = time.perf_counter()
        if sum(one is not None for one in (features, audio, codes)) != 1:
            raise InputError("give one of features, audio=... and codes=...", code="one-input")
        timer, passes = StageTimer(enabled=True), self._passes(refine)
        checked = None if codes is None else self._checked_codes(codes)
        given = self._pipeline.conditions(conditions if codes is None else self.conditions_of(codes) | conditions)
        if checked is not None:
            mel = self._from_codes(checked, timer)
        elif audio is not None:
            mel = self._mel(audio, timer)
        else:
            assert features is not None
            mel = self._checked(features)
        decoded = decoding.decode(self._pipeline, mel, passes, timer, given)
        total_ms = (time.perf_counter() - start) * 1e3
        return Synthesis(decoded, mel, self.sample_rate, timer.records, total_ms)

    def stream(
        self, lookahead: Lookahead = "full", *, refine: int | None = None, timed: bool = False, **conditions: Number
    ) -> StreamingDecoder:
        """Decode features that arrive in pieces, see `StreamingDecoder`.

        Args:
            lookahead, timed: see `StreamingDecoder`.
            refine, conditions: as for `decode`.

        Raises:
            InputError: `lookahead` is larger than this vocoder's receptive field, or `refine` is not 0 or more.
            InputTypeError: an unknown condition.
        """
        given = self._pipeline.conditions(conditions)
        return StreamingDecoder(self._pipeline, self._passes(refine), lookahead, timed, given, self.convention_check)

    def astream(self, mels: LiveSource, frame_ms: float = 20.0, stream: StreamingDecoder | None = None) -> LiveAudio:
        """Decode for an event loop, see `live_mels`. `stream` is a fresh one of this vocoder; None: `self.stream()`."""
        return live_mels(self.stream() if stream is None else stream, mels, self.sample_rate, frame_ms)

    def mel_stream(self, *, timed: bool = False) -> StreamingMel:
        """Compute the mel of audio that arrives in pieces, see `StreamingMel`."""
        return StreamingMel(self._pipeline, timed)

    @checked("check_convention")
    def checked_features(self, features: Features, check_convention: bool = True) -> Tensor:
        """Features as the stages take them. Shape: (B, C, L) or (C, L) -> (B, C, L), float32

        Raises:
            InputError, InputTypeError: see `decode`.
        """
        return self._checked(features, check_convention)

    def _checked(self, features: Features, check_convention: bool = True) -> Tensor:
        # checking values uses their device, so its lock is held
        with device_lock(device_of(features)):
            spec = self._pipeline.features
            if self.convention_check is None or not check_convention or not isinstance(spec, MelSpec):
                return spec.check(features)
            mel, extremes = spec.checked_range(features)
            self.convention_check.warn(mel, extremes=extremes)
            return mel

    def _passes(self, refine: int | None) -> int:
        return decoding.passes(self.refine if refine is None else refine)

    def _mel(self, audio: Waveform, timer: StageTimer) -> Tensor:
        with device_lock(device_of(audio)):
            checked = as_audio(audio)
        live, _ = self._pipeline.run(self._pipeline.front(), {"audio": checked}, timer)
        return live[self._pipeline.features.name]

    def _checked_codes(self, codes: Features) -> Tensor:
        """Codes as the stages take them. Shape: (K, L) or (K, B, L) -> (B, K, L)"""
        self._pipeline.front("codes")
        features = self._pipeline.features
        assert isinstance(features, CodesSpec)
        with device_lock(device_of(codes)):
            return features.check_codes(codes)

    def _from_codes(self, codes: Tensor, timer: StageTimer) -> Tensor:
        live, _ = self._pipeline.run(self._pipeline.front("codes"), {"codes": codes}, timer)
        return live[self._pipeline.features.name]
