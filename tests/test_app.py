"""The page's endpoints, called by gradio_client on an app that is really launched."""

from __future__ import annotations

import csv
import io
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args
from unittest.mock import Mock

import gradio as gr
import numpy as np
import pytest
import soundfile
import torch
from gradio.utils import get_function_description
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import app
import tts_infer
from ui.api import SNIPPETS
from ui.batch import batch, draw_batch, output_names
from ui.compare import draw_comparison
from ui.contest import RUNS
from ui.device import draw_audit, draw_report
from ui.scenes import facts_of
from ui.scope import kept, opened
from ui.session import load, read_input
from ui.synthesis import run
from ui.work import desk
from ui.zips import Packed

ROOT = Path(app.__file__).parent
CLIP = ROOT / "examples" / "english.wav"
LOUD = "The mel is far louder than any audio: natural logarithms of magnitudes at full scale end below 9."
VOCODER = next(iter(tts_infer.known_vocoders()))


def call(client: Client, endpoint: str, file: Path, **settings: str | None) -> tuple[np.ndarray, dict[str, Any]]:
    source = "audio" if endpoint == "/synthesize" else "mel"
    output, report = client.predict(
        **{source: handle_file(str(file)), "vocoder": VOCODER, **settings}, api_name=endpoint
    )
    samples, rate = soundfile.read(output, dtype="int16")
    assert rate == report["sample_rate"]
    return samples, report


def stages_of(report: dict[str, Any]) -> list[str]:
    return [stage["stage"] for stage in report["stages"]]


def test_synthesize_returns_the_samples_of_the_python_api(client: Client) -> None:
    samples, report = call(client, "/synthesize", CLIP)
    vocoder = tts_infer.load_vocoder()
    audio = torch.from_numpy(tts_infer.read_audio(CLIP, sample_rate=vocoder.sample_rate).samples)
    result = vocoder.synthesize(audio=audio[None])
    expected, clipped = tts_infer.to_int16(result.audio[0])
    np.testing.assert_array_equal(samples, expected)
    assert report["clipped_samples"] == clipped
    assert report["seconds"] == pytest.approx(result.seconds)
    assert stages_of(report) == [stage["stage"] for stage in result.stages]
    assert report["refine"] == vocoder.refine
    error = tts_infer.log_mel_error_db(result.features[0], vocoder.mel(result.audio)[0], vocoder.mel_config)
    # the page measures the same samples, but threads may add the matmuls' sums in another order
    assert report["log_mel_error_db"] == pytest.approx(error, abs=1e-3)


def test_decode_returns_the_samples_of_the_python_api(client: Client, tmp_path: Path) -> None:
    vocoder = tts_infer.load_vocoder()
    mel = vocoder.mel(torch.from_numpy(tts_infer.read_audio(CLIP, sample_rate=vocoder.sample_rate).samples)[None])
    np.save(tmp_path / "mel.npy", mel.numpy())
    samples, report = call(client, "/decode", tmp_path / "mel.npy")
    np.testing.assert_array_equal(samples, tts_infer.to_int16(vocoder.decode(mel)[0])[0])
    assert stages_of(report) == [stage["stage"] for stage in vocoder.synthesize(mel).stages]


@pytest.mark.parametrize("endpoint", ["/synthesize", "/decode"])
def test_refine_is_what_runs(client: Client, tmp_path: Path, endpoint: str) -> None:
    vocoder = tts_infer.load_vocoder()
    mel = vocoder.mel(torch.from_numpy(tts_infer.read_audio(CLIP, sample_rate=vocoder.sample_rate).samples)[None])
    np.save(tmp_path / "mel.npy", mel.numpy())
    given, first = (CLIP, ["mel"]) if endpoint == "/synthesize" else (tmp_path / "mel.npy", [])
    errors = {}
    for passes in (0, 8, 2):
        samples, report = call(client, endpoint, given, refine=str(passes))
        np.testing.assert_array_equal(samples, tts_infer.to_int16(vocoder.decode(mel, refine=passes)[0])[0])
        assert report["refine"] == passes
        assert stages_of(report) == [*first, "backbone", "head", *(["refine"] if passes else []), "istft"]
        errors[passes] = report["log_mel_error_db"]
    assert errors[8] < errors[2] < errors[0]
    assert call(client, endpoint, given)[1]["refine"] == vocoder.refine  # another visitor's choice is not mine


