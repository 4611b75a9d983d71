"""Reading audio: levels, rates, blocks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tts_infer.errors import FileError, InputError
from tts_infer.io import decoders
from tts_infer.io.audio import AudioClip, AudioWarning, read_audio, read_blocks, resample, seconds_of, to_int16
from tts_infer.io.writer import write_audio


def tone(sample_rate: int, hz: float = 440.0, seconds: float = 0.5, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(int(sample_rate * seconds)) / sample_rate)).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_reads_every_container_at_its_level(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(44100), 44100)
    clip = read_audio(path, 24000)
    assert clip.sample_rate == 24000 and clip.samples.dtype == np.float32
    middle = clip.samples[3000:9000]
    # rms of a sine of 0.5; lossy codecs and the resampler's pass band stay within 1 % (0.09 dB)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-2)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = tone(24000)
    soundfile.write(tmp_path / "s.wav", np.stack([left, 0 * left], axis=1), 24000, subtype="FLOAT")
    assert np.array_equal(read_audio(tmp_path / "s.wav").samples, left / 2)


def test_resampling_keeps_a_tone() -> None:
    clip = resample(AudioClip(tone(48000), 48000), 24000)
    assert np.allclose(clip.samples[200:-200], tone(24000)[200:-200], atol=1e-4)  # soxr HQ: about -100 dB
    assert clip.seconds == pytest.approx(0.5)
    assert resample(clip, 24000) is clip
    with pytest.raises(InputError, match="sample_rate is 0"):
        resample(clip, 0)


def test_int16_keeps_the_level_and_counts_clipping() -> None:
    values = torch.tensor([0.0, 0.5, -0.5, 1.0, -1.0, 1.1, -2.0, 0.49 / 32768])
    samples, clipped = to_int16(values)
    assert samples.tolist() == [0, 16384, -16384, 32767, -32768, 32767, -32768, 0]
    assert samples.dtype == np.int16 and clipped == 2


@pytest.mark.parametrize("content", [b"", b"RIFF\x00\x00\x00\x00WA", b"just some text\n" * 100])
def test_what_is_no_audio(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"cannot read .*broken.wav as audio: .*; give a WAV, FLAC, OGG or MP3 file"):
        read_audio(path)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        read_audio(tmp_path / "missing.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 24000)
    with pytest.raises(FileError, match="holds no samples"):
        read_audio(tmp_path / "empty.wav")


def test_length_from_a_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(48000), 48000)
    assert seconds_of(tmp_path / "a.flac") == 0.5
    (tmp_path / "a.raw").write_bytes(b"1234")  # has no header
    for name in ("a.raw", "missing.wav", "a\0.wav"):
        assert seconds_of(tmp_path / name) is None
    with pytest.raises(FileError, match=r"cannot read .*a\.raw as audio"):
        read_audio(tmp_path / "a.raw")


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    write_audio(path, tone(24000), 24000)
    assert seconds_of(path) == 0.5 and len(read_audio(path).samples) == 12000


@pytest.mark.parametrize("rate", [24000, 44100, 16000])
def test_blocks_join_to_the_whole(rate: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(5 * rate + 7, 2)) * 0.1
    soundfile.write(tmp_path / "a.wav", noise, rate)
    for seconds in (0.37, 1.0, 60.0):
        blocks = list(read_blocks(tmp_path / "a.wav", 24000, seconds))
        assert np.array_equal(np.concatenate(blocks), read_audio(tmp_path / "a.wav", 24000).samples)
    with pytest.raises(FileError, match="no such file"):
        next(read_blocks(tmp_path / "b.wav", 24000))


def test_a_length_that_nobody_meant(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(1000), 24000)
    content = bytearray(path.read_bytes())
    content[21] |= 15  # the 36 bits of STREAMINFO that count samples: 64 giga of them
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.warns(AudioWarning, match=r"long.flac: the input ends after 0.04 s, but states 2863311.53 s"):
        assert len(read_audio(path, 24000).samples) == 1000


@pytest.mark.parametrize("rate", [0, -1, 10**9, 24000.5, float("nan"), True, "24000"])
def test_rates_are_whole_numbers(rate: Any, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", tone(24000), 24000)
    for call in (lambda: read_audio(tmp_path / "a.wav", rate), lambda: resample(AudioClip(tone(24000), 24000), rate)):
        with pytest.raises(InputError, match=r"sample_rate is .*; allowed: a whole number of 1 to 1000000 Hz"):
            call()


def test_what_cannot_be_resampled() -> None:
    for clip, rate, message in (
        (AudioClip(np.zeros((1, 5000), np.float32), 24000), 16000, r"shape \(1, 5000\); expected \(T,\)"),
        (AudioClip(np.zeros(5000, np.float32), 24000), 1, "one may be 1000 times the other"),
        (AudioClip(np.zeros(2, np.float32), 24000), 1000, "2 samples of 24000 Hz give none of 1000 Hz"),
        (AudioClip(np.full(5000, np.nan, np.float32), 24000), 16000, "5000 NaN or infinite values"),
        (AudioClip(np.full(50, 3e38, np.float32), 24000), 16000, r"audio reaches 3e\+38, too much to be resampled"),
    ):
        with pytest.raises(InputError, match=message):
            resample(clip, rate)


def test_huge_values_are_clipped_in_silence() -> None:
    assert to_int16(np.array([3e38, -3e38], np.float32))[0].tolist() == [32767, -32768]


@pytest.mark.parametrize("channels", [1, 3, 1024])
def test_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((50, channels), 0.25), 8000)
    assert np.allclose(read_audio(tmp_path / "a.wav").samples, 0.25, atol=1e-4)  # 16 bits
    if channels == 1024:
        content = bytearray((tmp_path / "a.wav").read_bytes())
        content[22:24] = b"\xff\xff"
        (tmp_path / "a.wav").write_bytes(content)
        with pytest.raises(
            FileError, match=r"cannot read .*a.wav as audio: it has more than 1024 channels; give a WAV"
        ):
            read_audio(tmp_path / "a.wav")


def test_the_largest_rate_and_those_that_no_file_has(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(24000), 1_000_000)
    assert len(read_audio(tmp_path / "a.wav", 24000).samples) == 288
    content = bytearray((tmp_path / "a.wav").read_bytes())
    for rate, message in (
        (0, "it states a sample rate of 0 Hz"),
        (1_000_001, "a sample rate of 1000001 Hz; allowed: 1 to"),
    ):
        content[24:28] = rate.to_bytes(4, "little")
        with pytest.raises(FileError, match=message):
            read_audio(bytes(content))


@pytest.mark.parametrize("read", [0, 700, 1000])
def test_everything_before_a_damage_is_read(read: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the damage begins right after a block. No small file makes libsndfile stop there, so this is told."""
    samples = np.linspace(0.1, 0.9, 1000, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 24000, subtype="FLOAT")
    left = [1000, read]  # of the blocks; the second one is damaged

    def damaged(sound: soundfile.SoundFile, out: np.ndarray) -> np.ndarray:
        count = left.pop(0)
        out[:count] = samples[:count, None]
        if not left:
            raise soundfile.LibsndfileError(1)
        return out

    monkeypatch.setattr(decoders._Forward, "read", damaged)
    with decoders.decoder(tmp_path / "a.wav") as sound:
        assert [len(sound.read(1000)), len(sound.read(1000))] == [1000, read] and sound.damage
