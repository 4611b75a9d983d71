"""The Batch tab: many files or zips in, a zip of waveforms with a CSV of results out."""

from __future__ import annotations

import csv
import html
import io
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

import tts_infer
from ui.decode import error_html, inline_error
from ui.names import free_names, named
from ui.results import STYLE, clipping, speed, table
from ui.scenes import Sound, served, write_sounds
from ui.scope import script_texts, static
from ui.session import COMPUTE, KEEP_S, Report, Result, failure, kind_of, read_input, shown_errors
from ui.settings import Settings, settings_panel, takes_settings
from ui.status import PRESSED
from ui.synthesis import run
from ui.texts import Translator, label
from ui.work import Job, Stopped, desk
from ui.zips import Packed, contents

MOST_TOTAL_S = 3600.0  # of audio in all: the zip of outputs is one file
COLUMNS = ("file", "output", "seconds", "log_mel_error_db", "notes", "error")


@takes_settings
def batch(
    files: list[str] | None,
    settings: Settings,
    request: gr.Request | None = None,
) -> tuple[str, Report, dict[str, str]]:
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
        inputs = contents(files or (), Path(folder))
        if not inputs:
            raise tts_infer.InputError(
                "There are no files yet: drop audio files, mel files, or a zip of them.", code="page-no-files"
            )
        with desk.turn(job):
            model = settings.load()
        done = Outputs()
        chosen = {"vocoder": model.name, "refine": model.refine, "settings": asdict(settings)}
        job.what, job.total = "files", len(inputs)
        for index, (packed, output) in enumerate(zip(inputs, output_names(inputs, chosen), strict=True)):
            job.done = index
            try:
                require_room(done.seconds)
                result = run_file(model, packed, job)
            except Stopped:
                done.rows.append({"file": packed.name, "error": say("cancelled")})
            except tts_infer.TTSInferError as error:
                names = {str(packed.target): packed.name, packed.source: packed.shown}
                done.rows.append({"file": packed.name, "error": say.error(error.naming(names))})
            else:
                done.add(packed.name, output, result)
        total_ms = 1e3 * (time.perf_counter() - start)
        report: Report = {"seconds": done.seconds, "total_ms": total_ms, "rtfx": 1e3 * done.seconds / total_ms}
        report |= {"refine": model.refine, "clipped_samples": done.clipped_samples, "files": done.rows}
        folder_of_all = str(gr.utils.get_upload_folder())
        return save_bytes_to_cache(done.packed(), "results.zip", folder_of_all), report, done.files


def run_file(model: tts_infer.Vocoder, packed: Packed, job: Job) -> Result:
    """Decode one file of a batch.

    Raises:
        TTSInferError: see `Packed.unpacked`, `read_input` and `run`.
        Stopped: the batch was told to stop.
    """
    if job.stopped:
        raise Stopped
    with packed.unpacked() as path:
        value = read_input(model, kind_of(path), path, desk.turns(job))
    return run(model, value, desk.turns(job))


def require_room(seconds: float) -> None:
    """Refuse a further file when there is enough.

    Raises:
        InputError: there are `MOST_TOTAL_S` of audio.
    """
    if seconds >= MOST_TOTAL_S:
        text = "the files before it have {minutes:.0f} minutes of audio, which is the limit; give fewer files at once"
        raise tts_infer.InputError(text, code="page-batch-long", minutes=seconds / 60)


class Outputs:
    """The outputs as files that the page can play, the zip of them, and the rows about them.

    The zip does not compress: that would take longer than a cancel may, and gain little for 16-bit samples.
    """

    def __init__(self) -> None:
        self.rows: list[Report] = []
        self.files: dict[str, str] = {}  # output -> path
        self.seconds, self.clipped_samples = 0.0, 0
        self._bytes = io.BytesIO()
        self._archive = zipfile.ZipFile(self._bytes, "w", zipfile.ZIP_STORED)

    def add(self, name: str, output: str, result: Result) -> None:
        """Pack an output as 16-bit WAV.

        Args:
            name: of the input.
            output: name of the output in the zip.
            result: what was decoded.
        """
        report = result.report
        self.clipped_samples += report["clipped_samples"]
        sound = Sound(output, PurePosixPath(output).name, result.waveform)
        (file,) = write_sounds([sound], report["sample_rate"])
        self._archive.write(file, output)
        self.files[output] = str(file)
        self.seconds += report["seconds"]
        figures = {key: report[key] for key in ("seconds", "log_mel_error_db", "notes")}
        self.rows.append({"file": name, "output": output, **figures})

    def packed(self) -> bytes:
        """The whole zip, with results.csv."""
        with self._archive:
            self._archive.writestr("results.csv", as_csv(self.rows))
        return self._bytes.getvalue()


