"""Speaker similarity: whether a copy is heard as the same voice, by the encoder of Resemblyzer.

The package itself is not imported, only its weights are read: it needs a module that new setuptools lack, and it loads
its weights as a pickle.
"""

from __future__ import annotations

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.errors import missing_package, require_package
from tts_infer.evaluation.metrics import PERCEPTUAL_RATE, Samples

_MELS = 40
_SIZE = 256
_WINDOW = 400  # samples: 25 ms
_HOP = 160
_FRAMES = 160  # of a part: 1.6 s
_STEP = 77  # frames from one part to the next: 1.3 a second
_COVERED = 0.75  # a last part with less of the signal does not count
_LOUDNESS_DB = -30.0
_SHORTEST_S = 0.5


class VoiceEncoder(nn.Module):
    """Three LSTM layers over mel powers, and a projection of the last state.

    Shape: (B, L, 40) -> (B, 256), not negative, of length 1
    Source: Wan et al., arXiv 1710.10467, in the sizes of Resemblyzer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_MELS, _SIZE, 3, batch_first=True)
        self.linear = nn.Linear(_SIZE, _SIZE)

    def forward(self, mel: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mel)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)


def speaker_similarity(reference: Samples, output: Samples) -> float:
    """Cosine of the embeddings of two signals at 16 kHz.

    Quiet signals are raised to -30 dBFS. Pauses are kept, where Resemblyzer cuts them out: both signals have the same.

    Returns:
        0 to 1; NaN for less than half a second and for digital silence. Of two recorded voices, different sentences
        of one had 0.85 (at least 0.74), those of both 0.56 (at most 0.69).

    Shape: (T,) and (T,)
    Raises:
        MissingPackageError: no Resemblyzer, or no librosa.
    """
    encoder = _encoder()
    if len(reference) < _SHORTEST_S * PERCEPTUAL_RATE or not (np.any(reference) and np.any(output)):
        return math.nan
    return float(np.clip(_embedding(reference, encoder) @ _embedding(output, encoder), 0.0, 1.0))


@torch.inference_mode()
def _embedding(samples: Samples, encoder: VoiceEncoder) -> NDArray[np.float64]:
    """Shape: (T,) -> (256,)"""
    librosa = require_package("librosa", "evaluate")
    level_db = 10 * math.log10(float(np.mean(np.square(samples, dtype=np.float64))))
    raised = samples * np.float32(10 ** (max(_LOUDNESS_DB - level_db, 0.0) / 20))
    frames = math.ceil((len(samples) + 1) / _HOP)
    starts = list(range(0, max(1, frames - _FRAMES + _STEP + 1), _STEP))
    if len(starts) > 1 and len(samples) / _HOP - starts[-1] < _COVERED * _FRAMES:
        starts.pop()
    padded = np.pad(raised, (0, max(0, (starts[-1] + _FRAMES) * _HOP - len(raised))))
    mel = librosa.feature.melspectrogram(y=padded, sr=PERCEPTUAL_RATE, n_fft=_WINDOW, hop_length=_HOP, n_mels=_MELS)
    parts = np.stack([mel.T[start : start + _FRAMES] for start in starts]).astype(np.float32)
    mean = encoder(torch.from_numpy(parts)).double().mean(dim=0)
    embedding: NDArray[np.float64] = nn.functional.normalize(mean, dim=0).numpy()
    return embedding


@lru_cache(maxsize=1)
def _encoder() -> VoiceEncoder:
    found = importlib.util.find_spec("resemblyzer")
    if found is None or found.origin is None:
        raise missing_package("Resemblyzer", "quality", ImportError("No module named 'resemblyzer'"))
    weights = torch.load(Path(found.origin).parent / "pretrained.pt", map_location="cpu", weights_only=True)
    encoder = VoiceEncoder()
    encoder.load_state_dict({name: weights["model_state"][name] for name in encoder.state_dict()})
    return encoder.eval()
