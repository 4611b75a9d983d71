"""The Device tab: what this machine has, what runs where on it and why, and what an Apple GPU would make of it."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

import tts_infer
from ui.decode import dropdown
from ui.engine import AUTO, COMPUTE, Report, kept, shown_errors
from ui.results import result_view, table
from ui.texts import Words, in_language, label, words_of

FAULTS = ("missing", "complex", "float64", "syncs")
FRESH = "The self-test runs when this tab is opened."
AUDIT_HINT = (
    "Every operator that a stage asks for, judged for Apple GPUs (MPS) in each torch release: ✓ means that the release "
    "has all of them, in real numbers, without waiting for the device."
)


def self_test(device: str = AUTO, request: gr.Request | None = None) -> Report:
    """Prove and time every stage on every device again, and report on this machine.

    Vocoders that were placed by the old results are placed anew when they are next used.

    Parameters:
        device: where stages should go; "auto" takes the best

    Returns:
        versions, devices (and per dtype "fast" or why not), placement (device, method and reason of each stage),
        checks (stage, device, method, right, error, ms, tolerance, failure), vocoders ("embedded", "cached" or
        "not cached"), fallback, advice
    """
    tts_infer.clear_checks()
    kept.cache_clear()
    return examine(device, request)


def examine(device: str, request: gr.Request | None = None) -> Report:
    """The same report of what was found before, where it was."""
    with shown_errors(words_of(request)):
        return tts_infer.doctor.examine(device)


def audit(request: gr.Request | None = None) -> list[Report]:
    """Judge every operator of the stages for Apple GPUs, in each torch release.

    Returns:
        for each way to decode, stage and release: clean, and the names of operators, missing, complex, float64, syncs
    """
    with shown_errors(words_of(request)):
        return audited()


@functools.cache
def audited() -> list[Report]:
    """The audit, which is the same every time."""
    rows = [asdict(row) for row in tts_infer.doctor.audit_stages()]
    # Gradio's client takes whatever has a "path" for a file
    return [{"decode": row.pop("path"), **row} for row in rows]


def draw_report(report: Report, request: gr.Request) -> str:
    """The report as tables."""
    words = words_of(request)
    with shown_errors(words):
        advice = "".join(f"<li>{html.escape(in_language(words, line))}</li>" for line in report["advice"])
        fallback = f"PYTORCH_ENABLE_MPS_FALLBACK: {html.escape(in_language(words, report['fallback']))}"
        tables: tuple[tuple[str, Callable[[Report, Words], str]], ...] = (
            ("What runs where, and why", placement_table),
            ("Self-test on half a second of audio", checks_table),
            ("Number formats", devices_table),
            ("Known vocoders", vocoders_table),
            ("Versions", versions_table),
        )
        parts = "".join(f"<h3>{words(title)}</h3>{make(report, words)}" for title, make in tables)
        return f'<div class="tts-wrap"><ul>{advice}<li>{fallback}</li></ul>{parts}</div>'


def placement_table(report: Report, words: Words) -> str:
    """Where each stage goes, and why."""
    rows = [
        [stage, place["device"], place["method"], html.escape(in_language(words, place["reason"]))]
        for stage, place in report["placement"].items()
    ]
    heads = [words(head) for head in ("Stage", "Device", "Method", "Reason")]
    return table(words("What runs where, and why"), heads, rows, texts=4)


def checks_table(report: Report, words: Words) -> str:
    """Every stage by every method on every device: how long, and how far from the CPU."""
    rows = []
    for check in report["checks"]:
        row = [check["stage"], check["device"], check["method"]]
        if check["failure"]:
            rows.append([*row, f"⚠ {html.escape(check['failure'])}"])
            continue
        error = f"{'✓' if check['right'] else '⚠'} {check['error']:.1e}"
        rows.append([*row, f"{check['ms']:.2f}", error, f"{check['tolerance']:.0e}"])
    heads = [words(head) for head in ("Stage", "Device", "Method", "ms", "Error", "Allowed")]
    return table(words("Self-test on half a second of audio"), heads, rows, texts=3)


def devices_table(report: Report, words: Words) -> str:
    """Which number formats each device is good at."""
    formats = list(next(iter(report["devices"].values())))
    rows = [
        [device, *(html.escape(in_language(words, said)) for said in dtypes.values())]
        for device, dtypes in report["devices"].items()
    ]
    return table(words("Number formats"), [words("Device"), *formats], rows, texts=1 + len(formats))


def vocoders_table(report: Report, words: Words) -> str:
    """Which vocoders can be used without a download."""
    rows = [[html.escape(name), words(where)] for name, where in report["vocoders"].items()]
    return table(words("Known vocoders"), [words("Vocoder"), words("Weights")], rows, texts=2)


def versions_table(report: Report, words: Words) -> str:
    """What the report is about."""
    rows = [[html.escape(name), html.escape(value)] for name, value in report["versions"].items()]
    return table(words("Versions"), [words("Package"), words("Version")], rows, texts=2)


def draw_audit(rows: list[Report], request: gr.Request) -> str:
    """One row per way to decode and stage, one column per release; what is wrong, by name, in the last."""
    words = words_of(request)
    with shown_errors(words):
        releases = list(dict.fromkeys(row["release"] for row in rows))
        lines = []
        for way, stage in dict.fromkeys((row["decode"], row["stage"]) for row in rows):
            group = [row for row in rows if (row["decode"], row["stage"]) == (way, stage)]
            lines.append([f"{html.escape(way)}: {stage}", *audit_cells(group, releases, words)])
        shown = [html.escape(release.replace("(installed)", words("here"))) for release in releases]
        heads = [words("Stage"), *shown, words("Faults")]
        name = words("Operator audit for Apple GPUs")
        return f'<p>{words(AUDIT_HINT)}</p><div class="tts-wrap">{table(name, heads, lines, texts=len(heads))}</div>'


def audit_cells(group: Sequence[Report], releases: Sequence[str], words: Words) -> list[str]:
    """✓ or the number of faults in each release, and the names of all that is wrong in any of them."""
    count = {row["release"]: sum(len(row[fault]) for fault in FAULTS) for row in group}
    cells = ["✓" if count[release] == 0 else f"⚠ {count[release]}" for release in releases]
    names = {fault: list(dict.fromkeys(name for row in group for name in row[fault])) for fault in FAULTS}
    said = [f"{words(fault)}: {html.escape(', '.join(found))}" for fault, found in names.items() if found]
    return [*cells, "; ".join(said)]


def device_tab(tab: gr.Tab, device: str) -> None:
    """Lay the tab out and connect it."""
    devices = list(dict.fromkeys([AUTO, *tts_infer.available_devices(), device]))
    with gr.Row(equal_height=True):
        where = dropdown("Device", devices, device, prefix="doctor-")
        button = gr.Button(label("Run the self-test again"), variant="primary", elem_id="self-test")
    view = result_view(label(FRESH), "doctor")
    with gr.Accordion(label("Report as JSON"), open=False):
        report = gr.JSON(label=label("Report as JSON"), show_label=False, elem_id="doctor-report")
    with gr.Accordion(label("Operator audit for Apple GPUs"), open=True):
        audit_view = result_view(label("The audit takes a few seconds the first time."), "audit")
        rows = gr.JSON(label=label("Operator audit for Apple GPUs"), visible="hidden")
    private: dict[str, Any] = {"api_visibility": "private"}
    opened = tab.select(examine, where, report, api_name="examine", **private, **COMPUTE)
    opened.success(draw_report, report, view, api_name="draw_examine", **private)
    audited = opened.success(audit, None, rows, api_name="audit", **COMPUTE)
    audited.success(draw_audit, rows, audit_view, api_name="draw_audit", **private)
    for event, name in ((button.click, "doctor"), (where.select, "doctor_there")):
        visible: dict[str, Any] = {} if name == "doctor" else private
        handler = self_test if name == "doctor" else examine
        done = event(handler, where, report, api_name=name, **visible, **COMPUTE)
        done.success(draw_report, report, view, api_name=f"draw_{name}", **private)
