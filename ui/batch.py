"""The Batch tab: many files or a zip in, a zip of waveforms with a CSV of results out."""

from __future__ import annotations

import csv
import html
import io
import itertools
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

import tts_infer
from ui.decode import dropdown
from ui.engine import AUTO, COMPUTE, Report, load, read_samples, run, shown_errors
from ui.results import result_view, table
from ui.texts import Words, label, words_of

MOST_FILES = 1000
MOST_BYTES = 1_000_000_000  # unpacked: a small zip can hold a lot of nothing
COLUMNS = ("file", "output", "seconds", "total_ms", "xrt", "log_mel_error_db", "clipped_samples", "error")


def batch(
    files: list[str] | None,
    vocoder: str,
    device: str = AUTO,
    istft: tts_infer.MethodChoice = AUTO,
    request: gr.Request | None = None,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio recognises the parameter by this default
) -> tuple[str, list[Report]]:
    """Decode many files: audio is copied, mels are decoded, zip files are unpacked. A broken file stops nothing.

    Parameters:
        files: audio, mel or zip files
        vocoder: name of a known vocoder
        device: device of all stages; "auto" takes the best
        istft: inverse STFT method

    Returns:
        a zip with the outputs as 16-bit WAV and results.csv, and its rows: file, output, seconds, total_ms, xrt,
        log_mel_error_db, clipped_samples, error
    """
    words = words_of(request)
    with tempfile.TemporaryDirectory() as folder, shown_errors(words, *(files or [])):
        if not files:
            raise tts_infer.InputError("There are no files yet: drop audio files, mel files, or a zip of them.")
        progress(0, desc=words("Reading the files"))
        inputs = list(unpacked(files, Path(folder)))
        model = load(vocoder, device, istft=istft)
        rows: list[Report] = []
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for i, (name, path) in enumerate(inputs):
                progress((i, len(inputs)), desc=name, unit=words("files"))
                rows.append(one(model, name, path, archive))
            archive.writestr("results.csv", as_csv(rows))
    return save_bytes_to_cache(packed.getvalue(), "results.zip", str(gr.utils.get_upload_folder())), rows


def unpacked(files: Sequence[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every input, those inside zips included.

    Members are written under numbers, so that no name in a zip can reach outside the folder.
    """
    count = size = 0
    for file in files:
        if Path(file).suffix.lower() != ".zip":
            yield Path(file).name, Path(file)
            continue
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError):
            raise tts_infer.FileError(f"cannot read {file} as a zip file; pack it again") from None
        with archive:
            for member in archive.infolist():
                path = PurePosixPath(member.filename)
                if member.is_dir() or path.name.startswith(".") or "__MACOSX" in path.parts:
                    continue
                count, size = count + 1, size + member.file_size
                if count > MOST_FILES or size > MOST_BYTES:
                    raise tts_infer.InputError(
                        f"{file} holds more than {MOST_FILES} files or {MOST_BYTES // 10**6} MB; split it"
                    )
                target = folder / f"{count}{path.suffix}"
                target.write_bytes(archive.read(member))
                yield str(path), target


def one(model: tts_infer.Vocoder, name: str, path: Path, archive: zipfile.ZipFile) -> Report:
    """Run one file, add its output to the archive, and return its row."""
    try:
        if path.suffix.lower() in tts_infer.FEATURE_SUFFIXES:
            result = run(model, mel=tts_infer.read_features(path))
        else:
            result = run(model, audio=read_samples(path, model.sample_rate))
    except tts_infer.TTSInferError as error:
        return {"file": name, "error": str(error).replace(str(path), name)}
    output = free_name(PurePosixPath(name).stem, archive.namelist())
    with tempfile.TemporaryDirectory() as folder:
        tts_infer.write_audio(Path(folder) / "out.wav", result.waveform, model.sample_rate)
        archive.write(Path(folder) / "out.wav", output)
    return {"file": name, "output": output} | {key: result.report[key] for key in COLUMNS if key in result.report}


def free_name(stem: str, taken: Sequence[str]) -> str:
    """A name for an output that no other has."""
    names = (f"{stem}{number}.wav" for number in itertools.chain([""], (f"-{i}" for i in itertools.count(2))))
    return next(name for name in names if name not in taken)


def as_csv(rows: Sequence[Report]) -> str:
    """The rows as CSV, with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def draw_batch(rows: list[Report], request: gr.Request) -> str:
    """How it went, in words and as a table; what failed says why."""
    words = words_of(request)
    failed = sum("error" in row for row in rows)
    summary = words("{done} of {count} files decoded.").format(done=len(rows) - failed, count=len(rows))
    return f"<p>{summary}</p>{batch_table(rows, words)}"


def batch_table(rows: Sequence[Report], words: Words) -> str:
    """One row per file."""
    heads = ("File", "Seconds", "ms", "× real time", "Log-mel error (dB)", "Clipped samples")
    formats = {"seconds": ".2f", "total_ms": ".1f", "xrt": ".1f", "log_mel_error_db": ".2f", "clipped_samples": "d"}
    lines = []
    for row in rows:
        failed = [f"⚠ {html.escape(row['error'])}"] if "error" in row else []
        lines.append([html.escape(row["file"]), *(failed or [f"{row[key]:{how}}" for key, how in formats.items()])])
    return table(words("Batch"), [words(head) for head in heads], lines)


def batch_tab(vocoders: Sequence[str], device: str) -> None:
    """Lay the tab out and connect it."""
    devices = list(dict.fromkeys([AUTO, *tts_infer.available_devices(), device]))
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            files = gr.File(label=label("Audio, mel or zip files"), file_count="multiple", elem_id="batch-files")
            button = gr.Button(label("Decode all"), variant="primary", elem_id="batch")
            with gr.Accordion(label("Settings"), open=False):
                settings: list[Any] = [
                    dropdown("Vocoder", vocoders, vocoders[0], prefix="batch-"),
                    dropdown("Device", devices, device, prefix="batch-"),
                    dropdown("iSTFT method", get_args(tts_infer.MethodChoice), AUTO, prefix="batch-"),
                ]
        with gr.Column(scale=3, min_width=300):
            output = gr.File(label=label("Results as a zip"), interactive=False, elem_id="batch-output")
            view = result_view(label("The results appear here; files that fail say why."), "batch-result")
            with gr.Accordion(label("Report as JSON"), open=False):
                report = gr.JSON(show_label=False, elem_id="batch-report")
    done = button.click(batch, [files, *settings], [output, report], api_name="batch", **COMPUTE)
    done.success(draw_batch, report, view, api_name="draw_batch", api_visibility="private")
