"""Audio files, written whole or not at all."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tts_infer.errors import FileError, InputError, InputTypeError
from tts_infer.io import writer as audio_writer
from tts_infer.io.audio import read_audio, to_int16
from tts_infer.io.writer import SampleFormat, whole_file, write_audio


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_pcm16_passes_unchanged(tmp_path: Path, suffix: str) -> None:
    pcm = np.arange(-32768, 32768, dtype=np.int16)
    soundfile.write(tmp_path / "in.wav", pcm, 24000)
    clip = read_audio(tmp_path / "in.wav")
    assert write_audio(tmp_path / f"out.{suffix}", clip.samples, 24000) == 0
    assert np.array_equal(soundfile.read(tmp_path / f"out.{suffix}", dtype="int16")[0], pcm)


def test_float32_is_never_clipped(tmp_path: Path) -> None:
    audio = torch.tensor([0.1, 1.5, -3.0])
    assert write_audio(tmp_path / "f.wav", audio, 24000, "float32") == 0
    assert np.array_equal(soundfile.read(tmp_path / "f.wav", dtype="float32")[0], audio.numpy())


@pytest.mark.parametrize(
    "samples",
    [torch.tensor([0.5]).bfloat16(), torch.tensor([0.5]).half(), np.array([0.5]), np.array([0.5], ">f4")],
    ids=["bfloat16", "float16", "float64", "big-endian"],
)
@pytest.mark.parametrize("sample_format", ["pcm16", "float32"])
def test_every_float_is_written(tmp_path: Path, samples: torch.Tensor, sample_format: SampleFormat) -> None:
    write_audio(tmp_path / "f.wav", samples, 24000, sample_format)
    assert soundfile.read(tmp_path / "f.wav")[0].tolist() == [0.5]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([1, 2], np.int16), "is of int16; expected a dense tensor or an array of floats"),
        (torch.tensor([1j]), "is of torch.complex64"),
        ([0.5], "is a list"),
        (torch.zeros(5).to_sparse(), "is of torch.float32"),
        (torch.tensor([0.5, float("nan"), float("inf")]), "holds 2 NaN or infinite samples"),
        (torch.zeros(1, 5), r"has shape \(1, 5\); expected \(T,\), one channel of one item: give audio\[0\]$"),
        (torch.zeros(1, 1, 5), r"give audio\[0\]\[0\]$"),
        (torch.zeros(5, 2), r"has shape \(5, 2\); .* give audio\[:, 0\]$"),
        (torch.tensor(0.5), r"has shape \(\); .* give audio\[None\]$"),
    ],
)
def test_what_is_no_waveform_is_not_written(tmp_path: Path, samples: torch.Tensor, message: str) -> None:
    with pytest.raises((InputError, InputTypeError), match=message):
        write_audio(tmp_path / "f.wav", samples, 24000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("f.wav", 0, "sample_rate is 0; a .wav file has a whole number of 1 to 1073741823 Hz"),
        ("f.wav", 24000.0, "sample_rate is 24000.0"),
        ("f.wav", 2**31, "sample_rate is 2147483648"),
        ("f.wav", np.int64(0), "sample_rate is "),
        ("f.flac", 700000, "of 1 to 655350 Hz"),
    ],
)
def test_rates_that_no_file_has(tmp_path: Path, name: str, rate: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_audio(tmp_path / name, torch.zeros(5), rate)
    assert not list(tmp_path.iterdir())


def test_an_empty_waveform(tmp_path: Path) -> None:
    write_audio(tmp_path / "f.wav", torch.zeros(0), 24000)
    assert len(soundfile.read(tmp_path / "f.wav")[0]) == 0
    with pytest.raises(InputError, match="FLAC file cannot hold an empty waveform"):
        write_audio(tmp_path / "f.flac", torch.zeros(0), 24000)
    assert [p.name for p in tmp_path.iterdir()] == ["f.wav"]


@pytest.mark.parametrize("letter", ["y", "音"])
def test_the_longest_names_can_be_written(tmp_path: Path, letter: str) -> None:
    path = tmp_path / (letter * (251 // len(letter.encode())) + ".wav")
    write_audio(path, torch.zeros(5), 24000)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileError, match="File name too long"):
        write_audio(tmp_path / (300 * letter + ".wav"), torch.zeros(5), 24000)
    with pytest.raises(FileError, match="File name too long"):
        write_audio(tmp_path / (300 * letter) / "f.wav", torch.zeros(5), 24000)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out.wav"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with whole_file(target) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "sample_format", "message"),
    [
        ("a.mp3", "pcm16", "extension '.mp3'; allowed: .wav, .flac"),
        ("a.flac", "float32", "FLAC holds integers only"),
        ("nowhere/a.wav", "pcm16", "no such folder"),
        ("a.wav", "pcm24", "sample format 'pcm24'; allowed: pcm16, float32"),
        ("folder.wav", "pcm16", "it is a folder"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, sample_format: str, message: str) -> None:
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(FileError, match=message):
        write_audio(tmp_path / name, torch.zeros(10), 24000, sample_format)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["folder.wav"]
    with pytest.raises(InputError, match=r"shape \(1, 10\); expected \(T,\)"):
        write_audio(tmp_path / "a.wav", torch.zeros(1, 10), 24000)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that refuses every new file")
def test_a_system_that_refuses_is_reported() -> None:
    with pytest.raises(FileError, match="cannot write /proc/out.wav"):
        write_audio("/proc/out.wav", torch.zeros(100), 24000)


@pytest.mark.parametrize(("name", "sample_format"), [("a.wav", "pcm16"), ("a.wav", "float32"), ("a.flac", "pcm16")])
def test_pieces_make_the_file_of_the_whole(name: str, sample_format: SampleFormat, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=70_001).astype(np.float32) * 0.3
    with audio_writer.audio_writer(tmp_path / name, 24000, sample_format) as writer:
        for piece in np.split(noise, [0, 1, 1000, 40_000]):
            writer.write(piece)
        assert not (tmp_path / name).exists()
    clipped = write_audio(tmp_path / f"whole-{name}", noise, 24000, sample_format)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert (writer.samples, writer.clipped_samples) == (70_001, clipped) and (clipped > 0) == (sample_format == "pcm16")
    samples = soundfile.read(tmp_path / name, dtype="float32")[0]
    assert np.abs(samples - np.clip(noise, -1, 1)).max() <= 1 / 32768 or np.array_equal(samples, noise)
    if name == "a.wav" and sample_format == "pcm16":  # and the file that everyone writes
        soundfile.write(tmp_path / "theirs.wav", to_int16(noise)[0], 24000, subtype="PCM_16")
        assert (tmp_path / "theirs.wav").read_bytes() == (tmp_path / name).read_bytes()


def test_files_hold_no_time_of_day(tmp_path: Path) -> None:
    """libsndfile stores it in a PEAK chunk of float files, in seconds: the same batch would make other bytes later."""
    written: list[list[bytes]] = []
    for pause in (1.01, 0):
        write_audio(tmp_path / "a.flac", np.ones(9, dtype=np.float32) / 4, 24000)
        write_audio(tmp_path / "a.wav", np.ones(9, dtype=np.float32) / 4, 24000, "float32")
        written.append([path.read_bytes() for path in sorted(tmp_path.iterdir())])
        time.sleep(pause)
    assert written[0] == written[1]


def test_a_float_file_byte_by_byte(tmp_path: Path) -> None:
    """A batch that an older release began must go on with the same bytes."""
    write_audio(tmp_path / "a.wav", np.array([0.5, -1], dtype=np.float32), 24000, "float32")
    expected = (
        *(b"RIFF", 56, b"WAVE", b"fmt ", 16, b"\x03\0\x01\0", 24000, 96000, b"\x04\0\x20\0"),
        *(b"fact", 4, 2, b"data", 8, b"\0\0\0\x3f", b"\0\0\x80\xbf"),
    )
    words = b"".join(word if isinstance(word, bytes) else word.to_bytes(4, "little") for word in expected)
    assert (tmp_path / "a.wav").read_bytes() == words
    assert soundfile.info(tmp_path / "a.wav").subtype == "FLOAT"


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_what_fails_midway_leaves_nothing(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def write(error: Exception, samples: int) -> None:
        with audio_writer.audio_writer(tmp_path / name, 24000) as writer:
            writer.write(np.zeros(samples, dtype=np.float32))
            raise error

    with pytest.raises(KeyError):
        write(KeyError("of whoever makes the samples"), 99_999)
    with pytest.raises(OSError, match="^of the source"):
        write(OSError("of the source"), 0)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")  # no word from callbacks


def test_a_wav_has_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_writer, "_MAX_WAV_BYTES", 1000)
    with pytest.raises(FileError, match="4 GiB"):
        write_audio(tmp_path / "a.wav", np.zeros(501, dtype=np.float32), 24000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [np.uint16(44100), np.int16(24000), np.int64(16000)])
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_rates_of_numpy(rate: np.integer, name: str, tmp_path: Path) -> None:
    for path, given in ((tmp_path / name, rate), (tmp_path / f"int-{name}", int(rate))):
        write_audio(path, np.zeros(100, np.float32), given)  # type: ignore[arg-type]
    assert (tmp_path / name).read_bytes() == (tmp_path / f"int-{name}").read_bytes()
