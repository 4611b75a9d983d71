"""The line that says what runs for a page, on every tab, and stops it."""

from __future__ import annotations

from typing import Any, get_args

import gradio as gr

from ui.scope import script_texts, static
from ui.work import What, desk

KEYS = (*get_args(What), "ahead", "left", "cancel", "was-cancelled", "no-answer")
# Pressing a button again, or another one, ends what runs for the page. Programs do not run this.
PRESSED = "async (...values) => { await window.ttsInferStop?.(); return values; }"


async def session_of(request: gr.Request) -> str | None:
    """The page that calls a server function; Gradio gives such functions the bare request."""
    body = await request.json()
    session: str | None = body.get("session_hash")
    return session


async def show_jobs(data: Any, request: gr.Request) -> list[dict[str, Any]]:
    """What runs for a page; see `Desk.seen_by`."""
    return desk.seen_by(await session_of(request))


async def stop_jobs(data: Any, request: gr.Request) -> list[dict[str, Any]]:
    """End what runs for a page."""
    session = await session_of(request)
    desk.stop(session)
    return desk.seen_by(session)


def left(request: gr.Request) -> None:
    """A page was closed or loaded again: nobody waits for its jobs."""
    desk.stop(request.session_hash)


def status_line() -> gr.HTML:
    """The component."""
    return gr.HTML(
        None,
        html_template='<div class="tts-status" role="status" aria-live="polite" hidden>'
        "<i></i><span></span> <button type='button'></button></div>",
        css_template=static("status.css"),
        js_on_load=static("formats.js", "names.js", "status.js"),
        server_functions=[show_jobs, stop_jobs],
        apply_default_css=False,
        elem_id="status",
        texts=script_texts(KEYS),
    )


def account() -> gr.HTML:
    """The visitor's name and the way out, where the page asks for a password."""
    return gr.HTML(
        None,
        html_template='<p class="account" hidden></p>',
        js_on_load=static("account.js"),
        apply_default_css=False,
        elem_id="account",
        texts=script_texts(("log-out",)),
    )
