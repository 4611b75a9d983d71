"""Audio through pipes, in memory and in open files; out, too. And containers that only PyAV reads."""

from __future__ import annotations

import errno
import io
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import tts_infer
from tts_infer.cli import main
from tts_infer.errors import FileError, InputTypeError, MissingPackageError
from tts_infer.io import inputs, targets
from tts_infer.io.audio import read_audio
from tts_infer.io.writer import write_audio

RATE = 24000
CLIP = Path(__file__).parent.parent / "examples" / "english.wav"
CONTENT = CLIP.read_bytes()
SAMPLES = soundfile.read(CLIP, dtype="float32")[0]


def open_file(_: Path) -> Any:
    return open(CLIP, "rb")


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    threading.Thread(target=(folder / "pipe").write_bytes, args=[CONTENT], daemon=True).start()
    return folder / "pipe"


SOURCES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda _: CONTENT,
    "a view": lambda _: memoryview(CONTENT),
    "BytesIO": lambda _: io.BytesIO(CONTENT),
    "an open file": open_file,
    "a FIFO": fifo,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_is_read(kind: str, tmp_path: Path) -> None:
    assert np.array_equal(read_audio(SOURCES[kind](tmp_path)).samples, SAMPLES)


@pytest.mark.parametrize("kind", ["bytes", "a FIFO"])
def test_files_are_made_of_every_source(kind: str, tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    tts_infer.synthesize_file(vocoder, CLIP, tmp_path / "a.wav")
    tts_infer.synthesize_file(vocoder, SOURCES[kind](tmp_path), tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        (7, InputTypeError, "audio to read is a int; expected a path, bytes or an open binary file"),
        (io.StringIO("text"), InputTypeError, "gives str, not bytes; open it in binary mode"),
        (b"", FileError, "cannot read <bytes> as audio"),
        (b"\x93NUMPY...", FileError, r"<bytes> holds features \(.npy\)"),
        ("/dev/zero", FileError, "/dev/zero is a device; give a file or a pipe"),
        (str(CLIP.parent), FileError, "is a folder; give a file or a pipe"),
    ],
)
def test_what_is_no_source(source: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_audio(source)


def test_a_pipe_without_a_writer_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(inputs, "_WRITER_S", 0.1)
    with pytest.raises(FileError, match="nobody writes into the pipe .*pipe"):
        read_audio(tmp_path / "pipe")


def test_a_pipe_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def read(self, size: int) -> bytes:
            return bytes(size)

    monkeypatch.setattr(inputs, "MOST_PIPED_BYTES", 10_000_000)
    with pytest.raises(FileError, match="more than 10000000 bytes came from <Endless>"):
        read_audio(Endless())  # type: ignore[arg-type]


def test_outputs_that_are_open(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", SAMPLES, RATE)
    file = io.BytesIO(b"before")
    file.seek(6)
    assert write_audio(file, SAMPLES, RATE) == 0
    assert file.getvalue() == b"before" + (tmp_path / "a.wav").read_bytes()
    with pytest.raises(InputTypeError, match="takes text; open it for writing bytes"):
        write_audio(io.StringIO(), SAMPLES, RATE)  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="output is a int; expected a path"):
        write_audio(7, SAMPLES, RATE)  # type: ignore[arg-type]
    nothing = io.BytesIO()
    with pytest.raises(tts_infer.InputError):
        write_audio(nothing, torch.tensor([torch.nan]), RATE)
    assert nothing.getvalue() == b""


def test_links_pipes_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", SAMPLES, RATE)
    expected = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "deep").mkdir()
    (tmp_path / "link.wav").symlink_to("deep/b.wav")  # to what is not there yet
    write_audio(tmp_path / "link.wav", SAMPLES, RATE)
    assert (tmp_path / "link.wav").is_symlink() and (tmp_path / "deep" / "b.wav").read_bytes() == expected
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_audio(tmp_path / "pipe", SAMPLES, RATE)
    reader.join(10)
    assert got == [expected] and (tmp_path / "pipe").is_fifo()
    (tmp_path / "null").symlink_to("/dev/null")
    write_audio(tmp_path / "null", SAMPLES, RATE)
    assert Path("/dev/null").is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "deep", "link.wav", "null", "pipe"]
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    with pytest.raises(FileError, match=r"cannot write .*loop.wav: Too many levels of symbolic links"):
        write_audio(tmp_path / "loop.wav", SAMPLES, RATE)
    assert (tmp_path / "loop.wav").is_symlink()
    (tmp_path / "far.wav").symlink_to("missing/b.wav")
    with pytest.raises(FileError, match=r"far.wav: no such folder: .*missing"):
        write_audio(tmp_path / "far.wav", SAMPLES, RATE)


def test_a_pipe_without_a_reader_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    monkeypatch.setattr(targets, "_READER_S", 0.1)
    with pytest.raises(FileError, match="nobody reads the pipe .*pipe.wav; start the reader first, or give a file"):
        write_audio(tmp_path / "pipe.wav", SAMPLES, RATE)
    assert (tmp_path / "pipe.wav").is_fifo() and len(list(tmp_path.iterdir())) == 1