def test_settings_reach_the_vocoder(client: Client) -> None:
    def method(**settings: str) -> str:
        (stage,) = [
            stage for stage in call(client, "/synthesize", CLIP, **settings)[1]["stages"] if stage["stage"] == "istft"
        ]
        return str(stage["method"])

    for name in ("matmul", "fft"):
        assert method(istft=name) == name
        assert method(placement=f"istft=cpu/{name}, mel=cpu") == name
    with pytest.raises(AppError, match="asked for as well"):
        method(placement="istft=cpu/matmul", istft="fft")
    assert method(placement="istft=cpu/matmul", istft="auto") == "matmul"


def test_placements_are_names_or_written_out(client: Client, tmp_path: Path) -> None:
    _, report = call(client, "/synthesize", CLIP, placement="cpu")
    assert {stage["device"] for stage in report["stages"]} == {"cpu"}
    (tmp_path / "secret.yaml").write_text("mel: cpu\n")
    for wrong in ("banana", str(tmp_path / "secret.yaml"), "secret.yml"):  # the server's files are not for visitors
        with pytest.raises(AppError, match=r"is unknown; write stage=device\[.*or choose one of: auto, cpu,"):
            call(client, "/synthesize", CLIP, placement=wrong)
    with pytest.raises(AppError, match="banana"):
        call(client, "/synthesize", CLIP, placement="banana=cpu")


def test_report_adds_up(client: Client) -> None:
    _, report = call(client, "/synthesize", CLIP)
    assert 0 < sum(stage["ms"] for stage in report["stages"]) <= report["total_ms"]
    assert report["rtfx"] == pytest.approx(report["seconds"] * 1000 / report["total_ms"])


def broken_files(folder: Path) -> dict[str, Path]:
    contents = {"text.wav": b"this is no sound\n" * 20, "ten.wav": b"RIFF\x24\0\0\0WA", "empty.wav": b""}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


@pytest.mark.parametrize("name", ["text.wav", "ten.wav", "empty.wav"])
def test_a_broken_clip_is_named(client: Client, tmp_path: Path, name: str) -> None:
    with pytest.raises(AppError) as error:
        call(client, "/synthesize", broken_files(tmp_path)[name])
    assert name in str(error.value)
    assert "/" not in str(error.value)  # the server's folders are nobody's business
    call(client, "/synthesize", CLIP)


@pytest.mark.parametrize(
    ("mel", "expected"),
    [
        (np.zeros((80, 50), np.float32), "80"),
        (np.full((100, 5), np.nan, np.float32), "NaN"),
        (np.zeros((100, 0), np.float32), "empty"),
        (np.zeros((100, 5), np.int64), "int64"),
        (np.float32(5), r"mel\.npy: mel has shape \(\); expected"),
        (np.zeros((2, 100, 5), np.float32), r"^mel\.npy holds a batch of 2; expected one mel a file$"),
    ],
)
def test_a_wrong_mel_is_explained(client: Client, tmp_path: Path, mel: np.ndarray, expected: str) -> None:
    np.save(tmp_path / "mel.npy", mel)
    with pytest.raises(AppError, match=expected):
        call(client, "/decode", tmp_path / "mel.npy")


def test_the_shortest_mels(client: Client, tmp_path: Path) -> None:
    mel = np.full((100, 2), -5.0, np.float32)
    np.save(tmp_path / "mel.npy", mel)
    assert len(call(client, "/decode", tmp_path / "mel.npy")[0]) == tts_infer.load_vocoder().hop_length
    np.save(tmp_path / "mel.npy", mel[:, :1])
    with pytest.raises(AppError, match="one mel frame"):
        call(client, "/decode", tmp_path / "mel.npy")


