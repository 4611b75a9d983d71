"""Lengths that files state wrongly, or not at all: every sample that is there is read, and what is missing is said."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

import tts_infer
from tts_infer.errors import FileError
from tts_infer.io.audio import AudioWarning, read_audio, read_blocks, seconds_of
from tts_infer.io.lengths import WithHead, look
from tts_infer.io.notes import SignalMeter

RATE = 24000
SOUND = (0.3 * np.sin(np.arange(3 * RATE) / 20) * np.linspace(0, 1, 3 * RATE)).astype(np.float32)


def encoded(kind: str, sound: np.ndarray = SOUND, **settings: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format=kind, **settings)
    return file.getvalue()


def whole(content: bytes) -> np.ndarray:
    """What libsndfile reads of a file whose length is right."""
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]


def wav(data_size: int, riff_size: int, keep: int | None = None) -> bytes:
    content = bytearray(encoded("WAV"))
    content[4:8], content[40:44] = struct.pack("<I", riff_size), struct.pack("<I", data_size)
    return bytes(content[:keep])


@pytest.mark.parametrize(
    "sizes", [(0, 0), (0, 36), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFFFFF, 0x7FFFFFFF), (0x80000000, 36)]
)
def test_sizes_that_were_never_filled_in(sizes: tuple[int, int]) -> None:
    content = wav(*sizes)
    assert np.array_equal(read_audio(content).samples, whole(encoded("WAV")))  # no warning: nothing is missing


def test_a_day_in_the_header_and_seconds_in_the_file() -> None:
    day = 24 * 3600 * RATE * 2  # 4.1 GB, which a WAV file can hold
    with pytest.warns(AudioWarning, match="ends after 3.00 s, but states 86400.00 s"):
        assert np.array_equal(read_audio(wav(day, 36 + day)).samples, whole(encoded("WAV")))


def test_an_empty_wav_stays_empty() -> None:
    """What follows its samples is no sound."""
    empty = bytearray(encoded("WAV", SOUND[:0])) + b"LIST" + struct.pack("<I", 400) + b"INFO" + b"x" * 396
    empty[4:8] = struct.pack("<I", len(empty) - 8)
    with pytest.raises(FileError, match="holds no samples"):
        read_audio(bytes(empty))


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "MP3"])
def test_files_that_were_cut(kind: str, tmp_path: Path) -> None:
    content = encoded(kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.warns(AudioWarning, match=r"cut\.\w+: the input ends after 1\.\d\d s, but states 3\.\d\d s: the rest"):
        samples = read_audio(path).samples
    # most of the 1.8 s: the last block of a codec is incomplete, and FLAC's are 4096 samples
    assert 1.5 * RATE < len(samples) <= 1.9 * RATE
    if kind != "MP3":  # of a cut one, libmpg123 also gives the codec's delay
        assert np.array_equal(samples[:RATE], whole(content)[:RATE])
    meter = SignalMeter()
    blocks = list(read_blocks(path, RATE, 0.5, meter))
    assert np.array_equal(np.concatenate(blocks), samples)
    # FLAC's decoder says what it met at the end; the others just end
    assert [note.code for note in meter.notes()] == ["broken-input" if kind == "FLAC" else "missing-input"]


def test_a_flac_of_unknown_length() -> None:
    content = bytearray(encoded("FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    assert np.array_equal(read_audio(bytes(content)).samples, whole(encoded("FLAC")))
    assert seconds_of(bytes(content)) is None


def variable_mp3() -> bytes:
    """Quiet and loud parts, so that a length guessed from the first frames is wrong; without its Xing header."""
    noise = np.random.default_rng(0).normal(size=3 * RATE).astype(np.float32)
    loud = np.where(np.arange(3 * RATE) < RATE, 0.2 * noise, 1e-4 * noise).astype(np.float32)
    content = encoded("MP3", loud, bitrate_mode="VARIABLE", compression_level=0.2)
    head = look(io.BytesIO(content))
    assert b"Xing" in content[:200] and head.stated
    return content[head.skip :]


def test_mp3_of_a_variable_rate_without_a_header() -> None:
    content = variable_mp3()
    lost = 3 * RATE - len(whole(content))
    assert lost > RATE // 2, "libsndfile reads all of it: this file shows nothing"
    samples = read_audio(content).samples  # no warning
    assert 3 * RATE <= len(samples) <= 3 * RATE + 4 * 1152  # the codec's delay and padding


def test_joined_mp3_files() -> None:
    content = encoded("MP3")
    assert len(whole(content + content)) < 4 * RATE
    assert len(read_audio(content + content).samples) >= 6 * RATE


def test_id3_tags_and_other_bytes_are_no_frames() -> None:
    tag = b"ID3\x04\0\0" + bytes([0, 0, 8, 0]) + b"\xff\xfb\x90\x64" * 256  # looks like frames
    plain = look(io.BytesIO(variable_mp3()))
    tagged = look(io.BytesIO(tag + variable_mp3() + b"TAG" + bytes(125)))
    assert (tagged.at_least, tagged.stated) == (plain.at_least, None) and tagged.skip == plain.skip + len(tag)


def test_a_replaced_beginning() -> None:
    file = WithHead(io.BytesIO(b"0123456789"), b"ab", 4)
    assert file.read() == b"ab456789" and file.seek(-2, 2) == 6 and file.read() == b"89"
    assert file.seek(1) == 1 and io.BufferedReader(file).read(3) == b"b45"


def test_a_disk_that_cannot_be_read_is_no_end() -> None:
    """libsndfile takes every failed read for the end."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 20000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    file = WithHead(Broken(encoded("WAV")), b"", 0)
    sound = soundfile.SoundFile(file)
    sound.read(20000)
    assert file.error is not None and file.error.errno == 5


def test_a_small_file_that_would_become_long(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(60000, np.int16), 1)
    with pytest.raises(tts_infer.InputError, match=r"a.wav: audio of 1 Hz cannot be resampled to 24000 Hz"):
        tts_infer.synthesize_file(vocoder, tmp_path / "a.wav", tmp_path / "b.wav")
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_files_one_behind_the_other(subtype: str) -> None:
    sounds = [SOUND[: i * RATE] for i in (1, 2, 3)]
    parts = [encoded("OGG", sound, subtype=subtype) for sound in sounds]
    expected = np.concatenate([whole(part) for part in parts])
    content = b"".join(parts)
    assert len(whole(content)) < len(expected)  # what libsndfile alone makes of it
    assert np.array_equal(read_audio(content).samples, expected)
    assert np.array_equal(np.concatenate(list(read_blocks(content, RATE, 0.1))), expected)
    assert np.array_equal(read_audio(parts[0] + b"OggS and more").samples, whole(parts[0]))


def test_what_follows_in_an_ogg_file_and_cannot_be_joined() -> None:
    first, other = encoded("OGG"), io.BytesIO()
    soundfile.write(other, np.stack([SOUND, SOUND], 1), 44100, format="OGG")
    with pytest.warns(AudioWarning, match="what follows has 44100 Hz and 2 channels"):
        assert np.array_equal(read_audio(first + other.getvalue()).samples, whole(first))
    second = bytearray(encoded("OGG"))
    second[29:35] = b"\xff" * 6  # no codec of this name
    with pytest.warns(AudioWarning, match="the input is damaged after 3.00 s"):
        assert np.array_equal(read_audio(first + bytes(second)).samples, whole(first))
