"""From disk to disk: what memory would give, without the memory."""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

import tts_infer
from tests.emulated_device import emulated
from tts_infer import files
from tts_infer.dsp.tiles import READ_FRAMES
from tts_infer.runtime import timing
from tts_infer.stages import PIECE_FRAMES

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "examples" / "english.wav"
LONG = 2 * PIECE_FRAMES + 777
# One pass of refinement instead of sixteen: the same parts, in less time.
PEAKS = """
import json, sys, tts_infer
from benchmarks.memory import peak_mb
vocoder = tts_infer.load_vocoder(device="cpu", refine=1)
for source in sys.argv[2:]:
    made = tts_infer.synthesize_file(vocoder, source, sys.argv[1])
    print(json.dumps([peak_mb(), made.frames]), flush=True)
"""


@pytest.fixture(scope="module")
def mel(vocoder: tts_infer.Vocoder) -> np.ndarray:
    """Speech over and over. Shape: (n_mels, LONG)"""
    speech = vocoder.mel(tts_infer.read_audio(CLIP).samples)[0].numpy()
    return np.tile(speech, -(-LONG // speech.shape[1]))[:, :LONG].copy()


@pytest.mark.parametrize("kind", ["short.npy", "long.npy", "half.npy", "turned.npy", "long.pt", "batch_of_one.npz"])
def test_features_as_from_memory(kind: str, mel: np.ndarray, tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    given = mel[:, :700] if kind == "short.npy" else mel
    path, out = tmp_path / kind, tmp_path / "out.wav"
    if kind == "half.npy":
        given = given.astype(np.float16)
    if kind == "turned.npy":  # the same array, stored column by column
        np.save(path, np.asfortranarray(given))
    elif path.suffix == ".npy":
        np.save(path, given)
    elif path.suffix == ".npz":
        np.savez(path, mel=given[None])
    else:
        torch.save(torch.from_numpy(given), path)
    made = tts_infer.synthesize_file(vocoder, path, out)
    whole = vocoder.synthesize(given.astype(np.float32))
    expected, clipped = tts_infer.to_int16(whole.audio[0])
    samples = soundfile.read(out, dtype="int16")[0]
    # pieces equal the whole to float32's last digits, which a rounding to 16 bits may turn into one step
    assert samples.shape == expected.shape and np.abs(samples.astype(int) - expected).max() <= 1
    assert (made.samples, made.frames, made.clipped_samples) == (len(expected), given.shape[1], clipped)
    assert made.seconds == len(expected) / 24000 and made.log_mel_error_db is None
    rows = [(row["stage"], row["device"], row["method"]) for row in made.stages]
    assert rows == [(row["stage"], row["device"], row["method"]) for row in whole.stages]
    # of all pieces; a short one takes so little that whatever else the machine does shows
    bound = 0.8 if kind == "short.npy" else 0.95
    for _ in range(3):  # what is left out of a report is left out of each; other work on the machine comes and goes
        share = sum(row["ms"] for row in made.stages) / made.total_ms
        assert share <= 1.0
        if share >= bound:
            break
        made = tts_infer.synthesize_file(vocoder, path, out)
    assert share >= bound


def test_the_report_counts_every_piece(
    mel: np.ndarray, tmp_path: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "mel.npy", mel)
    seconds = itertools.count()  # one passes whenever a stage looks at the clock: as it begins, and as it ends
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    made = tts_infer.synthesize_file(vocoder, tmp_path / "mel.npy", tmp_path / "out.wav")
    pieces = -(-LONG // READ_FRAMES)
    assert {row["ms"] for row in made.stages} == {1e3 * (pieces + 1)}  # and the end


@pytest.mark.parametrize(("rate", "seconds"), [(24000, 3.0), (24000, 95.0), (16000, 95.0)])
def test_audio_as_from_memory(rate: int, seconds: float, tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    clip = tts_infer.resample(tts_infer.read_audio(CLIP), rate).samples
    stereo = np.tile(clip, 30)[: int(seconds * rate) + 5, None] * np.array([0.6, 0.4])
    soundfile.write(tmp_path / "in.wav", stereo, rate)
    made = tts_infer.synthesize_file(vocoder, tmp_path / "in.wav", tmp_path / "out.wav", sample_format="float32")
    whole = vocoder.synthesize(audio=tts_infer.read_audio(tmp_path / "in.wav", 24000).samples)
    samples = soundfile.read(tmp_path / "out.wav", dtype="float32")[0]
    assert samples.shape == (whole.audio.shape[1],) and made.frames == whole.features.shape[2]
    # FFTs of another number of frames, and what the network makes of their last digits
    assert np.abs(samples - whole.audio[0].numpy()).max() <= 5e-5 * np.abs(samples).max()
    error = tts_infer.log_mel_error_db(whole.features, vocoder.mel(whole.audio), vocoder.mel_config)
    assert made.log_mel_error_db == pytest.approx(error, rel=1e-4)
    assert [row["stage"] for row in made.stages] == ["mel", "backbone", "head", "istft"]


@pytest.mark.parametrize("elsewhere", [{}, {"istft": "cpu"}, {"mel": "cpu", "istft": "cpu"}, {"head": "cpu"}])
@pytest.mark.parametrize("kind", ["mel.npy", "speech.wav"])
def test_the_report_has_every_transfer(
    kind: str, elsewhere: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many pieces on a device of their own, one of whose threads at a time may be inside."""
    monkeypatch.setattr("tts_infer.runtime.pipeline.Pipeline.max_frames", 100)
    monkeypatch.setattr(files, "READ_FRAMES", 60)
    samples = tts_infer.read_audio(CLIP).samples[:70_000]
    soundfile.write(tmp_path / "speech.wav", samples, 24000, subtype="FLOAT")
    with emulated("2.13.0"):
        vocoder = tts_infer.load_vocoder(device="emu", placement=elsewhere, refine=0, check=False)
        features = vocoder.mel(samples).cpu().numpy()
        np.save(tmp_path / "mel.npy", features)
        made = tts_infer.synthesize_file(vocoder, tmp_path / kind, tmp_path / "out.wav", sample_format="float32")
        whole = vocoder.synthesize(features) if kind == "mel.npy" else vocoder.synthesize(audio=samples)
        expected = whole.audio[0].cpu().numpy()
    names = [(row["stage"], row["device"], row["method"]) for row in made.stages]
    assert names == [(row["stage"], row["device"], row["method"]) for row in whole.stages]
    assert len(names) > 3 and made.frames == features.shape[2]
    written = soundfile.read(tmp_path / "out.wav", dtype="float32")[0]
    # float32 sums in another order, magnified by the logarithm of the mel and the phases of the head
    assert np.abs(written - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of a process by itself")
@pytest.mark.timeout(1800)  # on a machine that is ten times busier, too
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """A process of its own copies a short file, again, and then a long one. What it frees is given back at once.

    It has one thread: with two, it takes more memory as soon as other processes make it share its pieces out.
    """
    clip = tts_infer.read_audio(CLIP).samples
    sources = [str(tmp_path / f"{times}.wav") for times in (1, 3)]
    for times, source in zip((1, 3), sources, strict=True):
        soundfile.write(source, np.tile(clip, times * LONG * 256 // len(clip)), 24000)
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tmp_path / "out.flac"), sources[0], *sources],
        cwd=ROOT,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (_, _), (before, frames), (after, more_frames) = map(json.loads, done.stdout.splitlines())
    assert more_frames > 2.9 * frames
    # 18,000 frames more: 7 MB of mel, 18 MB of audio; the same file again may take 3 MB more
    assert after - before < 5


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_full_disk_is_one_line(suffix: str, mel: np.ndarray, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    np.save(tmp_path / "mel.npy", mel)
    command = [
        sys.executable,
        "-m",
        "tts_infer",
        "decode",
        str(tmp_path / "mel.npy"),
        "-o",
        str(tmp_path / "o") + suffix,
    ]

    def shrink() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=shrink)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mel.npy"]


def test_a_mistake_late_in_the_file_leaves_nothing(mel: np.ndarray, tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    broken = mel.copy()
    broken[5, -5] = np.nan
    np.save(tmp_path / "mel.npy", broken)
    (tmp_path / "out.wav").write_bytes(b"before")
    with pytest.raises(tts_infer.InputError, match="holds 1 NaN"):
        tts_infer.synthesize_file(vocoder, tmp_path / "mel.npy", tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(tts_infer.FileError, match="is the input itself"):
        tts_infer.synthesize_file(vocoder, tmp_path / "out.wav", tmp_path / "out.wav")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 100, 9000), dtype=np.float32), "holds a batch of 2; expected one mel a file"),
        (np.zeros((9000, 100), dtype=np.float32), "transpose its last two axes"),
        (np.zeros((80, 9000), dtype=np.float32), "use one trained on the convention of this mel"),
        (np.zeros((100, 9000), dtype=np.int32), "has dtype int32"),
        (np.float32(1), "expected (B, 100, L) or (100, L)"),
        (np.zeros((100, 0), dtype=np.float32), "mel is empty"),
    ],
)
def test_what_is_no_mel(array: np.ndarray, message: str, tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    np.save(tmp_path / "mel.npy", array)
    with pytest.raises((tts_infer.InputError, tts_infer.InputTypeError), match=re.escape(message)):
        tts_infer.synthesize_file(vocoder, tmp_path / "mel.npy", tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()


def save_features(content: Any, path: Path) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".pt":
        torch.save(content, path)
    else:
        save_file({"mel": content}, path)


@pytest.mark.parametrize("frames", [40, PIECE_FRAMES + 40])
@pytest.mark.parametrize("kind", [">f4.npy", "longdouble.npy", "bfloat16.pt", "bfloat16.safetensors", "npz.npy"])
def test_every_float_in_a_file(
    kind: str, frames: int, mel: np.ndarray, tmp_path: Path, vocoder: tts_infer.Vocoder
) -> None:
    dtype, given, path = Path(kind).stem, mel[:, :frames], tmp_path / f"mel{Path(kind).suffix}"
    if dtype == "npz":
        np.savez(tmp_path / "mel.npz", given)
        (tmp_path / "mel.npz").rename(path)
    else:
        tensor = dtype == "bfloat16"
        save_features(torch.from_numpy(given).bfloat16() if tensor else given.astype(dtype), path)
        given = torch.from_numpy(given).bfloat16().float().numpy() if tensor else given
    tts_infer.synthesize_file(vocoder, path, tmp_path / "out.wav")
    expected, _ = tts_infer.to_int16(vocoder.decode(given)[0])
    assert np.abs(soundfile.read(tmp_path / "out.wav", dtype="int16")[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"", "cannot read {} as features"),
        ("a.npy", np.zeros((7, 100), np.float32), "{}: mel has shape (7, 100); expected"),
        ("a.npy", np.zeros((80, 9000), np.float32), "{}: mel has shape (80, 9000); expected"),  # not of a piece
        ("a.npy", np.array(["a"]), "{}: mel has "),
        ("a.pt", [1.0], "{}: mel is a list; expected"),
        ("a.pt", torch.zeros(100, 5).to_sparse(), "{}: mel is a sparse, "),
    ],
)
def test_messages_begin_with_the_file(
    name: str, content: Any, message: str, tmp_path: Path, vocoder: tts_infer.Vocoder
) -> None:
    path = tmp_path / name
    save_features(content, path)
    with pytest.raises(tts_infer.TTSInferError, match=re.escape(message.format(path))):
        tts_infer.synthesize_file(vocoder, path, tmp_path / "out.wav")


@pytest.mark.parametrize(
    ("rate", "samples", "message"),
    [
        (24000, np.full(3000, np.nan), "audio holds 3000 NaN"),
        (192_000, np.zeros(1), "1 samples of 192000 Hz give none of 24000 Hz"),
    ],
)
def test_messages_about_audio_begin_with_the_file(
    rate: int, samples: np.ndarray, message: str, tmp_path: Path, vocoder: tts_infer.Vocoder
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    with pytest.raises(tts_infer.InputError, match=re.escape(f"{path}: {message}")):
        tts_infer.synthesize_file(vocoder, path, tmp_path / "out.wav")