@pytest.mark.parametrize(
    ("endpoint", "broken"),
    [
        ("/synthesize", "ui.decode.run"),
        ("/decode", "tts_infer.read_mel"),
        ("/stream", "ui.listen.in_pieces"),
        ("/compare", "ui.compare.reports_of"),
        ("/batch", "ui.batch.as_csv"),
        ("/doctor", "tts_infer.diagnose.doctor.examine"),
        ("/audit", "tts_infer.diagnose.doctor.audit_stages"),
    ],
)
def test_what_nobody_foresaw_is_said_and_logged(
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    endpoint: str,
    broken: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret of the server")

    np.save(tmp_path / "mel.npy", np.full((100, 5), -5.0, np.float32))
    clip, mel = handle_file(str(CLIP)), handle_file(str(tmp_path / "mel.npy"))
    settings = {"vocoders": [VOCODER], "placements": ["auto"], "istft": ["fft", "matmul"], "dtypes": ["float32"]}
    inputs = {
        "/decode": {"mel": mel, "vocoder": VOCODER},
        "/compare": {"audio": clip, **settings},
        "/batch": {"files": [clip], "vocoder": VOCODER},
        "/doctor": {},
        "/audit": {},
    }
    monkeypatch.setattr("ui.device._audit", [])
    monkeypatch.setattr(broken, fail)
    with pytest.raises(AppError, match=r"unexpected.*log") as error:
        client.predict(**inputs.get(endpoint, {"audio": clip, "vocoder": VOCODER}), api_name=endpoint)
    assert "secret" not in str(error.value)
    assert "RuntimeError: a secret of the server" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("drawing", "given"),
    [(draw_comparison, (1, None)), (draw_batch, ({}, None)), (draw_report, ({},)), (draw_audit, ([{}],))],
)
def test_what_nobody_foresaw_in_a_drawing_is_said(drawing: Any, given: tuple[Any, ...]) -> None:
    with pytest.raises(gr.Error, match="unexpected"):
        drawing(*given, None)


def test_missing_input_and_unknown_choices_are_explained(client: Client) -> None:
    with pytest.raises(AppError, match="no audio"):
        client.predict(audio=None, vocoder=VOCODER, api_name="/synthesize")
    with pytest.raises(AppError, match="no mel"):
        client.predict(mel=None, vocoder=VOCODER, api_name="/decode")
    with pytest.raises(AppError, match="banana"):
        call(client, "/synthesize", CLIP, device="banana")
    with pytest.raises(AppError, match="vocoder is None; expected a name"):
        client.predict(audio=handle_file(str(CLIP)), vocoder=None, api_name="/synthesize")
    for unknown in ("banana", "3", None):
        with pytest.raises(AppError, match=rf"{unknown}.*auto.*0.*16") as error:
            call(client, "/synthesize", CLIP, refine=unknown)
        assert "\n" not in str(error.value)
    with pytest.raises(tts_infer.InputError, match="refine is '3'; allowed: auto, 0, 1, 2, 4, 8, 12, 16, 24"):
        load(VOCODER, refine="3")  # type: ignore[arg-type]


def test_concurrent_calls_all_get_their_own_result(client: Client) -> None:
    clips = sorted((ROOT / "examples").glob("*.wav"))
    alone = [call(client, "/synthesize", clip)[0] for clip in clips]
    with ThreadPoolExecutor(len(clips)) as pool:
        together = list(pool.map(lambda clip: call(client, "/synthesize", clip)[0], clips))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_compare_runs_every_combination(client: Client) -> None:
    *files, reports = client.predict(
        audio=handle_file(str(CLIP)),
        vocoders=[VOCODER],
        placements=["auto"],
        istft=["fft", "matmul"],
        dtypes=["float32", "bfloat16"],
        refine=["auto"],
        api_name="/compare",
    )
    names = [f"{method} · {dtype}" for method in ("fft", "matmul") for dtype in ("float32", "bfloat16")]
    assert [report["name"] for report in reports] == names
    assert [file is not None for file in files] == [True] * 4 + [False] * 2
    vocoder = tts_infer.load_vocoder(istft="fft")
    audio = torch.from_numpy(tts_infer.read_audio(CLIP, sample_rate=vocoder.sample_rate).samples)[None]
    np.testing.assert_array_equal(soundfile.read(files[0], dtype="int16")[0], tts_infer.to_int16(vocoder(audio)[0])[0])
    times = [(report["runs"], report["least_ms"], report["total_ms"], report["most_ms"]) for report in reports]
    assert all(runs == RUNS and 0 < least <= median <= most for runs, least, median, most in times)
    assert all(0 < sum(row["ms"] for row in one["stages"]) <= one["total_ms"] for one in reports)  # both of one run
    to_first = [report["error_to_first_db"] for report in reports]
    assert to_first[0] == 0.0
    assert to_first[2] < 0.01 < to_first[1]  # another order of float32 sums is inaudible; bfloat16 is coarser


