"""The Batch tab: many files or a zip in, a zip of waveforms with a CSV of results out."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

import tts_infer
from ui.decode import dropdown
from ui.engine import AUTO, COMPUTE, TOO_LOUD, TOO_SHORT, Refine, Report, load, read_samples, shown_errors
from ui.results import clipping, duration, result_view, table
from ui.texts import Words, in_language, label, words_of

MOST_FILES = 1000
MOST_BYTES = 1_000_000_000  # unpacked: a small zip can hold a lot of nothing
_LONGEST_SUFFIX = 20  # longer than those of all inputs, and short enough for a name
COLUMNS = ("file", "output", "seconds", "log_mel_error_db", "error")
CANCELLED = "cancelled before its turn"
HINT = "The results appear here; files that fail say why."

# Sessions that want their batch to end.
_cancelled: set[str | None] = set()


def batch(
    files: list[str] | None,
    vocoder: str,
    device: str = AUTO,
    istft: tts_infer.MethodChoice = AUTO,
    refine: Refine = AUTO,
    request: gr.Request | None = None,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio recognises the parameter by this default
) -> tuple[str, Report]:
    """Decode many files: audio is copied, mels are decoded, zip files are unpacked. A broken file stops nothing.

    Cancelled on the page, it ends with what is done.

    Parameters:
        files: audio, mel or zip files
        vocoder: name of a known vocoder
        device: device of all stages; "auto" takes the best
        istft: inverse STFT method
        refine: passes that pull the output's mel to the input's; "auto" is what suits the vocoder

    Returns:
        a zip with the outputs as 16-bit WAV and results.csv, and the report: seconds, total_ms, rtfx, refine (passes
        that ran), clipped_samples, and files, the rows of results.csv: file, output, seconds, log_mel_error_db, or
        file and error
    """
    words, session = words_of(request), request.session_hash if request else None
    with tempfile.TemporaryDirectory() as folder, shown_errors(words, *(files or [])):
        progress(0, desc=words("Reading the files"))
        inputs = list(unpacked(files or (), Path(folder)))
        if not inputs:
            raise tts_infer.InputError("There are no files yet: drop audio files, mel files, or a zip of them.")
        model = load(vocoder, device, istft=istft, refine=refine)
        outputs = free_names([name for name, _ in inputs])
        manifest, made = Path(folder) / "inputs.jsonl", Path(folder) / "made"
        rows = [{"input": str(path), "output": output} for (_, path), output in zip(inputs, outputs, strict=True)]
        manifest.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

        def show(done: int, count: int, seconds: float) -> bool:
            progress((done, count), desc=words("{seconds:.1f} s of audio").format(seconds=seconds), unit=words("files"))
            return session not in _cancelled

        # floats, so that what is measured is what the vocoder gave, as on the Decode tab
        done = tts_infer.synthesize_batch(model, manifest, made, sample_format="float32", progress=show)
        problems = {output: in_language(words, problem) for output, problem in problems_of(done, outputs).items()}
        files_done = [
            row_of(model, name, path, made / output, problems.get(output))
            for (name, path), output in zip(inputs, outputs, strict=True)
        ]
        packed, clipped = pack(made, files_done)
        report: Report = {"seconds": done.seconds, "total_ms": 1e3 * done.wall_s, "rtfx": done.rtfx}
        report |= {"refine": model.refine, "clipped_samples": clipped, "files": files_done}
        return save_bytes_to_cache(packed, "results.zip", str(gr.utils.get_upload_folder())), report


def begin(request: gr.Request) -> gr.Button:
    """Let the batch that is asked for be cancelled."""
    # what came too late for the last one is not meant for it
    _cancelled.discard(request.session_hash)
    return gr.Button(interactive=True)


def cancel(request: gr.Request) -> gr.Button:
    """End the batch of this page after the files at hand."""
    _cancelled.add(request.session_hash)
    return gr.Button(interactive=False)


def end() -> gr.Button:
    """There is nothing to cancel any more."""
    return gr.Button(interactive=False)


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
                target = folder / f"{count}{path.suffix[:_LONGEST_SUFFIX]}"
                try:
                    target.write_bytes(archive.read(member))
                except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:  # RuntimeError: of a password
                    raise tts_infer.FileError(
                        f"cannot unpack {path} from {file}: {str(error) or 'it is damaged'}; pack it again, without a "
                        "password"
                    ) from None
                yield str(path), target


def free_names(names: Sequence[str]) -> list[str]:
    """A name for each output that no other has."""
    taken: list[str] = []
    for name in names:
        stem = PurePosixPath(name).stem
        numbered = (f"{stem}{number}.wav" for number in itertools.chain([""], (f"-{i}" for i in itertools.count(2))))
        taken.append(next(free for free in numbered if free.casefold() not in map(str.casefold, taken)))
    return taken


def problems_of(done: tts_infer.BatchReport, outputs: Sequence[str]) -> dict[str, str]:
    """Why outputs are not there, or empty."""
    missing = {output: CANCELLED for output in outputs if output not in done.outputs}
    return missing | {output: TOO_SHORT for output, seconds in done.outputs.items() if seconds == 0} | done.failed


def row_of(model: tts_infer.Vocoder, name: str, source: Path, output: Path, problem: str | None) -> Report:
    """What became of one file."""
    if problem is not None:
        return {"file": name, "error": problem.replace(str(source), name)}
    if tts_infer.holds_features(source):
        mel = tts_infer.read_mel(source, model.n_mels)[0]
    else:
        mel = model.mel(read_samples(source, model.sample_rate))[0].cpu()
    samples = read_samples(output, model.sample_rate)
    try:
        error = tts_infer.log_mel_error_db(mel, model.mel(samples)[0].cpu(), model.mel_config)
    except tts_infer.InputError:  # of what it takes for a user's audio
        return {"file": name, "error": TOO_LOUD}
    return {
        "file": name,
        "output": output.name,
        "seconds": samples.shape[1] / model.sample_rate,
        "log_mel_error_db": error,
    }


def pack(made: Path, rows: Sequence[Report]) -> tuple[bytes, int]:
    """The outputs, from now on in 16 bits, and results.csv as a zip; and how many samples that clipped."""
    packed, clipped = io.BytesIO(), 0
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for row in rows:
            if "output" in row:
                output = made / row["output"]
                clip = tts_infer.read_audio(output)
                clipped += tts_infer.write_audio(output, clip.samples, clip.sample_rate)
                archive.write(output, output.name)
        archive.writestr("results.csv", as_csv(rows))
    return packed.getvalue(), clipped


def as_csv(rows: Sequence[Report]) -> str:
    """The rows as CSV, with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def draw_batch(report: Report, request: gr.Request) -> str:
    """How it went, in words and as a table; what failed says why."""
    words = words_of(request)
    with shown_errors(words):
        rows = report["files"]
        failed = sum("error" in row for row in rows)
        summary = words("{done} of {count} files decoded.").format(done=len(rows) - failed, count=len(rows))
        if failed < len(rows):
            summary += " " + words("{seconds:.2f} s of audio in {time}, {rtfx:.0f} x real time;").format(
                time=duration(report), **report
            )
            summary += " " + clipping(report, words)
        return f"<p>{summary}</p>{batch_table(rows, words)}"


