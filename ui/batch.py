"""The Batch tab: many files or a zip in, a zip of waveforms with a CSV of results out."""

from __future__ import annotations

import csv
import html
import io
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

import tts_infer
from ui.decode import error_html, inline_error
from ui.results import clipping, result_view, speed, table
from ui.scenes import free_names
from ui.session import COMPUTE, Report, Result, failure, kind_of, read_input, shown_errors
from ui.settings import Settings, settings_panel, takes_settings
from ui.status import PRESSED
from ui.synthesis import run
from ui.texts import Translator, label, translator
from ui.work import Job, Stopped, desk

MOST_FILES = 1000
MOST_BYTES = 1_000_000_000  # unpacked: a small zip can hold a lot of nothing
_LONGEST_SUFFIX = 20  # longer than those of all inputs, and short enough for a name
COLUMNS = ("file", "output", "seconds", "log_mel_error_db", "notes", "error")


@takes_settings
def batch(
    files: list[str] | None,
    settings: Settings,
    request: gr.Request | None = None,
) -> tuple[str, Report]:
    """Decode many files: audio is copied, mels are decoded, zip files are unpacked. Broken files stop nothing.

    When it is cancelled on the page, the zip holds the files that are done.

    Parameters:
        files: audio, mel or zip files
        settings: see `Settings`

    Returns:
        a zip with the outputs as 16-bit WAV and results.csv, and the report: seconds, total_ms, rtfx, refine (passes
        that ran), clipped_samples, and files, the rows of results.csv: file, output, seconds, log_mel_error_db, notes,
        or file and error
    """
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        shown_errors(request, *(files or []), inline=True) as say,
        desk.job(request) as job,
    ):
        inputs = list(unpacked(files or (), Path(folder)))
        if not inputs:
            raise tts_infer.InputError(
                "There are no files yet: drop audio files, mel files, or a zip of them.", code="page-no-files"
            )
        with desk.turn(job):
            model = settings.load()
        done = Outputs(Path(folder) / "output.wav")
        job.what, job.total = "files", len(inputs)
        for index, ((name, path), output) in enumerate(zip(inputs, free_names(inputs), strict=True)):
            job.done = index
            try:
                result = run_file(model, path, job)
            except Stopped:
                done.rows.append({"file": name, "error": say("cancelled")})
            except tts_infer.TTSInferError as error:
                done.rows.append({"file": name, "error": say.error(error).replace(str(path), name)})
            else:
                done.add(name, output, result)
        total_ms = 1e3 * (time.perf_counter() - start)
        report: Report = {"seconds": done.seconds, "total_ms": total_ms, "rtfx": 1e3 * done.seconds / total_ms}
        report |= {"refine": model.refine, "clipped_samples": done.clipped_samples, "files": done.rows}
        return save_bytes_to_cache(done.packed(), "results.zip", str(gr.utils.get_upload_folder())), report


def run_file(model: tts_infer.Vocoder, path: Path, job: Job) -> Result:
    """Decode one file of a batch.

    Raises:
        TTSInferError: see `read_input` and `run`.
        Stopped: the batch was told to stop.
    """
    if job.stopped:
        raise Stopped
    return run(model, read_input(model, kind_of(path), path), desk.turns(job))


