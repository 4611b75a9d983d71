"""The command line, in this process."""

from __future__ import annotations

import gc
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tts_infer
from tts_infer.__main__ import main as run_process
from tts_infer.cli import main

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "examples" / "english.wav"


@pytest.fixture(scope="module")
def vocoder() -> tts_infer.Vocoder:
    """As the command line loads it."""
    return tts_infer.load_vocoder(device="cpu")


def test_decode_copies_audio(tmp_path: Path, capsys: pytest.CaptureFixture[str], vocoder: tts_infer.Vocoder) -> None:
    out = tmp_path / "out.wav"
    assert main(["decode", str(CLIP), "-o", str(out), "--device", "cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    audio = vocoder(tts_infer.read_audio(CLIP, 24000).samples)[0]
    assert np.array_equal(soundfile.read(out, dtype="int16")[0], tts_infer.to_int16(audio)[0])
    assert report["sample_rate"] == 24000 and report["seconds"] == len(audio) / 24000
    assert [row["stage"] for row in report["stages"]] == ["mel", "backbone", "head", "refine", "istft"]
    assert report["xrt"] == report["rtfx"] == pytest.approx(report["seconds"] / report["total_ms"] * 1000)
    assert 0 < report["log_mel_error_db"] < 3.0  # see test_vocoder.py


def test_decode_takes_the_official_mel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], official: object, speech: torch.Tensor
) -> None:
    from vocos.feature_extractors import MelSpectrogramFeatures

    mel = MelSpectrogramFeatures()(speech)
    np.save(tmp_path / "mel.npy", mel.numpy())
    assert main(["decode", str(tmp_path / "mel.npy"), "-o", str(tmp_path / "o.flac"), "--istft", "matmul"]) == 0
    text = capsys.readouterr().out
    assert "istft     cpu             matmul" in text and "x real time" in text
    assert soundfile.info(tmp_path / "o.flac").frames == (mel.shape[-1] - 1) * 256


def test_placements_methods_and_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.wav"
    arguments = ["--placement", "istft=cpu/matmul,head=cpu/torch", "--mel", "fft", "--json"]
    assert main(["decode", str(CLIP), "-o", str(out), "--sample-format", "float32", *arguments]) == 0
    rows = {row["stage"]: row["method"] for row in json.loads(capsys.readouterr().out)["stages"]}
    assert rows == {"mel": "fft", "backbone": "onednn", "head": "torch", "refine": "matmul", "istft": "matmul"}
    assert soundfile.info(out).subtype == "FLOAT"


def test_refine(tmp_path: Path, capsys: pytest.CaptureFixture[str], vocoder: tts_infer.Vocoder) -> None:
    out = tmp_path / "out.wav"
    for passes in (0, 2):
        assert main(["decode", str(CLIP), "-o", str(out), "--refine", str(passes), "--json"]) == 0
        stages = [row["stage"] for row in json.loads(capsys.readouterr().out)["stages"]]
        assert ("refine" in stages) == (passes > 0)
        expected, _ = tts_infer.to_int16(vocoder(tts_infer.read_audio(CLIP, 24000).samples, refine=passes)[0])
        assert np.abs(soundfile.read(out, dtype="int16")[0].astype(int) - expected).max() <= 1  # as below