@pytest.mark.parametrize(
    ("methods", "passes", "count"),
    [(None, ["0"], 0), (["fft"], ["0"], 1), (["auto", "fft", "matmul"], ["0", "1", "2"], 9)],
)
def test_compare_wants_two_to_six(client: Client, methods: list[str] | None, passes: list[str], count: int) -> None:
    with pytest.raises(AppError, match=f"make {count} combinations"):
        client.predict(
            audio=handle_file(str(CLIP)),
            vocoders=[VOCODER],
            placements=["auto"],
            istft=methods,
            dtypes=["float32"],
            refine=passes,
            api_name="/compare",
        )


def test_blind_comparison_tells_nothing(client: Client) -> None:
    arguments = {"vocoders": [VOCODER], "placements": ["auto"], "istft": ["fft", "matmul"], "dtypes": ["float32"]}
    *_, report = client.predict(audio=handle_file(str(CLIP)), **arguments, blind=True, api_name="/compare")
    assert report is None


def test_compare_refinement(client: Client) -> None:
    arguments = {"vocoders": [VOCODER], "placements": ["auto"], "istft": ["fft"], "dtypes": ["float32"]}
    audio = handle_file(str(CLIP))
    *_, reports = client.predict(audio=audio, **arguments, refine=["0", "8", "auto"], api_name="/compare")
    assert [report["name"] for report in reports] == ["refine 0", "refine 8", "refine auto"]
    assert [report["refine"] for report in reports] == [0, 8, tts_infer.load_vocoder().refine]
    assert ["refine" in stages_of(report) for report in reports[:2]] == [False, True]
    assert reports[1]["error_to_input_db"] < reports[0]["error_to_input_db"]
    *_, report = client.predict(audio=audio, **arguments, refine=["0", "8"], blind=True, api_name="/compare")
    assert report is None


def test_values_may_be_given_by_position(client: Client) -> None:
    _, report = client.predict(handle_file(str(CLIP)), VOCODER, "cpu", "auto", "fft", "2", api_name="/synthesize")
    assert report["refine"] == 2
    values = (handle_file(str(CLIP)), [VOCODER], ["auto"], ["fft", "matmul"], ["float32"])
    names = [report["name"] for report in client.predict(*values, False, ["2"], api_name="/compare")[-1]]
    assert names == ["fft", "matmul"]
    assert client.predict(*values, True, ["2"], api_name="/compare")[-1] is None


@pytest.mark.slow
def test_compare_offers_the_number_formats_that_a_device_here_can_use(demo: gr.Blocks) -> None:
    formats: Any = next(b for b in demo.blocks.values() if getattr(b, "elem_id", "") == "compare-number-format")
    said = tts_infer.doctor.examine()["devices"].values()
    usable = [name for name in get_args(tts_infer.DTypeName) if any(device[name] == "fast" for device in said)]
    assert [value for _, value in formats.choices] == usable


