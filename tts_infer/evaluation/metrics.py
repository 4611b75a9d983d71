"""How close a copy is to its original: measures between two waveforms that are already aligned.

A measure is NaN if it is not defined, for example because a signal is too short or silent. It raises
`MissingPackageError` if its package is not installed. No measure shifts or scales a signal.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tts_infer.config import MelConfig
from tts_infer.dsp.mel import LogMel
from tts_infer.errors import require_package

Samples = NDArray[np.float32]

DB_PER_NEPER = 20 / math.log(10)
PERCEPTUAL_RATE = 16000  # of PESQ wide band, STOI, cepstra and pitch

_RESOLUTIONS = (512, 1024, 2048)
_MAGNITUDE_FLOOR = 1e-3  # -60 dB: quieter bins cannot be heard, but would count as much as speech
_SHORT_S = 128 / 24000
_PULSE_BAND_HZ = (1500.0, 4000.0)
_PULSE_FRAME_S = 0.02
_PULSE_LOUD = 0.125  # only frames louder than this part of the loudest count
_CEPSTRA = 13
_CEPSTRAL_MEL = MelConfig(PERCEPTUAL_RATE, n_fft=1024, hop_length=256, n_mels=80, log_floor=1e-5)


def mr_stft_db(reference: Samples, output: Samples) -> float:
    """Multi-resolution STFT distance: mean absolute difference of magnitudes in dB.

    The mean over n_fft in (512, 1024, 2048) of mean |20 log10 max(|X|, 1e-3) - 20 log10 max(|Y|, 1e-3)|. Windows are
    periodic Hann of n_fft, the hop is n_fft / 4, frames are centred. The STFT is not scaled: a full-scale tone has a
    magnitude of n_fft / 4.

    Returns:
        dB, 0 for equal magnitudes; NaN for fewer than 2048 samples.

    Shape: (T,) and (T,)
    Source: the log-magnitude term of Yamamoto et al., arXiv 1910.11480, in dB and with a floor. The spectral
        convergence term is left out, because it has no unit.
    """
    if len(reference) < max(_RESOLUTIONS):
        return math.nan
    return float(np.mean([_stft_db(reference, output, n_fft) for n_fft in _RESOLUTIONS]))


def short_stft_db(reference: Samples, output: Samples, sample_rate: int) -> float:
    """`mr_stft_db` with one window of 5.3 ms. It sees where the energy lies within a pitch period; long windows do not.

    The window has 128 samples at 24 kHz, and the same duration at other rates.

    Returns:
        dB; NaN for fewer than 2048 samples.
    """
    if len(reference) < max(_RESOLUTIONS):
        return math.nan
    return _stft_db(reference, output, 4 * round(_SHORT_S * sample_rate / 4))


def _stft_db(reference: Samples, output: Samples, n_fft: int) -> float:
    window = torch.hann_window(n_fft)
    levels = []
    for samples in (reference, output):
        spectrum = torch.stft(torch.from_numpy(samples), n_fft, n_fft // 4, window=window, return_complex=True)
        levels.append(20 * torch.log10(spectrum.abs().clamp_min_(_MAGNITUDE_FLOOR)))
    return float((levels[0] - levels[1]).abs().mean())


def mel_cepstral_distortion_db(reference: Samples, output: Samples) -> float:
    """MCD-13 of signals at 16 kHz: cepstra from the log-mel by a cosine transform, without c0, without time warping.

    ln mel_m = c_0 + sum_k c_k cos(pi k (m + 1/2) / M), so c_k = 2 / M sum_m ln mel_m cos(pi k (m + 1/2) / M).
    MCD = mean over frames of 10 / ln 10 sqrt(2 sum_{k=1..13} (c_k - c'_k)^2). This is the root mean square over the
    bands of the difference in dB between the two smoothed spectra. The mel has 80 HTK bands from 0 to 8 kHz, n_fft
    1024, hop 256, and magnitudes of at least 1e-5.

    Returns:
        dB, 0 for equal spectra at any level; NaN if there is no frame.

    Shape: (T,) and (T,)
    Source: Kubichek 1993. Values from other cepstra (WORLD and SPTK, MFCC of powers) differ by a factor.
    """
    if not len(reference):
        return math.nan
    log_mel = _cepstral_mel()
    with torch.inference_mode():
        pair = torch.from_numpy(np.stack([reference, output]))
        difference = log_mel(pair).diff(dim=0)[0].numpy().astype(np.float64)  # (M, L)
    bands = _CEPSTRAL_MEL.n_mels
    basis = np.cos(np.pi * np.outer(np.arange(1, _CEPSTRA + 1), np.arange(bands) + 0.5) / bands)
    cepstra = 2 / bands * basis @ difference
    return float(np.mean(DB_PER_NEPER / 2 * np.sqrt(2 * np.sum(cepstra**2, axis=0))))


@lru_cache(maxsize=1)
def _cepstral_mel() -> LogMel:
    return LogMel(_CEPSTRAL_MEL, "fft")


def pulse_ratio(reference: Samples, output: Samples, sample_rate: int) -> float:
    """How sharp the glottal pulses are compared with the original: 1 if as sharp, less if phases are smeared.

    The envelope e of the 1.5 to 4 kHz band (Butterworth of order 4, magnitude of the analytic signal) is cut into
    frames of 20 ms. Sharpness is the mean of std(e) / mean(e) over the frames whose mean is above 1/8 of the loudest
    frame of the original. The result is the sharpness of the output divided by that of the original.

    Returns:
        A ratio; NaN if the original is silent or shorter than a frame, or the rate is 8 kHz or less.

    Shape: (T,) and (T,)
    Raises:
        MissingPackageError: no scipy.
    """
    frame = round(_PULSE_FRAME_S * sample_rate)
    if len(reference) < frame or sample_rate <= 2 * _PULSE_BAND_HZ[1]:
        return math.nan
    loud = (first := _envelope_frames(reference, sample_rate, frame)).mean(axis=1)
    counted = loud > _PULSE_LOUD * loud.max()
    sharpness = _sharpness(first, counted)
    if not sharpness:
        return math.nan
    return _sharpness(_envelope_frames(output, sample_rate, frame), counted) / sharpness


def _envelope_frames(samples: Samples, sample_rate: int, frame: int) -> NDArray[np.float64]:
    """Shape: (T,) -> (T // frame, frame)"""
    signal = require_package("scipy.signal", "evaluate")
    band = signal.butter(4, _PULSE_BAND_HZ, "bandpass", fs=sample_rate, output="sos")
    envelope = np.abs(signal.hilbert(signal.sosfilt(band, samples.astype(np.float64))))
    return envelope[: len(envelope) // frame * frame].reshape(-1, frame)


def _sharpness(frames: NDArray[np.float64], counted: NDArray[np.bool_]) -> float:
    if not counted.any():
        return 0.0
    return float((frames.std(axis=1) / (frames.mean(axis=1) + 1e-6))[counted].mean())


def level_difference_db(reference: Samples, output: Samples) -> float:
    """20 log10 of the ratio of the root mean squares, output to original.

    Returns:
        dB, 0 for equal levels, positive if the output is louder; NaN if either signal is digital silence.

    Shape: (T,) and (T,)
    """
    powers = [
        float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0 for samples in (reference, output)
    ]
    return 10 * math.log10(powers[1] / powers[0]) if all(powers) else math.nan


def pesq_wb(reference: Samples, output: Samples) -> float:
    """PESQ, wide band (ITU-T P.862.2), of signals at 16 kHz, by the `pesq` package.

    Returns:
        MOS-LQO from 1.0 to 4.64; NaN for less than 0.25 s, and if no utterance is found.

    Shape: (T,) and (T,)
    Raises:
        MissingPackageError: no pesq.
    """
    package = require_package("pesq", "evaluate")
    if not (np.any(reference) and np.any(output)):
        return math.nan  # pesq would divide by a peak of 0
    try:
        return float(package.pesq(PERCEPTUAL_RATE, reference, output, "wb"))
    except package.PesqError:
        return math.nan


def visqol_speech(reference: Samples, output: Samples) -> float:
    """ViSQOL in speech mode, of signals at 16 kHz, by the `visqol-python` package. It aligns the signals by itself.

    The mapping from similarity to MOS is the polynomial, scaled to 5 (`--use_lattice_model=false` of the original).
    Published figures near 5 are of this one: by the newer mapping, a lattice, identical copies have less.

    Returns:
        MOS-LQO from 1 to 5, 5 for an identical copy; NaN for less than a second, for silence, and where no speech is
        found.

    Shape: (T,) and (T,)
    Raises:
        MissingPackageError: no visqol-python.
    Source: Chinen et al., arXiv 2004.09584.
    """
    api = _visqol()
    if len(reference) < PERCEPTUAL_RATE or not (np.any(reference) and np.any(output)):
        return math.nan
    try:
        found = api.measure_from_arrays(reference.astype(np.float64), output.astype(np.float64), PERCEPTUAL_RATE)
    except IndexError:  # the package looks for the first of no patches with speech
        return math.nan
    return float(found.moslqo)


@lru_cache(maxsize=1)
def _visqol() -> Any:
    api = require_package("visqol", "quality", "visqol-python").VisqolApi()
    api.create(mode="speech", use_lattice_model=False)
    return api


def stoi(reference: Samples, output: Samples) -> float:
    """Short-time objective intelligibility of signals at 16 kHz, by the `pystoi` package (which resamples to 10 kHz).

    Returns:
        A correlation, at most 1; NaN for less than 0.3 s, and if less than 0.4 s remain without the silences.

    Shape: (T,) and (T,)
    Raises:
        MissingPackageError: no pystoi.
    Source: Taal et al. 2011; the classic measure, not the extended one.
    """
    package = require_package("pystoi", "evaluate")
    if len(reference) < 0.3 * PERCEPTUAL_RATE or not np.any(reference):
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(package.stoi(reference, output, PERCEPTUAL_RATE))
        except RuntimeWarning:  # too few frames: pystoi would return 1e-5
            return math.nan
