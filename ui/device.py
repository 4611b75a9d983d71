"""The Device tab: what this machine has, where each stage runs and why, and an audit for Apple GPUs."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

import tts_infer
from ui.results import result_view, table
from ui.session import AUTO, COMPUTE, KEEP_S, Report, kept, shown_errors
from ui.settings import advise, devices, dropdown
from ui.texts import Translator, label
from ui.work import desk

FAULTS = ("missing", "complex", "float64", "syncs")
_audit: list[Report] = []
# Where the settings are that the advice has changed.
TO_DECODE = "() => { document.querySelector('#tab-decode-button').click(); }"


def self_test(device: str = AUTO, request: gr.Request | None = None) -> tuple[Report, Report]:
    """Check and time every stage on every device again, and report on this machine.

    A vocoder that was placed by the old results is placed again when it is next used.

    Parameters:
        device: where stages should go; "auto" takes the best

    Returns:
        versions, devices (and per dtype "fast" or why not), placement (device, engine, method and reason of each
        stage), checks (stage, device, engine, method, passed, error, ms, tolerance, failure), vocoders ("embedded",
        "cached" or "not cached"), fallback, advice
    """
    tts_infer.clear_checks()
    kept.cache_clear()
    return examine(device, request)


def examine(device: str, request: gr.Request | None = None) -> tuple[Report, Report]:
    """The same report, from earlier results where there are some: as JSON, and with the codes of its sentences."""
    with shown_errors(request), desk.job(request) as job:
        job.what = "examining"
        report = tts_infer.doctor.examine(device, turn=desk.turns(job))
        return report, report


def audit(request: gr.Request | None = None) -> list[Report]:
    """Judge every operator of the stages for Apple GPUs, in each torch release.

    Returns:
        for each way to decode, stage and release: clean, and the names of operators, missing, complex, float64, syncs
    """
    with shown_errors(request), desk.job(request) as job:
        job.what = "examining"
        if not _audit:  # it is the same every time
            found = tts_infer.doctor.audit_stages(desk.turns(job))
            # Gradio's client takes every dict with a "path" for a file
            _audit[:] = [{"decode": row.pop("path"), **row} for row in map(asdict, found)]
        return _audit


def draw_report(report: Report, request: gr.Request) -> str:
    """The report as tables."""
    with shown_errors(request) as say:
        advice = "".join(f"<li>{html.escape(say.sentence(line))}</li>" for line in report["advice"])
        fallback = f"PYTORCH_ENABLE_MPS_FALLBACK: {html.escape(say.sentence(report['fallback']))}"
        tables: tuple[tuple[str, Callable[[Report, Translator, str], str]], ...] = (
            ("placement-table", placement_table),
            ("checks-table", checks_table),
            ("devices-table", devices_table),
            ("vocoders-table", vocoders_table),
            ("versions-table", versions_table),
        )
        parts = "".join(f"<h3>{say(name)}</h3>{make(report, say, say(name))}" for name, make in tables)
        return f'<div class="tts-wrap"><ul>{advice}<li>{fallback}</li></ul>{parts}</div>'


def placement_table(report: Report, say: Translator, name: str) -> str:
    """Where each stage goes, and why."""
    rows = [
        [stage, place["device"], html.escape(say.sentence(place["method"])), html.escape(say.sentence(place["reason"]))]
        for stage, place in report["placement"].items()
    ]
    return table(name, [say(head) for head in ("stage", "device", "method", "reason")], rows, texts=4)


def checks_table(report: Report, say: Translator, name: str) -> str:
    """Every stage by every method on every device: how long, and how far from the CPU."""
    rows = []
    for check in report["checks"]:
        row = [check["stage"], check["device"], check["method"]]
        if check["failure"]:
            rows.append([*row, f"⚠ {html.escape(say.sentence(check['failure']))}"])
            continue
        error = f"{'✓' if check['passed'] else '⚠'} {check['error']:.1e}"
        rows.append([*row, f"{check['ms']:.2f}", error, f"{check['tolerance']:.0e}"])
    heads = [say(head) for head in ("stage", "device", "method", "ms", "error", "allowed")]
    return table(name, heads, rows, texts=3)


def devices_table(report: Report, say: Translator, name: str) -> str:
    """Which number formats each device is good at."""
    formats = list(next(iter(report["devices"].values())))
    rows = [
        [device, *(html.escape(say.sentence(said)) for said in dtypes.values())]
        for device, dtypes in report["devices"].items()
    ]
    return table(name, [say("device"), *formats], rows, texts=1 + len(formats))


def vocoders_table(report: Report, say: Translator, name: str) -> str:
    """Which vocoders can be used without a download."""
    rows = [[html.escape(vocoder), say.phrase(where)] for vocoder, where in report["vocoders"].items()]
    return table(name, [say("vocoder"), say("weights")], rows, texts=2)


def versions_table(report: Report, say: Translator, name: str) -> str:
    """What the report is about."""
    rows = [[html.escape(package), html.escape(say.phrase(value))] for package, value in report["versions"].items()]
    return table(name, [say("package"), say("version")], rows, texts=2)


def draw_audit(rows: list[Report], request: gr.Request) -> str:
    """One row per stage of each way to decode, one column per release, and the names of what is wrong."""
    with shown_errors(request) as say:
        releases = list(dict.fromkeys(row["release"] for row in rows))
        lines = []
        for way, stage in dict.fromkeys((row["decode"], row["stage"]) for row in rows):
            group = [row for row in rows if (row["decode"], row["stage"]) == (way, stage)]
            lines.append([f"{html.escape(way)}: {stage}", *audit_cells(group, releases, say)])
        shown = [html.escape(release.replace("(installed)", say("here"))) for release in releases]
        heads = [say("stage"), *shown, say("faults")]
        drawn = table(say("audit"), heads, lines, texts=len(heads))
        return f'<p>{say("audit-hint")}</p><div class="tts-wrap">{drawn}</div>'


def audit_cells(group: Sequence[Report], releases: Sequence[str], say: Translator) -> list[str]:
    """✓ or the number of faults in each release, and the names of all that is wrong in any of them."""
    count = {row["release"]: sum(len(row[fault]) for fault in FAULTS) for row in group}
    cells = ["✓" if count[release] == 0 else f"⚠ {count[release]}" for release in releases]
    names = {fault: list(dict.fromkeys(name for row in group for name in row[fault])) for fault in FAULTS}
    said = [f"{say(fault)}: {html.escape(', '.join(found))}" for fault, found in names.items() if found]
    return [*cells, "; ".join(said)]


def device_tab(tab: gr.Tab, device: str, settings: Sequence[gr.Dropdown]) -> None:
    """Lay the tab out and connect it.

    Args:
        tab: when it is opened, the self-test runs.
        device: the device chosen at first.
        settings: of the Decode tab, for which the advice is.
    """
    with gr.Row():
        where = dropdown("device", devices(device), device, prefix="doctor-")
        with gr.Column(min_width=200):
            button = gr.Button(label("self-test"), variant="primary", elem_id="self-test")
            advised = gr.Button(label("use-advice"), elem_id="doctor-use-advice")
    vocoder, *others, _, dtype = settings
    applied = advised.click(advise, [vocoder, where], [*others, dtype], api_name="doctor_advise",
                            api_visibility="private", **COMPUTE)  # fmt: skip
    applied.success(js=TO_DECODE, api_name="to_decode", api_visibility="private")
    view = result_view(label("device-hint"), "doctor")
    with gr.Accordion(label("report-json"), open=False):
        report = gr.JSON(label=label("report-json"), show_label=False, elem_id="doctor-report")
    found = gr.State(time_to_live=KEEP_S)
    with gr.Accordion(label("audit"), open=True):
        audit_view = result_view(label("audit-waiting"), "audit")
        rows = gr.JSON(label=label("audit"), visible="hidden")
    private: dict[str, Any] = {"api_visibility": "private"}
    opened = tab.select(examine, where, [report, found], api_name="examine", **private, **COMPUTE)
    opened.success(draw_report, found, view, api_name="draw_examine", **private)
    audited = opened.success(audit, None, rows, api_name="audit", **COMPUTE)
    audited.success(draw_audit, rows, audit_view, api_name="draw_audit", **private)
    for event, name in ((button.click, "doctor"), (where.select, "doctor_there")):
        visible: dict[str, Any] = {} if name == "doctor" else private
        handler = self_test if name == "doctor" else examine
        done = event(handler, where, [report, found], api_name=name, **visible, **COMPUTE)
        done.success(draw_report, found, view, api_name=f"draw_{name}", **private)
