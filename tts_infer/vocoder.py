"""The vocoder as its users meet it: checked input, any length, any batch, a report where one is asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.config import DTypeName, MelConfig
from tts_infer.deprecated import renamed
from tts_infer.devices import CPU, device_lock
from tts_infer.errors import InputError
from tts_infer.io.features import as_audio
from tts_infer.runtime.pipeline import Pipeline
from tts_infer.runtime.placement import MethodChoice, Placement, PlacementSpec, make_placement, require_devices
from tts_infer.runtime.timing import StageRecord, StageTimer
from tts_infer.stages import Stage
from tts_infer.streaming import Lookahead, StreamingDecoder, StreamingMel
from tts_infer.vocoders import family_of
from tts_infer.vocoders.checkpoint import DEFAULT_VOCODER, load_model, resolve

Features = Tensor | NDArray[Any]
Waveform = Tensor | NDArray[Any]
Lengths = Tensor | NDArray[Any] | Sequence[int]

# Seconds of audio in one call after which accelerators give their cached memory back.
_LONG_S = 60


@dataclass(frozen=True)
class Synthesis:
    """What `Vocoder.synthesize` gives.

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
    """A pretrained vocoder, its stages placed on devices.

    Stands in for `vocos.Vocos`: `decode(mel)` is its decode and calling it with audio copies that audio. One vocoder
    may be used from several threads.

    Attributes:
        name: what it was loaded by.
        refine: passes of mel-consistent refinement that a decode makes unless it says otherwise, see `Refinement`.

    Raises:
        PlacementError: a dtype that the devices of its networks cannot use well.
        InputError: a number of passes that there is not.
    """

    def __init__(
        self, model: nn.Module, placement: Placement, name: str, dtype: DTypeName = "float32", refine: int = 0
    ) -> None:
        self.name, self.refine = name, _checked_passes(refine)
        self._pipeline = Pipeline(model, placement, dtype)

    @property
    def placement(self) -> Placement:
        return self._pipeline.placement

    @property
    def dtype(self) -> DTypeName:
        return self._pipeline.dtype

    @property
    def stages(self) -> list[Stage]:
        """The steps from audio to features and from features to audio, in order."""
        return self._pipeline.stages

    @property
    def mel_config(self) -> MelConfig:
        """The mel convention that this vocoder was trained on."""
        config: MelConfig = self._pipeline.features.config  # type: ignore[attr-defined]  # of those that decode mels
        return config

    @property
    def sample_rate(self) -> int:
        return self._pipeline.features.sample_rate

    @property
    def hop_length(self) -> int:
        return self._pipeline.features.hop_length

    @property
    def n_mels(self) -> int:
        """Rows of a frame."""
        return self._pipeline.features.n_channels

    @property
    def max_frames(self) -> int:
        """Frames, over the whole batch, that are decoded at once; what is longer is decoded in pieces."""
        return self._pipeline.max_frames

    @property
    def model(self) -> Any:
        """The modules as they were loaded; their stages may run by other code, see `placement`."""
        return self._pipeline.model

    @property
    def backbone(self) -> Any:
        return self.model.backbone

    @property
    def head(self) -> Any:
        """With `.out` and `.istft`, as F5-TTS's export reads them."""
        return self.model.head

    def n_samples(self, frames: int) -> int:
        """Samples of audio that `frames` give."""
        return self._pipeline.n_samples(frames)

    @torch.no_grad()  # what it gives may be what a model is trained on
    def mel(self, audio: Waveform) -> Tensor:
        """Compute the log-mel spectrogram in this vocoder's convention.

        Args:
            audio: floating point, full scale 1.0, at `sample_rate`.

        Shape: (B, T) or (T,) -> (B, n_mels, L), L as in `STFT`
        Raises:
            InputError, InputTypeError: see `as_audio`; or the audio is too short for one frame.
        """
        return self._mel(_checked_audio(audio), StageTimer(enabled=False))

    @overload
    def decode(self, features: Features, lengths: None = None, *, refine: int | None = None) -> Tensor: ...
    @overload
    def decode(self, features: Features, lengths: Lengths, *, refine: int | None = None) -> list[Tensor]: ...
    @overload
    def decode(
        self, features: Sequence[Features], lengths: None = None, *, refine: int | None = None
    ) -> list[Tensor]: ...

    @torch.inference_mode()
    def decode(
        self, features: Features | Sequence[Features], lengths: Lengths | None = None, *, refine: int | None = None
    ) -> Tensor | list[Tensor]:
        """Turn log-mel spectrograms into audio.

        However long, they are decoded in bounded memory; of whatever lengths in one batch, each as if it were alone.

        Args:
            features: floating point, in this vocoder's convention, on any device; or a list of (n_mels, L) ones.
            lengths: valid frames of each item of a padded batch, whatever the padding holds.
            refine: passes that pull the audio's mel to the given one; None: as many as `self.refine`. With 0 the
                output is the network's own, as the official package gives it.

        Returns:
            Audio on the device of the last stage: one tensor for a batch of one length; for several lengths a list
            of (T,), each as long as its own mel.

        Shape:
            (B, n_mels, L) or (n_mels, L) -> (B, T); T = (L - 1) * hop_length for padding "center" (one frame gives
            an empty waveform), L * hop_length for "same".
        Raises:
            InputError, InputTypeError: see `as_features`, `as_ragged`; or a number of passes that there is not.
        Source: vocos/pretrained.py Vocos.decode, which fails on one frame with padding "center".
        """
        timer, passes = StageTimer(enabled=False), self._passes(refine)
        if isinstance(features, Sequence) or lengths is not None:
            given = features if isinstance(features, Sequence) else [features]
            with device_lock(*map(_device_of, given)):
                padded, counts = self._pipeline.features.check_ragged(features, lengths)
            return self._decode_ragged(padded, counts, passes, timer)
        return self._decode(self._checked_features(features), passes, timer)

    @torch.inference_mode()
    def __call__(self, audio: Waveform, *, refine: int | None = None) -> Tensor:
        """Copy audio: its mel, decoded.

        Args:
            audio: as for `mel`.
            refine: as for `decode`.

        Shape: (B, T) or (T,) -> (B, T'), T rounded down to a multiple of hop_length
        Raises:
            InputError, InputTypeError: see `mel`.
        """
        return self._decode(self.mel(audio), self._passes(refine), StageTimer(enabled=False))

    @torch.inference_mode()
    def synthesize(
        self, features: Features | None = None, *, audio: Waveform | None = None, refine: int | None = None
    ) -> Synthesis:
        """Decode features, or copy audio, and report where the time went.

        Args:
            features: as for `decode`, of one length; or
            audio: as for `__call__`.
            refine: as for `decode`.

        Raises:
            InputError, InputTypeError: see `decode` and `mel`; or not exactly one of the two was given.
        """
        start = time.perf_counter()
        timer, passes = StageTimer(enabled=True), self._passes(refine)
        if features is not None and audio is None:
            mel = self._checked_features(features)
        elif audio is not None and features is None:
            mel = self._mel(_checked_audio(audio), timer)
        else:
            raise InputError("give either features or audio=..., not both and not neither", code="features-or-audio")
        decoded = self._decode(mel, passes, timer)
        total_ms = (time.perf_counter() - start) * 1e3
        return Synthesis(decoded, mel, self.sample_rate, timer.records, total_ms)

    def stream(
        self, lookahead: Lookahead = "full", *, refine: int | None = None, timed: bool = False
    ) -> StreamingDecoder:
        """Begin a signal that arrives in pieces, see `StreamingDecoder`.

        Raises:
            InputError: a lookahead that this vocoder does not have, or a number of passes that there is not.
        """
        return StreamingDecoder(self._pipeline, self._passes(refine), lookahead, timed)

    def mel_stream(self, *, timed: bool = False) -> StreamingMel:
        """Begin the mel of audio that arrives in pieces, see `StreamingMel`."""
        return StreamingMel(self._pipeline, timed)

    def to(self, device: str | torch.device) -> Vocoder:
        """Move every stage to one device, each with the method that suits it there; returns itself, as `nn.Module.to`.

        Raises:
            PlacementError: no such device here.
        """
        stages = self._pipeline.family.stages(self.model)
        placement = make_placement(device=device, dtype=self.dtype, stages=stages)
        self._pipeline = Pipeline(self.model, placement, self.dtype)
        return self

    def eval(self) -> Vocoder:
        """Nothing to do, for code that was written for `nn.Module`; returns itself."""
        return self

    def _checked_features(self, features: Features) -> Tensor:
        """Input as the stages take it. To look at values is to use the device that they are on."""
        with device_lock(_device_of(features)):
            return self._pipeline.features.check(features)

    def _passes(self, refine: int | None) -> int:
        return self.refine if refine is None else _checked_passes(refine)

    def _mel(self, audio: Tensor, timer: StageTimer) -> Tensor:
        live, _ = self._pipeline.run(self._pipeline.front(), {"audio": audio}, timer)
        return live[self._pipeline.features.name]

    def _decode(self, features: Tensor, refine: int, timer: StageTimer) -> Tensor:
        """Decode at once what is short, and in pieces what is long."""
        batch, _, frames = features.shape
        piece = max(1, self.max_frames // batch)
        if frames <= piece:
            return self._pipeline.decode(features, self._pipeline.decoding(refine), timer)
        stream = StreamingDecoder(self._pipeline, refine, timed=timer.enabled)
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

    def _decode_ragged(self, features: Tensor, lengths: list[int], refine: int, timer: StageTimer) -> list[Tensor]:
        """Decode items of several lengths, together if they are short."""
        if features.shape[0] * features.shape[2] > self.max_frames:
            return [self._decode(features[i : i + 1, :, :n], refine, timer)[0] for i, n in enumerate(lengths)]
        positions, ends = torch.arange(features.shape[2], device=CPU), torch.tensor(lengths, device=CPU)
        valid = (positions[None, :] < ends[:, None]).to(torch.float32).unsqueeze(2)
        with device_lock(features.device):
            valid = valid.to(features.device)
        audio = self._pipeline.decode(features, self._pipeline.decoding(refine), timer, valid)
        return [item[: self.n_samples(n)] for item, n in zip(audio, lengths, strict=True)]


def _checked_passes(refine: int) -> int:
    if not isinstance(refine, (int, np.integer)) or refine < 0:
        raise InputError("refine is {got!r}; allowed: a number of passes, 0 or more", code="refine-range", got=refine)
    return int(refine)


def _checked_audio(audio: Waveform) -> Tensor:
    with device_lock(_device_of(audio)):
        return as_audio(audio)


def _device_of(value: Tensor | NDArray[Any]) -> torch.device:
    return value.device if isinstance(value, Tensor) else CPU


def load_vocoder(
    name: str | os.PathLike[str] = DEFAULT_VOCODER,
    *,
    device: str | torch.device = "auto",
    placement: PlacementSpec = None,
    mel: MethodChoice = "auto",
    istft: MethodChoice = "auto",
    dtype: DTypeName = "float32",
    refine: int | None = None,
    revision: str | None = None,
    check: bool = True,
) -> Vocoder:
    """Load a pretrained vocoder, ready to decode.

    Args:
        name: a name in `configs/vocoders` (the default one is part of the package), a local directory with
            `config.yaml` and weights, or a Hub id such as "charactr/vocos-mel-24khz".
        device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
        placement: devices of single stages, see `tts_infer.runtime.placement`; stages it does not name go to `device`.
        mel, istft: method of the spectral stages: "matmul", "fft" or "auto".
        dtype: of the matrix products in backbone and head.
        refine: passes of refinement that a decode makes unless it says otherwise; None: what `configs/vocoders` says
            of this vocoder, else 0.
        revision: of a Hub repository.
        check: prove and time the stages whose device or method is left to choose, see `make_placement`.

    Raises:
        VocoderNotFoundError: nothing of that name, here or on the Hub.
        ConfigError, CheckpointError: its files cannot be used.
        PlacementError: a device, method or dtype that is unknown or not available here.
        InputError: a number of passes that there is not, or a revision of what is not on the Hub.
    """
    require_devices(placement, device, dtype)  # before anything is downloaded
    files = resolve(name, revision)
    model = load_model(files)
    stages = family_of(model).stages(model)
    placed = make_placement(placement, device, mel, istft, dtype, check, stages=stages)
    if refine is None:
        refine = files.known.refine if files.known else 0
    return Vocoder(model, placed, files.name, dtype, refine)
