"""The public vocoder: it checks its input, decodes any length and any batch, and reports times on request."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.config import DTypeName, MelConfig
from tts_infer.deprecated import renamed
from tts_infer.devices import device_lock, device_of
from tts_infer.errors import InputError
from tts_infer.io.features import as_audio
from tts_infer.runtime import parallel, workers
from tts_infer.runtime.pipeline import Pipeline
from tts_infer.runtime.placement import Placement, make_placement
from tts_infer.runtime.timing import StageRecord, StageTimer
from tts_infer.stages import Stage
from tts_infer.streaming import Lookahead, StreamingDecoder, StreamingMel
from tts_infer.vocoders.conditions import of_items, require_batch
from tts_infer.vocoders.features import CodesSpec, FeatureSpec, MelSpec

Features = Tensor | NDArray[Any]
Waveform = Tensor | NDArray[Any]
Lengths = Tensor | NDArray[Any] | Sequence[int]
Number = int | Tensor | NDArray[Any] | Sequence[int]  # of a condition: one, or one for each item

# After a call that makes this many seconds of audio, accelerators give their cached memory back.
_LONG_S = 60


@dataclass(frozen=True)
class Synthesis:
    """The result of `Vocoder.synthesize`.

    Shape: audio of (B, T), on the device of the last stage; features of (B, n_mels, L)
    """

    audio: Tensor
    features: Tensor
    sample_rate: int
    stages: list[StageRecord]
    total_ms: float  # wall time of the call

    @property
    def seconds(self) -> float:
        """Seconds of audio, over the whole batch."""
        return self.audio.numel() / self.sample_rate

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of compute."""
        return self.seconds / (self.total_ms / 1e3)

    xrt = renamed("xrt", "rtfx")


