"""What the passes of refinement compute, as functions of tensors; `refine.py` has the formulas.

They are written in the part of Python that torch reads as a script, so that all passes over a tile are one call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tts_infer.dsp.dft import interleaved, inverse_dft, real_dft
from tts_infer.dsp.filterbank import banded
from tts_infer.dsp.frames import frame, framed, overlap_add
from tts_infer.dsp.istft import inverted, normalise
from tts_infer.dsp.script import Script


def passed(
    real: Tensor,
    imag: Tensor,
    aligned: list[Tensor],
    waiting: list[list[Tensor]],
    first: int,
    final: bool,
    steps: list[tuple[float, float]],
    windows: tuple[Tensor, Tensor],
    bases: tuple[list[Tensor], list[Tensor]],
    filters: tuple[list[Tensor], list[Tensor]],
    cuts: tuple[list[int], list[int]],
    unfiltered: Tensor,
    floor: float,
    power: int,
    new: bool,
) -> tuple[Tensor, Tensor, list[list[Tensor]]]:
    """Push the next frames through all passes.

    Args:
        real, imag: the spectrum.
        aligned: of the same frames the mel, not logarithmic, and possibly marks, see `ISTFT.forward`.
        waiting: for each pass what the last call returned; nothing before the first frame.
        first: how many frames came before.
        final: whether these are the last frames.
        steps: those of `refine.steps`, one for each pass.
        windows: the window, and its envelope, see `ISTFT.envelope_of`.
        bases: of the inverse transform, and of the transform.
        filters, cuts, unfiltered, floor, power, new: see `corrected`.

    Returns:
        The spectrum of the frames that are due, and what waits for each pass.

    Shape: 2 x (B, L, N), (B, L, n_mels), (B, L, 1) -> 2 x (B, L', N), L' >= 0
    """
    window, envelope = windows
    n_fft, hop_length = window.shape[0], envelope.shape[1]
    late = -(-n_fft // hop_length) - 1
    after: list[list[Tensor]] = []
    before_real, before_imag = real, imag
    for i in range(len(steps)):
        marks, state = aligned[1:], waiting[i]
        begun, carried = max(0, first - i * late), state[: len(aligned)]  # as many as the mel and the marks
        hops, carried = inverted(real, imag, marks, carried, bases[0], window, envelope, begun, final)
        due = [hops, before_real, before_imag] + aligned  # noqa: RUF005  scripts have no stars
        due, kept = taken(due, state[len(aligned) :], late, final)
        hops, before_real, before_imag, aligned = due[0], due[1], due[2], due[3:]
        after.append(carried + kept)
        if before_real.shape[1] > 0:
            frames = framed(hops.flatten(1), n_fft, hop_length, len(bases[1]) == 0) * window
            real, imag = real_dft(frames, bases[1], n_fft, new)
        else:
            real, imag = before_real, before_imag
        consistent_real, consistent_imag = real, imag
        last = i + 1 == len(steps)
        step, share = steps[i]
        real, imag = corrected(
            real, imag, before_real, before_imag, aligned[0], step, last, filters, cuts, unfiltered, floor, power, new
        )
        if not last:
            before_real = torch.lerp(consistent_real, real, share)
            before_imag = torch.lerp(consistent_imag, imag, share)
    return real, imag, after


def taken(new: list[Tensor], waiting: list[Tensor], late: int, final: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Append hops and what is aligned with them to what waits, and take what is due.

    All but the last `late` hops begin a frame whose samples are known.

    Args:
        new: the hops, and what is aligned with them.
        waiting: what the call before kept; nothing before the first frame.
        final: whether no call follows. Then nothing is kept.

    Returns:
        The hops of the frames that are due and what is aligned with these frames; and what is kept.

    Shape: each (B, L, C) -> (B, L' + late, C) of hops, (B, L', C) of the others
    """
    if len(waiting) > 0:
        new = [torch.cat([waiting[i], new[i]], dim=1) for i in range(len(new))]
    frames = max(0, new[0].shape[1] - late)
    kept: list[Tensor] = []
    if not final:
        kept = [one.narrow(1, frames, one.shape[1] - frames).clone() for one in new]
    return [new[0]] + [one.narrow(1, 0, frames) for one in new[1:]], kept


def size(real: Tensor, imag: Tensor, power: int) -> Tensor:
    """What mels are made of: powers or magnitudes. Shape: twice (B, L, N) -> (B, L, N)"""
    if real.requires_grad:  # pow needs no result for its gradient; that of sqrt would change in place
        return (real.square() + imag.square() + 1e-12).pow(power / 2)
    squares = real.square().addcmul_(imag, imag)
    return squares.sqrt_() if power == 1 else squares


def corrected(
    real: Tensor,
    imag: Tensor,
    before_real: Tensor,
    before_imag: Tensor,
    mel: Tensor,
    step: float,
    last: bool,
    filters: tuple[list[Tensor], list[Tensor]],
    cuts: tuple[list[int], list[int]],
    unfiltered: Tensor,
    floor: float,
    power: int,
    new: bool,
) -> tuple[Tensor, Tensor]:
    """A spectrum one step on from what was before, with magnitudes that are corrected to the mel.

    Args:
        real, imag: R of this pass.
        before_real, before_imag: what the pass moves away from.
        mel: not logarithmic.
        step: how far to go.
        last: whether no pass follows.
        filters, cuts: blocks and cuts of the filterbank, and of the product that spreads ratios of mels over the bins.
        unfiltered: 1 for bins outside all filters, which stay as they are; else 0.
        floor: the least value of a mel.
        power: of the magnitudes that the mel is made of, 1 or 2.
        new: see `needs_new`.

    Shape: four of (B, L, N), (B, L, n_mels) -> 2 x (B, L, N)
    """
    scale = size(real, imag, power)
    ratio = mel / banded(scale, filters[0], cuts[0], mel.shape[2], new).clamp_min_(floor)
    ratio.clamp_(1 / 20.0, 20.0)  # in near silence, larger ratios are unreliable
    if not last:
        ratio *= ratio.sqrt()  # torch's pow rounds by the place in memory: pieces would differ
    gain = banded(ratio, filters[1], cuts[1], real.shape[2], new)
    gain += unfiltered
    gain *= scale
    real, imag = torch.lerp(before_real, real, step), torch.lerp(before_imag, imag, step)
    gain /= size(real, imag, power).clamp_min_(1.2e-38)  # so that 0 / 0 gives 0
    if power == 2:
        gain.sqrt_()
    return real * gain, imag * gain


passed_at_once = Script(
    passed,
    *(overlap_add, inverse_dft, normalise, inverted, interleaved, real_dft, frame, framed),
    *(banded, taken, size, corrected),
)