def test_batch_decodes_what_it_can(client: Client, tmp_path: Path) -> None:
    vocoder = tts_infer.load_vocoder()
    audio = torch.from_numpy(tts_infer.read_audio(CLIP, sample_rate=vocoder.sample_rate).samples)[None]
    np.save(tmp_path / "mel.npy", vocoder.mel(audio).numpy())
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
        archive.write(CLIP, "folder/english.wav")
        archive.writestr("../escape.wav", b"no sound")
        archive.writestr("__MACOSX/._english.wav", b"resource fork")
    files = [CLIP, tmp_path / "mel.npy", broken_files(tmp_path)["ten.wav"], tmp_path / "clips.zip"]
    output, report = client.predict(files=[handle_file(str(f)) for f in files], vocoder=VOCODER, api_name="/batch")
    rows = report["files"]

    expected = ["english.wav", "mel.npy", "ten.wav", "folder/english.wav", "../escape.wav"]
    assert [row["file"] for row in rows] == expected
    assert [row["file"] for row in rows if "error" in row] == ["ten.wav", "../escape.wav"]
    assert all(row["file"] in row["error"] and "/tmp" not in row["error"] for row in rows if "error" in row)
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == [f"{name}-refine16.wav" for name in ("english", "mel", "folder/english")] + [
            "results.csv"
        ]
        table = list(csv.DictReader(io.StringIO(archive.read("results.csv").decode())))
        waves = {
            name: soundfile.read(io.BytesIO(archive.read(name)), dtype="int16")[0] for name in archive.namelist()[:3]
        }
    assert [row["file"] for row in table] == expected
    assert float(table[0]["log_mel_error_db"]) == pytest.approx(rows[0]["log_mel_error_db"])
    assert report["seconds"] == pytest.approx(sum(row.get("seconds", 0) for row in rows))
    for samples in waves.values():
        np.testing.assert_array_equal(samples, tts_infer.to_int16(vocoder(audio)[0])[0])


def silent_clip(path: Path) -> Path:
    """A clip with a second of digital silence, in which 16 bits are coarse."""
    samples, rate = soundfile.read(CLIP, dtype="int16")
    soundfile.write(path, np.concatenate([samples, np.zeros(rate, np.int16)]), rate)
    return path


def test_batch_measures_what_the_decode_tab_measures(client: Client, tmp_path: Path) -> None:
    clip = silent_clip(tmp_path / "silent.wav")
    samples, alone = call(client, "/synthesize", clip)
    output, report = client.predict(files=[handle_file(str(clip))], vocoder=VOCODER, api_name="/batch")
    # the same samples, but threads may add the matmuls' sums in another order
    assert report["files"][0]["log_mel_error_db"] == pytest.approx(alone["log_mel_error_db"], abs=1e-3)
    with zipfile.ZipFile(output) as archive:
        packed = archive.read("silent-refine16.wav")
    tts_infer.write_audio(tmp_path / "expected.wav", samples / np.float32(32768), alone["sample_rate"])
    assert packed == (tmp_path / "expected.wav").read_bytes()


def test_batch_counts_what_it_clips(client: Client, tmp_path: Path) -> None:
    vocoder = tts_infer.load_vocoder()
    mel = vocoder.mel(tts_infer.read_audio(CLIP, vocoder.sample_rate).samples) + 3.0
    np.save(tmp_path / "loud.npy", mel.numpy())
    files = [handle_file(str(tmp_path / "loud.npy")), handle_file(str(CLIP))]
    _, report = client.predict(files=files, vocoder=VOCODER, api_name="/batch")
    _, clipped = tts_infer.to_int16(vocoder.decode(mel)[0])
    assert clipped > 100
    assert report["clipped_samples"] == pytest.approx(clipped, abs=5)  # in another order of sums