def test_sockets_are_refused_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket has no name that it can be opened by; `-` and open files are read and written."""
    monkeypatch.chdir(tmp_path)  # its name may have 107 bytes
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("a.wav")
        with pytest.raises(FileError, match=r"a.wav is a socket; give a file or a pipe"):
            read_audio("a.wav")
        with pytest.raises(FileError, match="cannot write a.wav: No such device or address"):
            write_audio("a.wav", SAMPLES, RATE)
        assert Path("a.wav").is_socket() and len(list(tmp_path.iterdir())) == 1


def test_pipes_that_break_off(vocoder: tts_infer.Vocoder) -> None:
    class Broken:
        name = "stream.wav"

        def read(self, size: int) -> bytes:
            raise OSError(errno.ECONNRESET, "Connection reset by peer")

    for call in (lambda source: read_audio(source), lambda source: tts_infer.synthesize_file(vocoder, source, "a.wav")):
        with pytest.raises(FileError, match="stream.wav: Connection reset by peer$"):
            call(Broken())


def test_no_room_for_what_comes_through_a_pipe(
    vocoder: tts_infer.Vocoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    for call in (read_audio, lambda source: tts_infer.synthesize_file(vocoder, source, tmp_path / "a.wav")):
        with pytest.raises(FileError, match="no room for what comes from <BytesIO>: No such file .*; set TMPDIR"):
            call(io.BytesIO(CONTENT))
    with pytest.raises(FileError, match="cannot write <BytesIO>: No such file or directory"):
        write_audio(io.BytesIO(), SAMPLES, RATE)
    assert not list(tmp_path.iterdir())


def run(command: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    shell = ["bash", "-c", command, sys.executable]
    return subprocess.run(shell, capture_output=True, timeout=120, check=False, **more)


@pytest.mark.slow  # loads a vocoder three times
def test_the_shell(tmp_path: Path) -> None:
    """Standard input and output, and process substitution both ways, in one process each."""
    assert main(["decode", str(CLIP), "-o", str(tmp_path / "a.wav"), "--device", "cpu"]) == 0
    expected = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]

    def same(content: bytes) -> bool:
        made = soundfile.read(io.BytesIO(content), dtype="int16")[0]
        # the number of threads changes the last bits of floats, so integers may round to a neighbour or two
        return made.shape == expected.shape and int(np.abs(made.astype(int) - expected).max()) <= 2

    done = run('"$0" -m tts_infer decode - -o - --device cpu', input=CONTENT)
    assert done.returncode == 0 and same(done.stdout) and b"x real time" in done.stderr, done.stderr
    out = tmp_path / "b.wav"
    done = run(f'"$0" -m tts_infer decode <(cat {CLIP}) -o >(cat > {out}) --device cpu; sleep 0.2')
    assert done.returncode == 0 and same(out.read_bytes()), done.stderr
    done = run('"$0" -m tts_infer decode - -o x.wav <&-')
    assert done.returncode == 2 and done.stderr == b"tts-infer: standard input is closed; give the path of a file\n"


def made_by_av(path: Path, codec: str, rate: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(SAMPLES[None], format="flt", layout="mono")
        frame.sample_rate = RATE
        fifo = av.AudioFifo()
        for made in resampler.resample(frame):
            fifo.write(made)
        while (part := fifo.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("name", "codec", "rate"), [("a.m4a", "aac", 24000), ("a.webm", "libopus", 48000)])
def test_containers_of_phones_and_browsers(name: str, codec: str, rate: int, tmp_path: Path) -> None:
    made_by_av(tmp_path / name, codec, rate)
    samples = read_audio(tmp_path / name, RATE).samples
    assert -0.01 * RATE <= len(samples) - len(SAMPLES) <= 2048  # codecs skip their delay, and AAC pads to whole frames
    level = np.sqrt(np.mean(samples[: len(SAMPLES)] ** 2)) / np.sqrt(np.mean(SAMPLES**2))
    assert level == pytest.approx(1, rel=0.05)  # lossy codecs keep the level to a few per cent
    assert np.array_equal(read_audio((tmp_path / name).read_bytes(), RATE).samples, samples)


def test_playlists_open_nothing(tmp_path: Path) -> None:
    """A list of parts may name any file and any address. PyAV gets neither the name of a file nor leave for lists."""
    made_by_av(tmp_path / "a.m4a", "aac", RATE)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{tmp_path}/a.m4a\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.m3u8").write_text(text)
    with pytest.raises(FileError, match=r"cannot read .*a.m3u8 as audio"):
        read_audio(tmp_path / "a.m3u8")
    (tmp_path / "b.ts").write_text(f"ffconcat version 1.0\nfile {tmp_path}/a.m4a\n")
    with pytest.raises(FileError, match=r"cannot read .*b.ts as audio"):
        read_audio(tmp_path / "b.ts")


def test_without_the_package_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x18ftypM4A ")
    with pytest.raises(MissingPackageError, match=r"a.m4a: .*pip install 'tts-infer\[av\]', or give a WAV file"):
        read_audio(tmp_path / "a.m4a")


def test_a_batch_says_what_it_leaves_out(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    (tmp_path / "in").mkdir()
    for name, content in {"a.wav": CONTENT, "b.wma": b"no audio", "notes.txt": b"text"}.items():
        (tmp_path / "in" / name).write_bytes(content)
    (tmp_path / "in" / "dead.wav").symlink_to("nowhere")
    report = tts_infer.synthesize_batch(vocoder, tmp_path / "in", tmp_path / "out")
    assert list(report.outputs) == ["a.wav"] and sorted(report.failed) == ["b.wav", "dead.wav"]
    assert report.left_out == {str(tmp_path / "in" / "notes.txt"): "its suffix is not that of audio or features"}