def nothing(request: gr.Request) -> tuple[None, None, str, gr.Button]:
    """What is shown when there is no result, and nothing to cancel."""
    return None, None, f"<p>{words_of(request)(HINT)}</p>", end()


def batch_table(rows: Sequence[Report], words: Words) -> str:
    """One row per file."""
    heads = ("File", "Output", "Seconds", "Log-mel error (dB)")
    lines = []
    for row in rows:
        if "error" in row:
            lines.append([html.escape(row["file"]), f"⚠ {html.escape(row['error'])}"])
            continue
        names = [html.escape(row[key]) for key in ("file", "output")]
        lines.append([*names, f"{row['seconds']:.2f}", f"{row['log_mel_error_db']:.2f}"])
    return f'<div class="tts-wrap">{table(words("Batch"), [words(head) for head in heads], lines, texts=2)}</div>'


def batch_tab(vocoders: Sequence[str], device: str) -> None:
    """Lay the tab out and connect it."""
    devices = list(dict.fromkeys([AUTO, *tts_infer.available_devices(), device]))
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            files = gr.File(label=label("Audio, mel or zip files"), file_count="multiple", elem_id="batch-files")
            with gr.Row():
                button = gr.Button(label("Decode all"), variant="primary", elem_id="batch")
                stop = gr.Button(label("Cancel"), interactive=False, elem_id="batch-cancel")
            with gr.Accordion(label("Settings"), open=False):
                settings: list[Any] = [
                    dropdown("Vocoder", vocoders, vocoders[0], prefix="batch-"),
                    dropdown("Device", devices, device, prefix="batch-"),
                    dropdown("iSTFT method", get_args(tts_infer.MethodChoice), AUTO, prefix="batch-"),
                    dropdown("Refine", get_args(Refine), AUTO, prefix="batch-"),
                ]
        with gr.Column(scale=3, min_width=300):
            output = gr.File(label=label("Results as a zip"), interactive=False, elem_id="batch-output")
            view = result_view(label(HINT), "batch-result")
            with gr.Accordion(label("Report as JSON"), open=False):
                report = gr.JSON(label=label("Report as JSON"), show_label=False, elem_id="batch-report")
    private: dict[str, Any] = {"outputs": stop, "api_visibility": "private"}
    button.click(begin, api_name="begin_batch", queue=False, **private)
    stop.click(cancel, api_name="cancel_batch", queue=False, **private)
    done = button.click(batch, [files, *settings], [output, report], api_name="batch", **COMPUTE)
    done.success(draw_batch, report, view, api_name="draw_batch", api_visibility="private")
    # an old result beside a new mistake would mislead
    done.failure(nothing, None, [output, report, view, stop], api_name="clear_batch", api_visibility="private")
    done.success(end, api_name="end_batch", **private)
