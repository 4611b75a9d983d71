"""The spectral stages that families share: mel, range_null, refine, istft and imdct. They have no weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast, get_args

import torch
from torch import Tensor

from tts_infer.config import MelConfig, SpectralMethod
from tts_infer.devices import CPU
from tts_infer.dsp.frames import due
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mdct import IMDCT
from tts_infer.dsp.mel import LogMel
from tts_infer.dsp.range_null import RangeNull
from tts_infer.dsp.two_bands import TwoBandRefinement
from tts_infer.stages import PROBE_BATCH, PROBE_FRAMES, Stage, State, Tensors, wave

METHODS = get_args(SpectralMethod)


@dataclass(frozen=True)
class MelStage(Stage):
    """Audio to log-mel. A stream keeps the samples that the next frames, and the padding at the end, need.

    Shape: (B, T) -> (B, n_mels, L)
    """

    methods: ClassVar[tuple[str, ...]] = METHODS

    @classmethod
    def of(cls, log_mel: LogMel) -> MelStage:
        return cls("mel", log_mel, ("audio",), ("mel",), method=log_mel.stft.method)

    def by(self, method: str) -> MelStage:
        if method == self.method:
            return self
        return replace(self, module=LogMel(self.module.config, cast(SpectralMethod, method)), method=method)

    def initial_state(self, batch: int, device: torch.device = CPU) -> State:
        nothing = torch.zeros(batch, 0, dtype=torch.float32, device=device)
        return {"samples": nothing, "first": 0, "done": 0}

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        (audio,) = inputs
        if state is None:
            return (self.module(audio),), {}
        stft, first, done = self.module.stft, state["first"], state["done"]
        samples = torch.cat([state["samples"], audio], dim=1)
        here = samples.shape[1]
        # before the end of the signal, only frames whose windows lie within the samples are ready
        ready = stft.n_frames(here) if final else (here + stft.pad[0] - stft.n_fft) // stft.hop_length + 1
        stop = max(done, first + ready)
        if 0 < stop == done or (stop == 0 and not final):
            mel = samples.new_zeros(samples.shape[0], self.module.config.n_mels, 0)
        else:
            mel = self.module(samples)[..., done - first : stop - first]
        # keep a window and one frame more: padding mirrors at most that many samples
        begin = max(first, stop - -(-stft.n_fft // stft.hop_length) - 1)
        kept = samples[:, (begin - first) * stft.hop_length :].clone()
        return (mel,), {"samples": kept, "first": begin, "done": stop}

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, PROBE_FRAMES * self.module.config.hop_length),)


@dataclass(frozen=True)
class RangeNullStage(Stage):
    """Magnitudes from the mel and the null space of its filterbank, see `RangeNull`. Every frame by itself.

    Shape: 2 x (B, N, L), (B, n_mels, L) -> 2 x (B, N, L)
    """

    methods: ClassVar[tuple[str, ...]] = METHODS

    @classmethod
    def of(cls, range_null: RangeNull, method: SpectralMethod) -> RangeNullStage:
        names = ("real", "imag")
        return cls("range_null", range_null, (*names, "mel"), names, method=method, follows="istft")

    def by(self, method: str) -> RangeNullStage:
        if method == self.method:
            return self
        return replace(self, module=RangeNull(self.module.config, cast(SpectralMethod, method)), method=method)

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        real, imag, log_mel = inputs
        if state is None:
            return self.module(real, imag, log_mel), {}
        (log_mel,), waiting = due(state.get("mel"), [log_mel], real.shape[2])  # the network delays the spectrum
        return self.module(real, imag, log_mel), {"mel": waiting}

    def probe(self) -> Tensors:
        config = self.module.config
        return (*ISTFTStage.spectrum(config.n_fft // 2 + 1), wave(PROBE_BATCH, config.n_mels, PROBE_FRAMES))


@dataclass(frozen=True)
class RefinementStage(Stage):
    """Passes that correct a spectrum to its mel. Each makes a stream some frames later.

    Shape: 2 x (B, N, L), (B, n_mels, L) -> 2 x (B, N, L)
    """

    methods: ClassVar[tuple[str, ...]] = METHODS

    @classmethod
    def of(cls, mel: MelConfig, istft: ISTFT) -> RefinementStage:
        names = ("real", "imag")
        module = TwoBandRefinement(mel, istft)
        return cls("refine", module, (*names, "mel"), names, method=istft.method, passes=0, follows="istft")

    def by(self, method: str) -> RefinementStage:
        if method == self.method:
            return self
        module = TwoBandRefinement(self.module.config, _by(self.module.istft, method))
        return replace(self, module=module, method=method)

    @property
    def delay_frames(self) -> int:
        return int(self.module.receptive_field) * (self.passes or 0)

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        real, imag, log_mel = inputs
        passes = self.passes or 0
        if state is None:
            return self.module((real, imag), log_mel, passes, valid), {}
        (log_mel,), waiting = due(state.get("mel"), [log_mel], real.shape[2])  # the network delays the spectrum
        spectrum, after = self.module.advance((real, imag), log_mel, state, passes, final=final)
        return spectrum, {"mel": waiting, **after}

    def probe(self) -> Tensors:
        bins, mels = self.module.istft.n_fft // 2 + 1, self.module.config.n_mels
        return (*ISTFTStage.spectrum(bins), wave(PROBE_BATCH, mels, PROBE_FRAMES))


@dataclass(frozen=True)
class OverlapAddStage(Stage):
    """A spectrum to audio, by a transform whose frames overlap. A stream keeps the samples to which later frames are
    added.

    Shape: (B, ..., L) -> (B, T), T as in `module.n_samples`
    """

    @property
    def delay_frames(self) -> int:
        return int(self.module.overlap) // 2

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        inverse = self.module
        if state is None:
            return (inverse(*inputs, valid),), {}
        hops, after = inverse.advance(*inputs, state, final=final)
        begin = inverse.pad[0] - state.get("frames", 0) * inverse.hop_length
        end = begin + inverse.n_samples(after["frames"]) if final else None
        samples = hops.reshape(hops.shape[0], -1)
        return (samples[:, max(0, begin) : None if end is None else max(0, end)],), after


@dataclass(frozen=True)
class ISTFTStage(OverlapAddStage):
    """Spectrum to audio.

    Shape: 2 x (B, N, L) -> (B, T), T as in `ISTFT.n_samples`
    """

    methods: ClassVar[tuple[str, ...]] = METHODS

    @classmethod
    def of(cls, istft: ISTFT) -> ISTFTStage:
        return cls("istft", istft, ("real", "imag"), ("audio",), method=istft.method)

    def by(self, method: str) -> ISTFTStage:
        return self if method == self.method else replace(self, module=_by(self.module, method), method=method)

    @staticmethod
    def spectrum(bins: int) -> Tensors:
        """A spectrum for the self-test. Shape: 2 x (PROBE_BATCH, bins, PROBE_FRAMES)"""
        return wave(PROBE_BATCH, bins, PROBE_FRAMES), wave(PROBE_BATCH, bins, PROBE_FRAMES)

    def probe(self) -> Tensors:
        return self.spectrum(self.module.n_fft // 2 + 1)


@dataclass(frozen=True)
class IMDCTStage(OverlapAddStage):
    """MDCT coefficients to audio.

    Shape: (B, L, N) -> (B, T), T as in `IMDCT.n_samples`
    """

    @classmethod
    def of(cls, imdct: IMDCT) -> IMDCTStage:
        return cls("imdct", imdct, ("coefficients",), ("audio",))

    @property
    def frame_axis(self) -> int:
        return 1

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, PROBE_FRAMES, self.module.hop_length),)


def _by(istft: ISTFT, method: str) -> ISTFT:
    sizes = (istft.n_fft, istft.hop_length, istft.win_length)
    return type(istft)(*sizes, padding=istft.padding, method=cast(SpectralMethod, method))


def with_refinement(mel: MelConfig, istft: ISTFT) -> list[Stage]:
    """The stages from a spectrum to audio: istft, and refinement before it if mel and spectrum have equal sizes."""
    same = (mel.n_fft, mel.hop_length, mel.win_length or mel.n_fft)
    fits = same == (istft.n_fft, istft.hop_length, istft.win_length)
    return [*([RefinementStage.of(mel, istft)] if fits else []), ISTFTStage.of(istft)]
