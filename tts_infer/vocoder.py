"""The vocoder: the one place where the stages meet."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.checkpoint import DEFAULT_VOCODER, load_model, resolve
from tts_infer.config import DTypeName, MelConfig, SpectralMethod
from tts_infer.devices import CPU, exclusive, precision, release_memory, require_dtype
from tts_infer.errors import InputError
from tts_infer.inputs import as_audio, as_features
from tts_infer.model import ISTFTHead, Vocos, VocosBackbone
from tts_infer.placement import STAGES, MethodChoice, Placement, PlacementSpec, make_placement
from tts_infer.timing import StageRecord, StageTimer

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
    def xrt(self) -> float:
        """Seconds of audio per second of compute."""
        return self.seconds / (self.total_ms / 1e3)


class Vocoder:
    """A pretrained vocoder, its stages placed on devices.

    Stands in for `vocos.Vocos`: `decode(mel)` is its decode and calling it with audio copies that audio. One vocoder
    may be used from several threads.
    """

    def __init__(self, model: Vocos, placement: Placement, name: str, dtype: DTypeName = "float32") -> None:
        """Place a model's stages.

        Raises:
            PlacementError: a dtype that the devices of backbone and head cannot use well.
        """
        for place in (placement.backbone, placement.head):
            require_dtype(place.device, dtype)
        self.name, self.dtype = name, dtype
        self._model = model
        self._place(placement)

    @property
    def mel_config(self) -> MelConfig:
        """The mel convention that this vocoder was trained on."""
        return self._model.config.mel

    @property
    def sample_rate(self) -> int:
        return self.mel_config.sample_rate

    @property
    def hop_length(self) -> int:
        return self.mel_config.hop_length

    @property
    def n_mels(self) -> int:
        return self.mel_config.n_mels

    @property
    def backbone(self) -> VocosBackbone:
        return self._model.backbone

    @property
    def head(self) -> ISTFTHead:
        """With `.out` and `.istft`, as F5-TTS's export reads them."""
        return self._model.head

    @torch.inference_mode()
    def mel(self, audio: Tensor | NDArray[Any]) -> Tensor:
        """Compute the log-mel spectrogram in this vocoder's convention.

        Args:
            audio: floating point, full scale 1.0, at `sample_rate`.

        Shape: (B, T) or (T,) -> (B, n_mels, L), L as in `STFT`
        Raises:
            InputError, InputTypeError: see `as_audio`; or the audio is too short for one frame.
        """
        return self._mel(_checked_audio(audio), StageTimer(enabled=False))

    @torch.inference_mode()
    def decode(self, features: Tensor | NDArray[Any]) -> Tensor:
        """Turn log-mel spectrograms into audio.

        Args:
            features: floating point, in this vocoder's convention, on any device.

        Returns:
            Audio on the device of the last stage.

        Shape:
            (B, n_mels, L) or (n_mels, L) -> (B, T); T = (L - 1) * hop_length for padding "center" (one frame gives
            an empty waveform), L * hop_length for "same".
        Raises:
            InputError, InputTypeError: see `as_features`.
        Source: vocos/pretrained.py Vocos.decode, which fails on one frame with padding "center".
        """
        return self._decode(self._checked_features(features), StageTimer(enabled=False))

    @torch.inference_mode()
    def __call__(self, audio: Tensor | NDArray[Any]) -> Tensor:
        """Copy audio: its mel, decoded.

        Shape: (B, T) or (T,) -> (B, T'), T rounded down to a multiple of hop_length
        Raises:
            InputError, InputTypeError: see `mel`.
        """
        timer = StageTimer(enabled=False)
        return self._decode(self._mel(_checked_audio(audio), timer), timer)

    @torch.inference_mode()
    def synthesize(
        self, features: Tensor | NDArray[Any] | None = None, *, audio: Tensor | NDArray[Any] | None = None
    ) -> Synthesis:
        """Decode features, or copy audio, and report where the time went.

        Args:
            features: as for `decode`; or
            audio: as for `__call__`.

        Raises:
            InputError, InputTypeError: see `decode` and `mel`; or not exactly one of the two was given.
        """
        start = time.perf_counter()
        timer = StageTimer(enabled=True)
        if features is not None and audio is None:
            mel = self._checked_features(features)
        elif audio is not None and features is None:
            mel = self._mel(_checked_audio(audio), timer)
        else:
            raise InputError("give either features or audio=..., not both and not neither")
        decoded = self._decode(mel, timer)
        total_ms = (time.perf_counter() - start) * 1e3
        return Synthesis(decoded, mel, self.sample_rate, timer.records, total_ms)

    def to(self, device: str | torch.device) -> Vocoder:
        """Move every stage to one device, each with the method that suits it there; returns itself, as `nn.Module.to`.

        Raises:
            PlacementError: no such device here.
        """
        self._place(make_placement(device=device, dtype=self.dtype))
        return self

    def eval(self) -> Vocoder:
        """Nothing to do, for code that was written for `nn.Module`; returns itself."""
        return self

    def _place(self, placement: Placement) -> None:
        self.placement = placement
        self._model.use_methods(
            cast(SpectralMethod, placement.mel.method), cast(SpectralMethod, placement.istft.method)
        )
        with exclusive(*(placement[stage].device for stage in STAGES)):
            self._model.feature_extractor.to(placement.mel.device)
            self._model.backbone.to(placement.backbone.device)
            self._model.head.out.to(placement.head.device)
            self._model.head.istft.to(placement.istft.device)

    def _checked_features(self, features: Tensor | NDArray[Any]) -> Tensor:
        """Input as the stages take it. To look at values is to use the device that they are on."""
        with exclusive(_device_of(features)):
            return as_features(features, self.n_mels)

    def _mel(self, audio: Tensor, timer: StageTimer) -> Tensor:
        place = self.placement.mel
        (audio,) = timer.move((audio,), place.device)
        with timer.stage("mel", place.device, place.method):
            mel: Tensor = self._model.feature_extractor(audio)
        return mel

    def _decode(self, features: Tensor, timer: StageTimer) -> Tensor:
        backbone, head, istft = self.placement.backbone, self.placement.head, self.placement.istft
        (features,) = timer.move((features,), backbone.device)
        with timer.stage("backbone", backbone.device, backbone.method), precision(backbone.device, self.dtype):
            hidden = self._model.backbone(features)
        (hidden,) = timer.move((hidden,), head.device)
        with timer.stage("head", head.device, head.method), precision(head.device, self.dtype):
            spectrum = self._model.head(hidden)
        real, imag = timer.move(spectrum, istft.device)
        with timer.stage("istft", istft.device, istft.method):
            audio: Tensor = self._model.head.istft(real, imag)
        if audio.numel() >= _LONG_S * self.sample_rate:
            for device in {backbone.device, head.device, istft.device}:
                release_memory(device)
        return audio


def _checked_audio(audio: Tensor | NDArray[Any]) -> Tensor:
    with exclusive(_device_of(audio)):
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
    revision: str | None = None,
    check: bool = True,
) -> Vocoder:
    """Load a pretrained vocoder, ready to decode.

    Args:
        name: a name in `configs/vocoders` (the default one is part of the package), a local directory with
            `config.yaml` and weights, or a Hub id such as "charactr/vocos-mel-24khz".
        device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
        placement: devices of single stages, see `tts_infer.placement`; stages it does not name go to `device`.
        mel, istft: method of the spectral stages: "matmul", "fft" or "auto".
        dtype: of the matrix products in backbone and head.
        revision: of a Hub repository.
        check: prove and time the stages whose device or method is left to choose, see `make_placement`.

    Raises:
        VocoderNotFoundError: nothing of that name, here or on the Hub.
        ConfigError, CheckpointError: its files cannot be used.
        PlacementError: a device, method or dtype that is unknown or not available here.
    """
    # refuse a wrong device before anything is downloaded
    placed = make_placement(placement, device, mel, istft, dtype, check)
    files = resolve(name, revision)
    return Vocoder(load_model(files), placed, files.name, dtype)