class Vocoder:
    """A pretrained vocoder whose stages are placed on devices.

    It replaces `vocos.Vocos`: `decode(mel)` gives audio, and calling it with audio copies that audio through the mel.
    Several threads may use one vocoder.

    Attributes:
        name: the name that it was loaded by.
        refine: the default number of refinement passes of a decode, see `Refinement`.

    Raises:
        PlacementError: the devices of its networks cannot use the dtype well.
        InputError: `refine` is not a number of passes, 0 or more.
    """

    def __init__(
        self, model: nn.Module, placement: Placement, name: str, dtype: DTypeName = "float32", refine: int = 0
    ) -> None:
        self.name = name
        self.refine = self._passes(refine)
        self._pipeline = Pipeline(model, placement, dtype)
        workers.survive_fork()

    @property
    def placement(self) -> Placement:
        return self._pipeline.placement

    @property
    def dtype(self) -> DTypeName:
        return self._pipeline.dtype

    @property
    def stages(self) -> list[Stage]:
        """All stages in order: first those that make features of audio, then those that make audio of features."""
        return self._pipeline.stages

    @property
    def mel_config(self) -> MelConfig:
        """The mel convention that this vocoder was trained on.

        Raises:
            InputError: it was trained on other features.
        """
        features = self._pipeline.features
        if not isinstance(features, MelSpec):
            raise InputError(
                "vocoder {name!r} takes no mels; give it its features or codes", code="no-mels", name=self.name
            )
        return features.config

    @property
    def features(self) -> FeatureSpec:
        """What it decodes: their name, sizes and conditions."""
        return self._pipeline.features

    @property
    def sample_rate(self) -> int:
        return self._pipeline.features.sample_rate

    @property
    def hop_length(self) -> int:
        return self._pipeline.features.hop_length

    @property
    def n_mels(self) -> int:
        """Values in one frame of features."""
        return self._pipeline.features.n_channels

    @property
    def max_frames(self) -> int:
        """Frames, summed over the batch, that are decoded at once. Longer input is decoded in pieces."""
        return self._pipeline.max_frames

    @property
    def model(self) -> Any:
        """The modules as loaded. An engine may run a stage by other code than its module, see `placement`."""
        return self._pipeline.model

    @property
    def backbone(self) -> Any:
        return self.model.backbone

    @property
    def head(self) -> Any:
        """The module with `.out` and `.istft`, which the export of F5-TTS reads."""
        return self.model.head

    def n_samples(self, frames: int) -> int:
        """Samples of audio that `frames` give."""
        return self._pipeline.n_samples(frames)

    @torch.no_grad()  # not inference_mode: a model may be trained on the result
    def mel(self, audio: Waveform) -> Tensor:
        """Compute the log-mel spectrogram in this vocoder's convention.

        Args:
            audio: floating point, full scale 1.0, at `sample_rate`.

        Shape: (B, T) or (T,) -> (B, n_mels, L), L as in `STFT`
        Raises:
            InputError, InputTypeError: see `as_audio`; or the audio is too short for one frame.
        """
        return self._mel(audio, StageTimer(enabled=False))

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
        self, features: Features, lengths: None = None, *, refine: int | None = None, **conditions: Number
    ) -> Tensor: ...
    @overload
    def decode(
        self, features: Features, lengths: Lengths, *, refine: int | None = None, **conditions: Number
    ) -> list[Tensor]: ...
    @overload
    def decode(
        self, features: Sequence[Features], lengths: None = None, *, refine: int | None = None, **conditions: Number
    ) -> list[Tensor]: ...

    @torch.inference_mode()
    def decode(
        self,
        features: Features | Sequence[Features],
        lengths: Lengths | None = None,
        *,
        refine: int | None = None,
        **conditions: Number,
    ) -> Tensor | list[Tensor]:
        """Turn log-mel spectrograms into audio.

        Memory is bounded, however long the input is. Items of several lengths are decoded as if each were alone.

        Args:
            features: floating point, in this vocoder's convention, on any device; or a list of tensors (n_mels, L).
            lengths: number of valid frames of each item of a padded batch. The values of the padding do not matter.
            refine: passes that bring the audio's mel closer to the given mel; None: `self.refine`; 0: as vocos.
            conditions: what `features.conditions` names, such as `bandwidth_id=2`: a whole number, or one for each
                item. Other names are refused.

        Returns:
            Audio on the device of the last stage: one tensor for a batch of one length; for several lengths a list
            of tensors (T,).

        Shape:
            (B, n_mels, L) or (n_mels, L) -> (B, T); T = (L - 1) * hop_length for padding "center" (one frame gives
            an empty waveform), L * hop_length for "same".
        Raises:
            InputError, InputTypeError: see `as_features`, `as_ragged`; `refine` is not 0 or more; or a condition
                is missing or unknown.
        Source: vocos/pretrained.py Vocos.decode, which fails on one frame with padding "center".
        """
        timer, passes, given = StageTimer(enabled=False), self._passes(refine), self._pipeline.conditions(conditions)
        if isinstance(features, Sequence) or lengths is not None:
            items = features if isinstance(features, Sequence) else [features]
            with device_lock(*map(device_of, items)):
                padded, counts = self._pipeline.features.check_ragged(features, lengths)
            return self._decode_ragged(padded, counts, passes, timer, given)
        return self._decode(self.checked_features(features), passes, timer, given)

    @torch.inference_mode()
    def __call__(self, audio: Waveform, *, refine: int | None = None, **conditions: Number) -> Tensor:
        """Copy audio: compute its mel and decode that.

        Args:
            audio, refine, conditions: as for `mel` and for `decode`.

        Shape: (B, T) or (T,) -> (B, T'), T rounded down to a multiple of hop_length
        Raises:
            InputError, InputTypeError: see `mel`.
        """
        given = self._pipeline.conditions(conditions)
        return self._decode(self.mel(audio), self._passes(refine), StageTimer(enabled=False), given)

    @torch.inference_mode()
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
            mel = self.checked_features(features)
        decoded = self._decode(mel, passes, timer, given)
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
        return StreamingDecoder(self._pipeline, self._passes(refine), lookahead, timed, given)

    def mel_stream(self, *, timed: bool = False) -> StreamingMel:
        """Compute the mel of audio that arrives in pieces, see `StreamingMel`."""
        return StreamingMel(self._pipeline, timed)

    def to(self, device: str | torch.device) -> Vocoder:
        """Move every stage to one device, and choose engine and method anew. Returns itself, as `nn.Module.to` does.

        Raises:
            PlacementError: this machine has no such device.
        """
        stages = self._pipeline.family.stages(self.model)
        placement = make_placement(device=device, dtype=self.dtype, stages=stages)
        self._pipeline = Pipeline(self.model, placement, self.dtype)
        return self

    def eval(self) -> Vocoder:
        """Return itself: a vocoder is always in evaluation mode. For code that expects an `nn.Module`."""
        return self

    def checked_features(self, features: Features) -> Tensor:
        """Features as the stages take them. Shape: (B, C, L) or (C, L) -> (B, C, L), float32

        Raises:
            InputError, InputTypeError: see `decode`.
        """
        # checking values uses their device, so its lock is held
        with device_lock(device_of(features)):
            return self._pipeline.features.check(features)

    def _passes(self, refine: int | None) -> int:
        """The number of passes of a decode."""
        passes = self.refine if refine is None else refine
        if not isinstance(passes, (int, np.integer)) or passes < 0:
            text = "refine is {got!r}; allowed: a number of passes, 0 or more"
            raise InputError(text, code="refine-range", got=passes)
        return int(passes)

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

    def _decode(self, features: Tensor, refine: int, timer: StageTimer, conditions: Mapping[str, Tensor]) -> Tensor:
        """Decode short features at once, and long ones in pieces; on a busy CPU, workers share parts."""
        batch, _, frames = features.shape
        if self._pipeline.is_on_cpu and workers.should_share():
            return parallel.decode(self._pipeline, features, self._pipeline.decoding(refine), timer, conditions)
        piece = max(1, self.max_frames // batch)
        if frames <= piece:
            return self._pipeline.decode(features, self._pipeline.decoding(refine), timer, numbers=conditions)
        stream = StreamingDecoder(self._pipeline, refine, timed=timer.enabled, conditions=conditions)
        device, done = self._pipeline.out_device, 0
        with device_lock(device):
            audio = torch.empty(batch, self.n_samples(frames), dtype=torch.float32, device=device)
        for pushed in stream.decode(features.split(piece, dim=2)):
            with device_lock(device):
                audio[:, done : done + pushed.shape[1]] = pushed
            done += pushed.shape[1]
        timer.records += stream.stages
        if audio.numel() >= _LONG_S * self.sample_rate:
            self._pipeline.release_memory()
        return audio

    def _decode_ragged(
        self, features: Tensor, lengths: list[int], refine: int, timer: StageTimer, conditions: Mapping[str, Tensor]
    ) -> list[Tensor]:
        """Decode items of several lengths: together if they are short, else one by one."""
        chain, busy = self._pipeline.decoding(refine), self._pipeline.is_on_cpu and workers.should_share()
        if busy and features.shape[2] <= self.max_frames:
            return parallel.decode_ragged(self._pipeline, features, lengths, chain, timer, conditions)
        if features.shape[0] * features.shape[2] <= self.max_frames:
            return self._pipeline.decode_ragged(features, lengths, chain, timer, numbers=conditions)
        require_batch(conditions, len(lengths))
        return [
            self._decode(features[i : i + 1, :, :n], refine, timer, of_items(conditions, slice(i, i + 1)))[0]
            for i, n in enumerate(lengths)
        ]