class Outputs:
    """The zip of outputs, and the rows about them.

    Args:
        scratch: where an output is written before it is packed.
    """

    def __init__(self, scratch: Path) -> None:
        self.rows: list[Report] = []
        self.seconds, self.clipped_samples = 0.0, 0
        self._scratch, self._bytes = scratch, io.BytesIO()
        self._archive = zipfile.ZipFile(self._bytes, "w", zipfile.ZIP_DEFLATED)

    def add(self, name: str, output: str, result: Result) -> None:
        """Pack an output as 16-bit WAV.

        Args:
            name: of the input.
            output: name of the output in the zip.
            result: what was decoded.
        """
        report = result.report
        self.clipped_samples += tts_infer.write_audio(self._scratch, result.waveform, report["sample_rate"])
        self._archive.write(self._scratch, output)
        self.seconds += report["seconds"]
        figures = {key: report[key] for key in ("seconds", "log_mel_error_db", "notes")}
        self.rows.append({"file": name, "output": output, **figures})

    def packed(self) -> bytes:
        """The whole zip, with results.csv."""
        with self._archive:
            self._archive.writestr("results.csv", as_csv(self.rows))
        return self._bytes.getvalue()


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
            raise tts_infer.FileError(
                "cannot read {file} as a zip file; pack it again", code="page-zip", file=file
            ) from None
        with archive:
            for member in archive.infolist():
                path = PurePosixPath(member.filename)
                if member.is_dir() or path.name.startswith(".") or "__MACOSX" in path.parts:
                    continue
                count, size = count + 1, size + member.file_size
                if count > MOST_FILES or size > MOST_BYTES:
                    raise tts_infer.InputError(
                        "{file} holds more than {count} files or {megabytes} MB; split it",
                        code="page-zip-size",
                        file=file,
                        count=MOST_FILES,
                        megabytes=MOST_BYTES // 10**6,
                    )
                target = folder / f"{count}{path.suffix[:_LONGEST_SUFFIX]}"
                try:
                    target.write_bytes(archive.read(member))
                except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:  # RuntimeError: of a password
                    raise tts_infer.FileError(
                        "cannot unpack {member} from {file}: {reason}; pack it again, without a password",
                        code="page-zip-member",
                        member=str(path),
                        file=file,
                        reason=str(error) or "it is damaged",
                    ) from None
                yield str(path), target


def as_csv(rows: Sequence[Report]) -> str:
    """The rows as CSV, with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {"notes": "; ".join(note["text"] for note in row.get("notes", ()))})
    return text.getvalue()


def draw_batch(report: Report, request: gr.Request) -> str:
    """How it went, in words and as a table; what failed says why."""
    with shown_errors(request) as say:
        rows = report["files"]
        failed = sum("error" in row for row in rows)
        summary = say("batch-result", done=len(rows) - failed, count=len(rows))
        if failed < len(rows):
            summary += f" {speed(report, say)} {clipping(report, say)}"
        return f"<p>{summary}</p>{batch_table(rows, say)}"


def failed(request: gr.Request) -> tuple[Any, ...]:
    """What is shown after an error: no zip, no report, no table, and the error."""
    message = failure(request)
    if message is None:
        return (gr.skip(),) * 4
    return None, None, f"<p>{translator(request)('batch-hint')}</p>", error_html(message)


def batch_table(rows: Sequence[Report], say: Translator) -> str:
    """One row per file."""
    heads = [say(key) for key in ("file", "output", "seconds", "log-mel-error-db")]
    lines = []
    for row in rows:
        if "error" in row:
            lines.append([html.escape(row["file"]), f"⚠ {html.escape(row['error'])}"])
            continue
        names = [html.escape(row[key]) for key in ("file", "output")]
        lines.append([*names, f"{row['seconds']:.2f}", f"{row['log_mel_error_db']:.2f}"])
        lines += [[f"⚠ {html.escape(say.note(note['code'], note['text']))}"] for note in row["notes"]]
    return f'<div class="tts-wrap">{table(say("batch"), heads, lines, texts=2)}</div>'


def batch_tab(vocoders: Sequence[str], device: str) -> None:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            files = gr.File(label=label("batch-files"), file_count="multiple", elem_id="batch-files")
            button = gr.Button(label("decode-all"), variant="primary", elem_id="batch")
            error = inline_error("batch-error")
            settings = settings_panel(vocoders, device, prefix="batch-")
        with gr.Column(scale=3, min_width=300):
            output = gr.File(label=label("results-zip"), interactive=False, elem_id="batch-output")
            view = result_view(label("batch-hint"), "batch-result")
            with gr.Accordion(label("report-json"), open=False):
                report = gr.JSON(label=label("report-json"), show_label=False, elem_id="batch-report")
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    done = button.click(
        batch,
        [files, *settings],
        [output, report],
        js=PRESSED,
        api_name="batch",
        trigger_mode="multiple",
        show_progress="hidden",
        **COMPUTE,
    )
    done.success(draw_batch, report, view, api_name="draw_batch", **private)
    # an old result beside a new error would mislead
    done.failure(failed, None, [output, report, view, error], api_name="clear_batch", **private)
    files.change(js="() => ''", outputs=error, api_name="forget_batch_error", **private)
