"""Public functions called with made-up arguments: right, or an error of the package, one line below 300 characters.

`make fuzz` runs thousands of examples (FUZZ_EXAMPLES); `make test` a few dozen of each.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tts_infer
from tests.helpers import small_vocoder

pytestmark = pytest.mark.usefixtures("_small_numbers_count")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize=EXAMPLES < 1000,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip

VOCODER = small_vocoder()  # 40 mels, 16 kHz, hops of 128
NAMES = st.sampled_from(
    [
        "",
        ".",
        "/",
        "a\0",
        "x" * 5000,
        "-",
        "a.wav",
        "a.npy",
        "a.npz",
        "a.pt",
        "a.safetensors",
        "~",
        "//",
        "é" * 300,
        "\n",
    ]
)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), NAMES, st.binary(max_size=50),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just(object()), st.just(1j), st.just(Path("no/such.wav")), st.just(io.StringIO("a")), st.just(torch.float32),
)  # fmt: skip
SIZES = st.one_of(
    st.integers(-2, 2100), st.sampled_from([2**20, 2**24, 2**40, 10**30, True, 1.0, float("nan"), "a", None])
)
DTYPES = [torch.float32] * 6 + [torch.float64, torch.float16, torch.bfloat16, torch.int16, torch.complex64, torch.bool]
VALUES = [0.0, 1.0, -8.0, 0.5, 1e3, -1e3, 3e38, -3e38, float("nan"), float("inf"), 1e-45]


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Tensors and arrays of any shape, type, layout, stride and value, many of them nearly right."""
    axes = draw(st.integers(0, 4))
    shape = draw(st.one_of(
        st.sampled_from([(1, 40, 7), (40, 9), (2, 40, 5), (1, 257, 6), (1, 3000), (700,), (1, 40, 0), (0, 40, 5)]),
        st.tuples(*[st.sampled_from([0, 1, 2, 3, 40, 41, 257, 1000]) for _ in range(min(axes, 3))]).filter(
            lambda sizes: math.prod(sizes) <= 10**6  # four times 1000**3 would take all memory
        ),
    ))  # fmt: skip
    made = torch.full(shape, draw(st.sampled_from(VALUES[:4])), dtype=torch.float32)
    if made.numel():
        made.view(-1)[draw(st.integers(0, made.numel() - 1))] = draw(st.sampled_from(VALUES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = made.to(draw(st.sampled_from(DTYPES)))
    kind = draw(st.sampled_from(["plain"] * 5 + ["turned", "step", "numpy", "numpy", "meta", "sparse", "list", "grad"]))
    if kind == "turned":
        made = made.transpose(0, -1) if made.ndim else made
    elif kind == "step" and made.ndim:
        made = made[..., ::2]
    elif kind == "numpy" and made.dtype != torch.bfloat16:
        array = made.numpy()
        return draw(
            st.sampled_from([array, array[..., ::-1] if array.ndim else array, array.astype(">f4", casting="unsafe")])
        )
    elif kind == "meta":
        made = made.to("meta")
    elif kind == "sparse" and made.dtype != torch.bfloat16:
        made = made.to_sparse()
    elif kind == "list":
        return draw(st.sampled_from([[made], [], [made, made]]))
    elif kind == "grad" and made.is_floating_point():
        made = made.requires_grad_()
    return made


def outcome(call: Callable[[], Any], most: int = 300) -> Any:
    """What a call gives; None if it refuses as it should, in less than `most` characters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except tts_infer.TTSInferError as error:
            refusal = error
    said = str(refusal)
    said = said.replace("\n", "")  # a name is told as it is; the command line escapes it
    assert 10 < len(said) < most and refusal.code, said
    return None


def usual(value: Any) -> torch.Tensor | None:
    """Features or audio as float64 with a batch axis, for references; None if it is nothing of the kind."""
    tensor = torch.from_numpy(np.array(value, np.float64)) if isinstance(value, np.ndarray) else value
    return tensor.detach().to(torch.float64) if isinstance(tensor, torch.Tensor) else None


@fuzz
@given(arrays() | ODD, st.sampled_from([0, 0, 1]) | ODD)
def test_decode(features: Any, refine: Any) -> None:
    if isinstance(refine, int) and refine > 20:
        refine = 10**9  # refused; a few hundred passes are allowed, and take long
    audio = outcome(lambda: VOCODER.decode(features, refine=refine))
    if audio is not None and not isinstance(audio, list):
        frames = usual(features).shape[-1]  # type: ignore[union-attr]
        assert torch.isfinite(audio).all() and audio.shape[-1] == VOCODER.n_samples(frames)
        assert audio.dtype == torch.float32


@fuzz
@given(arrays() | ODD)
def test_mel(audio: Any) -> None:
    mel = outcome(lambda: VOCODER.mel(audio))
    if mel is None:
        return
    assert torch.isfinite(mel).all()
    x, config = usual(audio), VOCODER.mel_config
    assert x is not None
    x = x.reshape(-1, x.shape[-1])
    if x.shape[-1] > config.n_fft:  # torch reflects longer signals only
        window = torch.hann_window(config.n_fft, dtype=torch.float64)
        spectrum = torch.stft(x, config.n_fft, config.hop_length, window=window, return_complex=True).abs()
        filters = torch.from_numpy(tts_infer.dsp.mel.mel_filterbank(config))
        theirs = (filters.T @ spectrum).clamp_min(config.log_floor).log()
        loud = theirs > theirs.max() - 9  # float32 spectra are exact to 1e-7 of their largest value
        assert torch.allclose(mel.double()[loud], theirs[loud], atol=1e-2)


@fuzz
@given(
    SIZES,
    SIZES,
    st.none() | SIZES,
    st.sampled_from(["center", "same", "x", None]),
    st.sampled_from(["fft", "fft", "y"]),
    arrays() | ODD,
)
def test_stft(n_fft: Any, hop: Any, win: Any, padding: Any, method: Any, audio: Any) -> None:
    made = outcome(lambda: tts_infer.STFT(n_fft, hop, win, padding, method))
    if made is not None:
        assert float(made.window.max()) > 0.5
        spectrum = outcome(lambda: made(audio))
        x = usual(audio)
        if (
            spectrum is not None
            and padding == "center"
            and x is not None
            and x.shape[-1] > n_fft
            and torch.isfinite(x).all()
        ):
            window = torch.hann_window(made.win_length, dtype=torch.float64)
            theirs = torch.stft(x, n_fft, hop, made.win_length, window, return_complex=True)
            ours = torch.complex(*spectrum).to(theirs.dtype)
            assert (ours - theirs).abs().max() <= 1e-5 * max(1e-30, float(theirs.abs().max()))  # float32
    outcome(lambda: tts_infer.ISTFT(n_fft, hop, win, padding, method)(audio, audio))


@fuzz
@given(
    st.dictionaries(
        st.sampled_from(
            ["sample_rate", "n_fft", "hop_length", "win_length", "n_mels", "f_min", "f_max", "log_floor", "power_eps"]
        ),
        SIZES,
        max_size=3,
    )
)
def test_mel_config(fields: dict[str, Any]) -> None:
    outcome(lambda: tts_infer.LogMel(tts_infer.MelConfig(**fields), "fft"))


@fuzz
@given(arrays() | ODD, SIZES, SIZES | st.sampled_from([8000, 16000, 44100]))
@example(torch.tensor([3e38]), 8, 8000)
def test_resample(samples: Any, rate: Any, wanted: Any) -> None:
    clip = outcome(lambda: tts_infer.resample(tts_infer.AudioClip(samples, rate), wanted))
    if clip is not None and rate != wanted and len(samples):
        assert np.isfinite(clip.samples).all() or not np.isfinite(np.asarray(samples)).all()
        assert abs(len(clip.samples) - len(samples) * wanted / rate) <= 1


@fuzz
@given(arrays() | ODD)
def test_to_int16(audio: Any) -> None:
    made = outcome(lambda: tts_infer.to_int16(audio))
    if made is not None:
        x = usual(audio)
        assert x is not None
        theirs = np.clip(np.rint(x.numpy() * 32768), -32768, 32767)
        assert np.abs(made[0] - theirs).max(initial=0) <= 1 and made[1] == int((x.float().abs() > 1).sum())


@fuzz
@given(
    arrays() | ODD,
    SIZES,
    st.sampled_from(["a.wav", "a.flac", "a.mp3"]) | ODD,
    st.sampled_from(["pcm16", "float32", "x"]),
)
def test_write_audio(audio: Any, rate: Any, name: Any, form: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, name) if name in ("a.wav", "a.flac", "a.mp3") else name
        if isinstance(target, str) and "." in target:
            return  # it would be written
        written = outcome(lambda: tts_infer.write_audio(target, audio, rate, form))
        if written is not None and isinstance(target, Path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                clip = outcome(lambda: tts_infer.read_audio(target))
            assert clip is None or len(clip.samples) == audio.shape[0]
            assert clip is not None or audio.shape[0] == 0 or rate > 1_000_000
        assert all(path.name in ("a.wav", "a.flac") for path in Path(folder).iterdir())


HEADS = [
    b"",
    b"RIFF\0\0\0\0WAVEfmt ",
    b"fLaC\0\0\0\x22",
    b"OggS\0\2",
    b"ID3\4\0\0\0\0\0\x0a",
    b"\xff\xfb\x90\x64",
    b"FORM\0\0\0\0AIFFCOMM",
]
HEADS += [b"\0\0\0\x18ftypM4A ", b"\x1aE\xdf\xa3", b"#!AMR\n", b".snd", b"caff", b"\xff\xf1\x50\x80"]


@fuzz
@given(st.sampled_from(HEADS), st.binary(max_size=300), SIZES | st.none())
def test_read_audio_of_any_bytes(head: bytes, rest: bytes, rate: Any) -> None:
    clip = outcome(lambda: tts_infer.read_audio(head + rest, rate))
    assert clip is None or (clip.samples.ndim == 1 and clip.sample_rate in range(1, 1_000_001))


PLAIN: dict[str, Callable[..., Any]] = {
    "read_audio": tts_infer.read_audio,
    "read_mel": tts_infer.read_mel,
    "read_features": lambda path, _: tts_infer.read_features(path),
    "require_file": lambda path, _: tts_infer.require_file(path),
    "holds_features": lambda path, _: tts_infer.holds_features(path),
    "check_writable": tts_infer.check_writable,
    "wav_header": tts_infer.wav_header,
    "synthesize_file": lambda source, _: tts_infer.synthesize_file(VOCODER, source, "/dev/null"),
    "features_of_file": lambda source, _: tts_infer.features_of_file(VOCODER, source),
    "synthesize_batch": lambda names, _: tts_infer.synthesize_batch(VOCODER, names, "/proc/no/way"),
    "log_mel_error_db": tts_infer.log_mel_error_db,
    "stream": lambda lookahead, refine: VOCODER.stream(lookahead, refine=refine if refine is not True else 0),
    "push": lambda piece, _: VOCODER.stream().push(piece),
    "push audio": lambda piece, _: VOCODER.mel_stream().push(piece),
}


@pytest.mark.parametrize("name", PLAIN)
@fuzz
@given(ODD | arrays(), ODD)
def test_odd_arguments(name: str, first: Any, second: Any) -> None:
    if name == "synthesize_batch" and isinstance(first, str) and first in (".", "~", "/", "//"):
        return  # folders to search
    outcome(lambda: PLAIN[name](first, second))