def output_names(inputs: Sequence[Packed], chosen: Report) -> list[str]:
    """A name for the output of each input that no other output has, in the folder that the input has in its zip.

    Args:
        inputs: of the batch.
        chosen: vocoder, refine and settings of all.
    """
    return free_names(
        [(one.inside.parent / named(one.inside.with_suffix("").name, chosen)).as_posix() for one in inputs]
    )


def as_csv(rows: Sequence[Report]) -> str:
    """The rows as CSV, with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {"notes": "; ".join(note["text"] for note in row.get("notes", ()))})
    return text.getvalue()


def draw_batch(report: Report, files: dict[str, str] | None, request: gr.Request) -> dict[str, Any]:
    """How it went, in words and as a table; what failed says why. What is there can be played."""
    with shown_errors(request) as say:
        rows = report["files"]
        failed = sum("error" in row for row in rows)
        summary = say("batch-result", done=len(rows) - failed, count=len(rows))
        if failed < len(rows):
            summary += speed(report, say) + clipping(report, say)
        sounds = {output: served(path) for output, path in (files or {}).items()}
        return {"html": f"<p>{summary}</p>{batch_table(rows, say)}", "sounds": sounds}


def failed(request: gr.Request) -> tuple[Any, ...]:
    """What is shown after an error: no zip, no report, no sounds, no table, and the error."""
    message = failure(request)
    return (gr.skip(),) * 5 if message is None else (None, None, None, None, error_html(message))


def batch_table(rows: Sequence[Report], say: Translator) -> str:
    """One row per file."""
    heads = [say(key) for key in ("file", "output", "seconds", "log-mel-error-db")]
    lines = []
    for row in rows:
        if "error" in row:
            lines.append([html.escape(row["file"]), f"⚠ {html.escape(row['error'])}"])
            continue
        play = f'<button type="button" data-play="{html.escape(row["output"])}">▶</button>'
        names = [html.escape(row["file"]), f"{play} {html.escape(row['output'])}"]
        lines.append([*names, f"{row['seconds']:.2f}", f"{row['log_mel_error_db']:.2f}"])
        lines += [[f"⚠ {html.escape(say.note(note))}"] for note in row["notes"]]
    return f'<div class="tts-wrap">{table(say("batch"), heads, lines, texts=2)}</div>'


def batch_view() -> gr.HTML:
    """The component that shows the table and plays from it."""
    return gr.HTML(
        None,
        label=label("batch-hint"),
        html_template='<div data-batch></div><p data-hint>${label ?? ""}</p>',
        css_template=STYLE + static("batch.css"),
        js_on_load=static("players.js", "batch.js"),
        apply_default_css=False,
        padding=True,
        elem_id="batch-result",
        texts=script_texts(("play", "pause")),
    )


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
            view = batch_view()
            with gr.Accordion(label("report-json"), open=False):
                report = gr.JSON(label=label("report-json"), show_label=False, elem_id="batch-report")
    sounds = gr.State(time_to_live=KEEP_S)
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    done = button.click(
        batch,
        [files, *settings],
        [output, report, sounds],
        js=PRESSED,
        api_name="batch",
        trigger_mode="multiple",
        show_progress="hidden",
        **COMPUTE,
    )
    done.success(draw_batch, [report, sounds], view, api_name="draw_batch", **private)
    # an old result beside a new error would mislead
    done.failure(failed, None, [output, report, sounds, view, error], api_name="clear_batch", **private)
    files.change(js="() => ''", outputs=error, api_name="forget_batch_error", **private)