def test_batch_explains_what_is_too_short_and_goes_on(client: Client, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tiny.wav", np.full(240, 0.1, np.float32), 24000)
    np.save(tmp_path / "frame.npy", np.full((100, 1), -5.0, np.float32))
    np.save(tmp_path / "two.npy", np.full((2, 100, 9), -5.0, np.float32))
    names = ["tiny.wav", "frame.npy", "two.npy"]
    files = [handle_file(str(tmp_path / name)) for name in names] + [handle_file(str(CLIP))]
    output, report = client.predict(files=files, vocoder=VOCODER, api_name="/batch")
    rows = report["files"]
    assert [row["file"] for row in rows] == [*names, CLIP.name]
    assert ["one mel frame long" in row.get("error", "") for row in rows] == [True, True, False, False]
    assert rows[2]["error"] == "two.npy holds a batch of 2; expected one mel a file"
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["english-refine16.wav", "results.csv"]


def test_batch_refines(client: Client) -> None:
    vocoder = tts_infer.load_vocoder()
    audio = torch.from_numpy(tts_infer.read_audio(CLIP, sample_rate=vocoder.sample_rate).samples)[None]
    for refine, passes in (("0", 0), ("2", 2), ("auto", vocoder.refine)):
        files = [handle_file(str(CLIP))]
        output, report = client.predict(files=files, vocoder=VOCODER, refine=refine, api_name="/batch")
        assert report["refine"] == passes
        with zipfile.ZipFile(output) as archive:
            samples, _ = soundfile.read(io.BytesIO(archive.read(f"english-refine{passes}.wav")), dtype="int16")
        np.testing.assert_array_equal(samples, tts_infer.to_int16(vocoder(audio, refine=passes)[0])[0])


def test_batch_explains_what_it_cannot_start_with(client: Client, tmp_path: Path) -> None:
    with pytest.raises(AppError, match="no files"):
        client.predict(files=None, vocoder=VOCODER, api_name="/batch")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(AppError, match="no files"):
        client.predict(files=[handle_file(str(tmp_path / "empty.zip"))], vocoder=VOCODER, api_name="/batch")


def test_an_unreadable_zip_is_one_row(client: Client, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK")
    files = [handle_file(str(tmp_path / "broken.zip")), handle_file(str(CLIP))]
    _, report = client.predict(files=files, vocoder=VOCODER, api_name="/batch")
    bad, good = report["files"]
    assert bad == {"file": "broken.zip", "error": "cannot read broken.zip as a zip file; pack it again"}
    assert good["output"] == "english-refine16.wav"


def test_folders_in_zips_are_kept_and_lead_nowhere_else() -> None:
    names = ["a/one.wav", "A/One.flac", "b\\one.wav", "../../one.wav", "/etc/one.wav", "c:/one.wav", "c:", "one"]
    inputs = [Packed("in.zip", Path("1"), zipfile.ZipInfo("x")) for _ in names]
    for one, name in zip(inputs, names, strict=True):
        assert one.member
        one.member.filename = name
    chosen = {"vocoder": VOCODER, "refine": 8, "settings": {}}
    assert output_names(inputs, chosen) == [
        *("a/one-refine8.wav", "A/One-refine8-2.wav", "b/one-refine8.wav", "one-refine8.wav", "etc/one-refine8.wav"),
        *("one-refine8-2.wav", "output-refine8.wav", "one-refine8-3.wav"),
    ]


@pytest.mark.parametrize("endpoint", SNIPPETS)
def test_snippets_run(
    demo: gr.Blocks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    endpoint: str,
) -> None:
    vocoder = tts_infer.load_vocoder()
    shutil.copy(CLIP, tmp_path / "speech.wav")
    np.save(tmp_path / "mel.npy", vocoder.mel(tts_infer.read_audio(CLIP, vocoder.sample_rate).samples).numpy())
    monkeypatch.chdir(tmp_path)
    exec(SNIPPETS[endpoint].replace("http://127.0.0.1:7860/", str(demo.local_url)), {})
    assert {"/doctor": "backbone cpu", "/audit": "2.4.1", "/batch": ".zip", "/advise": "auto auto auto"}.get(
        endpoint, ".wav"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["synthesize", "decode", "stream", "stream_mel", "batch"])
def test_every_parameter_is_described_once(demo: gr.Blocks, name: str) -> None:
    (handler,) = [fn.fn for fn in demo.fns.values() if fn.api_name == name]
    assert handler is not None
    _, parameters, returns = get_function_description(handler)
    described = {parameter for parameter, text in parameters.items() if text}
    assert described == set(parameters) - {"request", "progress"} and returns
    assert "Settings" not in str(handler.__doc__)


def test_every_event_is_named_and_every_endpoint_documented(demo: gr.Blocks, client: Client) -> None:
    names = [fn.api_name for fn in demo.fns.values()]
    assert all(isinstance(name, str) for name in names)
    assert len(set(names)) == len(names)
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == set(SNIPPETS)
    assert all(endpoint["description"] for endpoint in endpoints.values())
    for name in ("/synthesize", "/decode", "/stream", "/stream_mel"):
        *piece, wav, _ = [value["python_type"]["type"] for value in endpoints[name]["returns"]]
        assert wav == "filepath"
        assert [what.split(", end_s")[0] for what in piece] == (
            ["dict(file: filepath, index: int, sample_rate: int"] if name.startswith("/stream") else []
        )
        parameters = endpoints[name]["parameters"]
        types = {value["parameter_name"]: value["python_type"]["type"] for value in parameters}
        assert types["istft"] == "Literal['auto', 'matmul', 'fft']"
        assert types["refine"] == "Literal['auto', '0', '1', '2', '4', '8', '12', '16', '24']"
        assert list(types)[1:] == ["vocoder", "device", "placement", "istft", "refine", "dtype"]


def test_chinese_browsers_get_chinese_results(demo: gr.Blocks, tmp_path: Path) -> None:
    client = Client(demo.local_url, verbose=False, headers={"accept-language": "zh-CN,zh;q=0.9"})
    with pytest.raises(AppError, match="还没有音频"):
        client.predict(audio=None, vocoder=VOCODER, api_name="/synthesize")
    np.save(tmp_path / "frame.npy", np.full((100, 1), -5.0, np.float32))
    np.save(tmp_path / "two.npy", np.full((2, 100, 9), -5.0, np.float32))
    (tmp_path / "broken.zip").write_bytes(b"PK")
    files = {name: handle_file(str(tmp_path / name)) for name in ("frame.npy", "two.npy", "broken.zip")}
    with pytest.raises(AppError, match="只有一个梅尔帧"):
        client.predict(mel=files["frame.npy"], vocoder=VOCODER, api_name="/decode")
    with pytest.raises(AppError, match=r"^two\.npy 中有 2 个梅尔频谱"):
        client.predict(mel=files["two.npy"], vocoder=VOCODER, api_name="/decode")
    given = [files[name] for name in ("two.npy", "frame.npy", "broken.zip")]
    _, report = client.predict(files=given, vocoder=VOCODER, api_name="/batch")
    two, frame, archive = (row["error"] for row in report["files"])
    assert archive.startswith("无法将 broken.zip 作为 zip 文件读取")
    assert two.startswith("two.npy 中有 2 个梅尔频谱")
    assert "只有一个梅尔帧" in frame


def test_temporary_files_are_removed_when_the_server_stops() -> None:
    demo = app.build_demo()
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    client = Client(demo.local_url, verbose=False, download_files=False)
    output, _ = client.predict(audio=handle_file(str(CLIP)), vocoder=VOCODER, api_name="/synthesize")
    path = Path(output["path"])
    assert soundfile.info(path).duration > 3
    client.close()
    demo.close()
    deadline = time.monotonic() + 10
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not path.exists()


def test_examples_outlive_the_cleanup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(app, "KEEP_S", 1)
    with gr.Blocks(analytics_enabled=False) as outer:  # as a part of another app, too
        inner = app.build_demo().render()
    outer.delete_cache = inner.delete_cache
    outer.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(outer.local_url, verbose=False, download_files=False)
        output, _ = client.predict(audio=handle_file(str(CLIP)), vocoder=VOCODER, api_name="/synthesize")
        deadline = time.monotonic() + 20
        while (left := list((tmp_path / "cache").rglob("*.wav"))) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert left == []  # uploads and results go
        assert not Path(output["path"]).exists()
        for endpoint in ("/load_example", "/load_example_to_compare"):
            example = client.predict(0, api_name=endpoint)["value"]
            with urllib.request.urlopen(example["url"]) as response:
                assert response.read() == CLIP.read_bytes()
            client.predict(audio=example, vocoder=VOCODER, api_name="/synthesize")
        with pytest.raises(urllib.error.HTTPError):  # what lies beside them is nobody's business
            urllib.request.urlopen(example["url"].replace("english.wav", "make.sh"))
    finally:
        outer.close()


def test_page_works_inside_another_app() -> None:
    with gr.Blocks(analytics_enabled=False) as outer:
        gr.Markdown("# Another app")
        app.build_demo().render()
    outer.launch(prevent_thread_lock=True, quiet=True)
    try:
        samples, _ = call(Client(outer.local_url, verbose=False), "/synthesize", CLIP)
        assert len(samples) > 24000
    finally:
        outer.close()


def test_command_line_serves_the_page(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "app.py"), "--host", "127.0.0.1", "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        said = next(line for line in server.stdout if "http" in line)
        with urllib.request.urlopen(said.split()[-1]) as response:
            assert "tts-infer" in response.read().decode()
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=60)
    assert "Traceback" not in errors


def test_nobody_reads_what_the_program_prints(tmp_path: Path) -> None:
    command = [sys.executable, "-u", str(ROOT / "app.py"), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout and server.stderr
        server.stdout.close()
        assert server.wait(60) == 2
        assert "nobody reads standard output" in server.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocoder", "nonsense"], "nonsense"),
        (["--device", "banana"], "banana"),
        (["--auth", "nobody"], "USER:PASSWORD"),
        (["--port", "65536"], "expected a number from 0 to 65535"),
        (["--port", "-1"], "expected"),
        (["--root-path", "tts"], "--root-path 'tts': expected a path that begins with /"),
    ],
)
def test_wrong_flags_are_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        app.parse(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert app.main(["--host", "127.0.0.1", "--port", port]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and f"app.py: cannot listen on 127.0.0.1, port {port}: " in said[0]


@pytest.mark.parametrize("moment", ["app.load", "gradio.blocks.httpx.get"])  # of loading, and when the port is open
def test_an_interrupt_before_the_page_is_up(
    moment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(moment, Mock(side_effect=KeyboardInterrupt))
    assert app.main(["--host", "127.0.0.1", "--port", str(port)]) == 0
    assert capsys.readouterr().err == ""
    socket.create_server(("127.0.0.1", port)).close()  # the port is free again


def test_a_result_is_kept_in_files_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    model, request = load(VOCODER), gr.Request(headers={})
    result = run(model, read_input(model, "audio", CLIP))
    scene = kept(result, "english")
    value = opened(scene, request)
    assert [sound["name"] for sound in value["sounds"]] == ["Original", "Output"]
    assert sorted(path.name for path in (tmp_path / scene).iterdir()) == [
        *("english-original.wav", f"english-refine{model.refine}.wav", "mels.npy", "scene.json")
    ]
    assert opened(None, request) == gr.skip()
    shutil.rmtree(tmp_path / scene)
    with pytest.raises(gr.Error, match="expired"):
        opened(scene, request)
    for wrong in ("../" * 3, "/etc", "0" * 31, None):
        with pytest.raises(tts_infer.InputError, match="expired"):
            facts_of(wrong)  # type: ignore[arg-type]


def test_too_loud_a_mel_is_told_as_such(client: Client, tmp_path: Path) -> None:
    np.save(tmp_path / "loud.npy", np.full((100, 50), 19.0, np.float32))
    with pytest.raises(AppError, match=LOUD):
        call(client, "/decode", tmp_path / "loud.npy")
    files = [handle_file(str(tmp_path / "loud.npy")), handle_file(str(CLIP))]
    _, report = client.predict(files=files, vocoder=VOCODER, api_name="/batch")
    assert [row.get("error") for row in report["files"]] == [LOUD, None]


def test_programs_read_messages_as_they_are(client: Client, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.zeros(1, np.float32), b=np.zeros(1, np.float32))
    with pytest.raises(AppError, match="name one of them 'mel'"):
        call(client, "/decode", tmp_path / "two.npz")


def test_a_cancel_is_not_meant_for_the_next_batch() -> None:
    request = gr.Request(session_hash="one", headers={})

    def cancelled(when: str) -> int:
        rows = batch([str(CLIP)] * 6, VOCODER, request=request)[1]["files"]
        return sum("error" in row for row in rows)

    desk.stop("one")
    assert cancelled("before it began") == 0
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(cancelled, "while it runs")
        while not any(job["done"] for job in desk.seen_by("one")):
            time.sleep(0.005)
        desk.stop("two")
        desk.stop("one")
        assert 0 < running.result() < 6
    assert cancelled("afterwards") == 0


@pytest.mark.parametrize("damage", ["password", "content", "method"])
def test_what_cannot_be_unpacked_is_one_line(client: Client, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "clips.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(CLIP, "clip.wav")
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    if damage == "content":
        content[1000] ^= 255
    for at in (6, central + 8) if damage == "password" else (8, central + 10) if damage == "method" else ():
        content[at] = 1 if damage == "password" else 99
    path.write_bytes(content)
    _, report = client.predict(files=[handle_file(str(path))], vocoder=VOCODER, api_name="/batch")
    (row,) = report["files"]
    assert re.fullmatch(r"cannot unpack clip.wav from clips.zip: .*; pack it again, without a password", row["error"])