def test_stream_to_stdout(vocoder: tts_infer.Vocoder, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """As a WAV through a real pipe, which cannot be rewound to mend a header; and as bare samples."""
    arguments = ["decode", str(CLIP), "--stream", "--device", "cpu"]
    done = subprocess.run([sys.executable, "-m", "tts_infer", *arguments], capture_output=True, check=True, cwd=ROOT)
    samples, rate = soundfile.read(io.BytesIO(done.stdout), dtype="int16")
    expected, _ = tts_infer.to_int16(vocoder(tts_infer.read_audio(CLIP, 24000).samples)[0])
    # pieces equal the whole to float32's last digits, which a rounding to 16 bits may turn into one step
    assert samples.shape == expected.shape and np.abs(samples.astype(int) - expected).max() <= 1 and rate == 24000
    assert main([*arguments, "--raw"]) == 0
    raw = np.frombuffer(capfdbinary.readouterr().out, dtype="<i2")
    assert raw.shape == expected.shape and np.abs(raw.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("turned.npy", "turned.npy: mel has shape (500, 100); expected (B, 100, L) or (100, L); this one is"),
        ("nan.npy", "nan.npy: mel holds 1 NaN"),
        ("batch.npy", "batch.npy: mel holds a batch of 2; expected one mel a file"),
        ("point.npy", "point.npy: mel has shape ()"),
        ("list.pt", "list.pt: mel is a list"),
        ("nan.wav", "nan.wav: audio holds 3000 NaN"),
    ],
)
def test_a_mistake_puts_nothing_into_a_stream(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    late = np.zeros((100, 500), dtype=np.float32)
    late[3, -3] = np.nan
    np.save("nan.npy", late)
    np.save("turned.npy", np.zeros((500, 100), dtype=np.float32))
    np.save("batch.npy", np.zeros((2, 100, 5), dtype=np.float32))
    np.save("point.npy", np.float32(1))
    torch.save([1.0], "list.pt")
    soundfile.write("nan.wav", np.full(3000, np.nan), 24000, subtype="FLOAT")
    assert main(["decode", name, "--stream", "--device", "cpu"]) == 2
    gc.collect()
    captured = capfdbinary.readouterr()
    assert message in captured.err.decode() and captured.err.count(b"\n") == 1 and captured.out == b""


def test_a_stream_longer_than_a_wav_is_refused() -> None:
    with pytest.raises(tts_infer.FileError, match=r"at most 4 GiB, 2147483648 samples are more; .* \(--raw\)"):
        tts_infer.wav_header(24000, 2**31)


@pytest.fixture
def long_mel(tmp_path: Path) -> Path:
    """Ten minutes, which a stream does not end before it is interrupted."""
    np.save(tmp_path / "long.npy", np.full((100, 60_000), -5, dtype=np.float32))
    return tmp_path / "long.npy"


def mind_interrupts() -> None:
    """As a terminal's programs do; those that a shell runs in the background are born deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("end", ["interrupt", "hang up"])
def test_a_stream_that_is_ended_early_says_nothing(end: str, long_mel: Path) -> None:
    command = [sys.executable, "-m", "tts_infer", "decode", str(long_mel), "--stream", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, preexec_fn=mind_interrupts
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(4) == b"RIFF"
        if end == "interrupt":
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == (130 if end == "interrupt" else 0)


def test_a_file_that_is_ended_early_leaves_nothing(long_mel: Path) -> None:
    command = [sys.executable, "-m", "tts_infer", "decode", str(long_mel), "-o", str(long_mel.parent / "o.wav")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT) as process:
        while process.poll() is None and len(list(long_mel.parent.iterdir())) < 2:
            time.sleep(0.01)
        process.terminate()
        assert process.communicate()[0] == b""
    assert process.returncode == 128 + signal.SIGTERM and list(long_mel.parent.iterdir()) == [long_mel]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_it(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(sys, "argv", ["tts-infer", "vocoders"])
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert run_process() == 0
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(number)
        assert ended.value.code == 128 + number
        signal.signal(number, signal.SIG_IGN)  # as nohup does
        assert run_process() == 0
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("command", ["--help", "decode {} --stream"])
def test_a_full_stdout_is_one_line(command: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mel.npy", np.zeros((100, 9), dtype=np.float32))
    words = [word.format(tmp_path / "mel.npy") for word in command.split()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tts_infer", *words], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    assert (done.returncode, done.stderr) == (2, "tts-infer: standard output: No space left on device\n")


def test_clipping_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mel = tts_infer.load_vocoder().mel(3.0 * tts_infer.read_audio(CLIP, 24000).samples)
    torch.save(mel, tmp_path / "loud.pt")
    assert main(["decode", str(tmp_path / "loud.pt"), "-o", str(tmp_path / "o.wav")]) == 0
    assert "samples clipped to full scale" in capsys.readouterr().out


def test_vocoders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocoders"]) == 0
    assert capsys.readouterr().out.startswith("vocos-mini-24khz")
    assert main(["vocoders", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["vocos-mel-24khz"]["where"] == "charactr/vocos-mel-24khz"
    assert rows["vocos-mel-24khz"]["size_mb"] == 54.4
    folder = Path(tts_infer.__file__).parent / "assets" / "vocos-mini-24khz"
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix != ".md")
    assert rows["vocos-mini-24khz"]["size_mb"] == round(size / 1e6, 1)


def test_one_vocoder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["vocoders", "vocos-mini-24khz"]) == 0
    text = capsys.readouterr().out
    for line in (
        "files                embedded, 7.5 MB",
        "architecture         vocos: backbone (input_channels 100, dim 256, intermediate_dim 768, num_layers 8, ",
        "parameters           3,620,610",
        "stages               mel, backbone, head, refine, istft",
        "receptive field      27 frames on each side",
        "latency of a stream  77 frames, 821 ms (with 16 refinement passes)",
    ):
        assert line in text, line
    assert "log_floor 1e-07" in text and "License" not in text
    folder = Path(tts_infer.__file__).parent / "assets" / "vocos-mini-24khz"
    assert main(["vocoders", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["status"], shown["parameters"], shown["refine"]) == ("local", 3_620_610, 0)
    assert main(["vocoders", "nobody/nothing"]) == 2
    assert "'nobody/nothing' is no local directory or file, and none of: vocos-mini" in capsys.readouterr().err


def test_one_vocoder_that_is_not_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tts_infer.diagnose import catalogue

    monkeypatch.setattr(catalogue, "where", lambda preset: "not cached")
    assert main(["vocoders", "charactr/vocos-mel-24khz"]) == 0
    text = capsys.readouterr().out
    assert "needs a download, about 54.4 MB: charactr/vocos-mel-24khz" in text and "license              MIT" in text
    assert "convention           vocos-24k: sample_rate 24000, n_fft 1024, " in text
    assert "architecture         vocos; its files say the sizes, stages, receptive field and latency" in text
    command = text.splitlines()[-1].removeprefix("to fetch them        ")
    assert shlex.split(command) == ["python", "-c", "import tts_infer; tts_infer.load_vocoder('vocos-mel-24khz')"]


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [("vocos-mini", "vocos-mini-24khz"), ("bigvgan-v2", "bigvgan-v2-"), ("luxtss-48khz", "luxtts-48khz")],
)
def test_a_mistyped_name_is_shown_the_nearest(mistyped: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocoders", mistyped]) == 2
    assert f"none of: {meant}" in capsys.readouterr().err
    with pytest.raises(tts_infer.VocoderNotFoundError, match=f"nor one of: {meant}"):
        tts_infer.load_vocoder(mistyped)


def test_weights_without_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = Path(tts_infer.__file__).parent / "assets" / "vocos-mini-24khz" / "model.safetensors"
    (tmp_path / "Vocos.safetensors").write_bytes(weights.read_bytes())
    command = ["decode", str(CLIP), "-o", str(tmp_path / "o.wav"), "--vocoder", str(tmp_path / "Vocos.safetensors")]
    assert main(command) == 2
    assert "has no config.yaml beside it: give config=PATH (--config PATH)" in capsys.readouterr().err
    assert main([*command, "--config", "vocos-mel-24khz"]) == 0
    assert main(["evaluate", str(CLIP), "--vocoder", "a", "--vocoder", "b", "--config", "c"]) == 2
    assert "--config goes with one --vocoder; there are 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.wav", "-o", "x.wav"], "no such file: missing.wav"),
        (["missing.npy", "-o", "x.wav"], "no such file: missing.npy"),
        (["text.wav", "-o", "x.wav"], "cannot read text.wav as audio"),
        (["turned.npy", "-o", "x.wav"], "turned.npy: mel has shape (5, 100); expected"),
        (["nan.wav", "-o", "x.wav"], "nan.wav: audio holds 3000 NaN or infinite values of 3000"),
        (["batch.npy", "-o", "x.wav"], "holds a batch of 2; expected one mel a file"),
        (["sound.npy", "-o", "x.wav"], "cannot read sound.npy as features: it is no .npy file; give a plain array"),
        (["array.wav", "-o", "x.wav"], "cannot read array.wav as audio: it holds an array; call it .npy"),
        (["empty.wav", "-o", "x.wav"], "cannot read empty.wav as audio: it is empty; give a WAV"),
        (["empty.npz", "-o", "x.wav"], "empty.npz holds no array"),
        (["one.npy", "-o", "x.wav"], "one.npy: the input is too short to give any audio; give two frames"),
        (["short.wav", "-o", "x.wav"], "short.wav: the input is too short to give any audio"),
        (
            [str(CLIP), "-o", "x.wav", "--convention", "hifigan-22k"],
            "of 'vocos-mini-24khz' has another mel convention than hifigan-22k",
        ),
        (["one.npy", "--stream"], "one.npy: the input is too short to give any audio"),
        ([str(CLIP)], "give either -o OUT, or --stream"),
        ([str(CLIP), "-o", "x.wav", "--stream"], "give either -o OUT, or --stream"),
        ([str(CLIP), "--stream", "--lookahead", "some"], "lookahead is 'some'; allowed: 'full', or 0 to 27 frames"),
        ([str(CLIP), "--stream", "--lookahead", "-5"], "lookahead is '-5'; allowed: 'full', or 0 to 27 frames"),
        ([str(CLIP), "--stream", "--lookahead", "99"], "allowed: 'full', or 0 to 27 frames"),
        ([str(CLIP), "--stream", "--stream-frames", "0"], "--stream-frames is 0; it must be at least 1"),
        ([str(CLIP), "--stream", "--json"], "--json goes with -o OUT, not with --stream"),
        ([str(CLIP), "--stream", "--sample-format", "float32"], "--sample-format goes with -o OUT, not with --stream"),
        ([str(CLIP), "-o", "x.wav", "--raw"], "--raw goes with --stream, not with -o OUT"),
        ([str(CLIP), "-o", "x.wav", "--lookahead", "x"], "--lookahead goes with --stream, not with -o OUT"),
        ([str(CLIP), "-o", "x.wav", "--stream-frames", "-5"], "--stream-frames goes with --stream, not with -o OUT"),
        ([str(CLIP), "-o", "x.mp3"], "extension '.mp3'; allowed: .wav, .flac"),
        ([str(CLIP), "-o", "no/x.wav"], "no such folder"),
        ([str(CLIP), "-o", "x.wav", "--vocoder", "nope"], "vocoder 'nope' is neither"),
        ([str(CLIP), "-o", "x.wav", "--refine", "-1"], "refine is -1; allowed: a number of passes, 0 to 1000"),
        ([str(CLIP), "-o", "x.wav", "--placement", "mel=gpu"], "device 'gpu' is unknown"),
        ([str(CLIP), "-o", "x.wav", "--dtype", "float16"], "dtype 'float16'"),
        ([str(CLIP), "-o", "x.wav", "--placement", "istft=cpu/fft", "--istft", "matmul"], "'matmul' is asked for"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.wav").write_text("no audio")
    soundfile.write("nan.wav", np.full(3000, np.nan), 24000, subtype="FLOAT")
    np.save("turned.npy", np.zeros((5, 100), dtype=np.float32))
    np.save("batch.npy", np.zeros((2, 100, 5), dtype=np.float32))
    np.save("one.npy", np.full((100, 1), -5.0, dtype=np.float32))
    soundfile.write("short.wav", np.zeros(3), 24000)
    Path("sound.npy").write_bytes(CLIP.read_bytes())
    Path("array.wav").write_bytes(Path("one.npy").read_bytes())
    Path("empty.wav").touch()
    np.savez("empty.npz")
    assert main(["decode", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert not list(tmp_path.glob("*x.*"))


def test_the_input_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(CLIP.read_bytes())
    assert main(["decode", str(clip), "-o", str(clip)]) == 2
    assert "is the input itself" in capsys.readouterr().err and clip.read_bytes() == CLIP.read_bytes()


@pytest.mark.parametrize("arguments", [[], ["decode"], ["fly"], ["decode", "a", "-o", "b", "--istft", "x"]])
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def in_a_shell(line: str, where: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    line = line.replace("tts-infer", f"{shlex.quote(sys.executable)} -m tts_infer")
    settings = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(["sh", "-c", line], capture_output=True, cwd=where, env=settings)


NO_STDOUT = b"tts-infer: standard output is closed; give the name of a file (-o OUT)\n"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("decode mel.npy -o o.wav >&-", 0, b""),  # a report that nobody asked for
        ("decode nothing -o o.wav 2>&-", 2, b""),
        ("decode mel.npy --stream >&-", 2, NO_STDOUT),
        ("decode mel.npy -o - >&-", 2, NO_STDOUT),
        ("speak Hello. --stream >&-", 2, NO_STDOUT),
        (
            "speak - -o o.wav <&-",
            2,
            b"tts-infer: standard input is closed; give the text itself, or a file\n",
        ),
    ],
)
def test_closed_streams(command: str, code: int, said: bytes, tmp_path: Path) -> None:
    np.save(tmp_path / "mel.npy", np.zeros((100, 9), dtype=np.float32))
    done = in_a_shell(f"tts-infer {command}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", said)
    assert (tmp_path / "o.wav").exists() == (code == 0)


def test_names_that_stdout_cannot_say_are_spelt_out(tmp_path: Path) -> None:
    np.save(tmp_path / "mel.npy", np.zeros((100, 9), dtype=np.float32))
    name = os.fsdecode(b"\xe9\xff.wav")
    done = in_a_shell(f"tts-infer decode mel.npy -o '{name}'", tmp_path, PYTHONIOENCODING="ascii:strict")
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.startswith(b"\\udce9\\udcff.wav: ")
    assert (tmp_path / name).exists()


def test_a_name_with_a_line_break_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "no\nfile.wav", "-o", "o.wav"]) == 2
    assert capsys.readouterr().err == "tts-infer: no such file: no\\nfile.wav\n"
