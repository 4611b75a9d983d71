"""Stages whose input arrives in pieces: what they return joins to what the whole would give.

Nothing is computed twice: each keeps the few frames that the next piece will still need.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tts_infer.dsp.refine import Refinement, Spectrum, joined
from tts_infer.dsp.stft import ISTFT
from tts_infer.dsp.tiles import blocks
from tts_infer.vocoders.vocos import Edges, StreamEdges


class Backbone(Protocol):
    """What a stream needs of a backbone: `VocosBackbone`, or what computes the same by other means."""

    @property
    def reach(self) -> int: ...

    @property
    def hidden_size(self) -> int: ...

    def __call__(self, features: Tensor, edges: Edges | None = None) -> Tensor: ...


class BackboneStream:
    """A backbone whose features arrive in pieces; the pieces of hidden frames join to what the whole would give.

    No frame is computed twice: each convolution keeps its last 2 REACH inputs. With less than full `lookahead`, frames
    come earlier and are approximate: at every push, the end of the signal is computed as if nothing followed it.

    Args:
        backbone: the modules.
        lookahead: frames to wait for, from 0 to `backbone.reach`; the latter is exact.
    """

    def __init__(self, backbone: Backbone, lookahead: int) -> None:
        self.backbone, self.lookahead = backbone, lookahead
        self.edges = StreamEdges()
        self.given = 0  # frames returned so far

    def push(self, features: Tensor, final: bool = False) -> Tensor:
        """Add frames, and return the hidden frames that are due.

        Args:
            features: the next frames, possibly none.
            final: these are the last; returns everything that is left.

        Shape: (B, C, L) -> (B, L', H), L' >= 0
        """
        batch, channels, frames = features.shape
        if not (frames or final):
            return features.new_zeros(batch, 0, self.backbone.hidden_size)
        edges, reach = self.edges, self.backbone.reach
        begin, end = edges.first - reach, edges.first + frames  # `begin` of what the backbone answers with
        due = end if final else end - self.lookahead
        if final:
            edges.length = end
            features = F.pad(features, (0, reach))
        hidden = self.backbone(features, edges)
        edges.first = end
        if due > begin + hidden.shape[1]:
            ending = self.backbone(features.new_zeros(batch, channels, reach), edges.ended())
            hidden = torch.cat([hidden, ending], dim=1)
        hidden = hidden[:, max(0, self.given - begin) : max(0, due - begin)]
        self.given = max(self.given, due)
        return hidden


class ISTFTStream:
    """An `ISTFT` whose frames arrive in pieces; the pieces of audio join to what the whole would give.

    Between pieces it keeps the R - 1 rows that further frames will still add to.
    """

    def __init__(self, istft: ISTFT) -> None:
        self.istft = istft
        self.seen = 0  # frames so far
        self.tail: Tensor | None = None

    def push(self, real: Tensor, imag: Tensor, final: bool = False) -> Tensor:
        """Add frames, and return the samples that no later frame can change.

        Args:
            real, imag: the next frames, possibly none.
            final: these are the last; returns everything that is left.

        Shape: real, imag of (B, N, L) -> (B, T), T >= 0
        """
        istft, first = self.istft, self.seen
        rows = self.rows(real, imag, final)
        begin = istft.pad[0] - first * istft.hop_length
        end = begin + istft.n_samples(self.seen)
        samples = rows.reshape(rows.shape[0], -1)
        return samples[:, max(0, begin) : max(0, end) if final else None]

    def rows(self, real: Tensor, imag: Tensor, final: bool = False) -> Tensor:
        """As `push`, with the samples that padding added, see `ISTFT.rows`. Shape: -> (B, rows, hop_length)"""
        istft, pieces = self.istft, real.shape[2]
        rows = istft.signal(real, imag, begun=self.tail)
        first, self.seen = self.seen, self.seen + pieces
        if final:
            length = self.seen
        else:
            length = self.seen + istft.overlap  # any length beyond these rows: the closing edge is not among them
            rows, self.tail = rows[:, :pieces], rows[:, pieces:].clone()
        return istft.normalise(rows, first, length)


class FrameQueue:
    """Frames that wait until something else has caught up with them. Shape: (B, L, C) each"""

    def __init__(self) -> None:
        self._waiting: Tensor | None = None

    def take(self, new: Tensor, count: int) -> Tensor:
        """Add frames at the end, and take the `count` longest waiting."""
        waiting = new if self._waiting is None else torch.cat([self._waiting, new], dim=1)
        self._waiting = waiting[:, count:].clone()
        return waiting[:, :count]


class RefinementStream:
    """A `Refinement` whose spectrum arrives in pieces: every pass answers `reach` frames late.

    Args:
        refinement: the modules.
        passes: how many.
    """

    def __init__(self, refinement: Refinement, passes: int) -> None:
        self.refinement = refinement
        self._passes = [_Pass(refinement) for _ in range(passes)]
        self._mel = FrameQueue()

    @property
    def delay_frames(self) -> int:
        """Frames by which the answers are late."""
        return self.refinement.reach * len(self._passes)

    def push(self, spectrum: Spectrum, log_mel: Tensor, final: bool = False) -> Spectrum:
        """Add frames, and return those that are due.

        Args:
            spectrum: the next frames, possibly none.
            log_mel: the next frames of the mel wanted, which may be ahead of the spectrum.
            final: these are the last; returns everything that is left.

        Shape: 2 x (B, N, L), (B, n_mels, L'), L' >= L -> 2 x (B, N, L''), L'' >= 0
        """
        real, imag = spectrum
        batch, _, frames = real.shape
        wanted = self._mel.take(log_mel.transpose(1, 2), frames)
        refined = []
        for block in blocks(frames, batch, real.device) or [slice(0, 0)]:
            last = final and block.stop == frames
            refined.append(self._push((real[..., block], imag[..., block]), wanted[:, block], last))
        return refined[0] if len(refined) == 1 else joined(refined, 1)

    def _push(self, spectrum: Spectrum, log_mel: Tensor, final: bool) -> Spectrum:
        wanted = log_mel.exp()
        before: Spectrum | None = None
        for one in self._passes:
            spectrum, before, wanted = one.push(spectrum, before, wanted, final)
        return spectrum


class _Pass:
    """One pass of a `RefinementStream`, and what it keeps: rows of the signal, and frames that are ahead of them."""

    def __init__(self, refinement: Refinement) -> None:
        self._refinement = refinement
        self._signal = ISTFTStream(refinement.istft)
        self._rows: Tensor | None = None
        self._wanted, self._real, self._imag = FrameQueue(), FrameQueue(), FrameQueue()

    def push(
        self, spectrum: Spectrum, before: Spectrum | None, wanted: Tensor, final: bool
    ) -> tuple[Spectrum, Spectrum, Tensor]:
        """From what the pass before gives to what the next one takes: the spectrum, its consistent one, the mel."""
        consistent = self._consistent(spectrum, final)
        count = consistent[0].shape[2]
        wanted = self._wanted.take(wanted, count)
        if before is not None:
            queues = (self._real, self._imag)
            real, imag = (q.take(part.transpose(1, 2), count) for q, part in zip(queues, before, strict=True))
            before = real.transpose(1, 2), imag.transpose(1, 2)
        return self._refinement.pull(consistent, before, wanted), consistent, wanted

    def _consistent(self, spectrum: Spectrum, final: bool) -> Spectrum:
        """The STFT of the signal as far as it is known."""
        rows = self._signal.rows(*spectrum, final)
        if self._rows is not None:
            rows = torch.cat([self._rows, rows], dim=1)
        count = max(0, rows.shape[1] - self._refinement.reach)
        self._rows = rows[:, count:].clone()
        if count == 0:
            return spectrum[0][..., :0], spectrum[1][..., :0]
        return self._refinement.transform(rows)
