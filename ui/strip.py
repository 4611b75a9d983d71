"""The strip of a page's last results: each with its settings and its error, to be played or removed; all as a zip."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import gradio as gr

import tts_infer
from ui.history import History, Rows, packed, rows_of
from ui.scenes import facts_of
from ui.scope import script_texts, static
from ui.session import Report, shown_errors
from ui.texts import Translator, label

SAVE = """(file) => {
    Object.assign(document.createElement('a'), { href: file.url, download: file.orig_name }).click();
}"""
KEPT = """() => {
    try { return [JSON.parse(localStorage.getItem('tts-infer-%s')) ?? []]; } catch { return [[]]; }
}"""


class Strip:
    """The component with its button.

    Args:
        page: of the strip.
        history: whose results these are.
        result: element id of the component that shows a result.
        opened: gives the value of that component.
        shown: that component, the report, and the name of the scene.
        api_name: of the endpoint that gives all results as a zip.
    """

    def __init__(
        self,
        page: gr.Blocks,
        history: History,
        result: str,
        opened: Callable[[str | None, gr.Request], Any],
        shown: tuple[gr.HTML, gr.JSON, gr.State],
        api_name: str,
    ) -> None:
        self._history, self._opened = history, opened
        looks: dict[str, Any] = {"css_template": static("history.css"), "apply_default_css": False}
        texts = script_texts(("pause",))
        cards = gr.HTML(
            "", js_on_load=static("history.js"), elem_id=f"{result}-history", result=result, texts=texts, **looks
        )
        every = gr.Button(label("all-as-zip"), size="sm", visible=False, elem_id=f"{result}-zip")
        file, rows, stored = gr.File(visible=False), gr.JSON(visible=False), gr.JSON(visible=False)
        self._private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self._parts = [cards, every]
        cards.select(self.reopen, None, list(shown), api_name=f"reopen_{api_name}", **self._private)
        cards.delete(self.remove, None, self._parts, api_name=f"remove_{api_name}", **self._private)
        done = every.click(self.results, None, [file, rows], api_name=api_name, show_progress="hidden")
        done.success(js=SAVE, inputs=file, api_name=f"save_{api_name}", **self._private)
        page.load(self.adopt, stored, self._parts, js=KEPT % result, api_name=f"adopt_{api_name}", **self._private)

    def follow(self, made: Any, name: str) -> None:
        """Draw the strip anew after an event that makes results; its name."""
        made.success(self.drawn, None, self._parts, api_name=f"strip_{name}", **self._private)

    def drawn(self, request: gr.Request) -> tuple[str, Any]:
        """The strip, and the button if there is something to pack."""
        with shown_errors(request) as say:
            results = self._history.of(request)
            return draw_strip(results, say), gr.update(visible=bool(results))

    def reopen(self, request: gr.Request, event: gr.EventData) -> tuple[Any, Any, Any]:
        """An earlier result, shown again."""
        with shown_errors(request):
            return self._opened(event.scene, request), facts_of(event.scene)["report"], event.scene

    def adopt(self, scenes: Any, request: gr.Request) -> tuple[str, Any]:
        """The strip of the same browser before the page was loaded again. Nobody can guess the name of a scene."""
        for scene in reversed(scenes if isinstance(scenes, list) else []):
            self._history.add(request, str(scene))
        return self.drawn(request)

    def remove(self, request: gr.Request, event: gr.EventData) -> tuple[str, Any]:
        """The strip without a result."""
        self._history.remove(request, str(event.scene))
        return self.drawn(request)

    def results(self, request: gr.Request) -> tuple[str, Rows]:
        """The last ten results of this page, or of this client, as a zip.

        Returns:
            a zip of the outputs as 16-bit WAV and results.csv, and its rows: file, settings, seconds, total_ms,
            log_mel_error_db
        """
        with shown_errors(request):
            found = list(self._history.of(request).values())
            if not found:
                raise tts_infer.InputError("There are no results yet: make one first.", code="page-no-results")
            listed = rows_of(found)
            return packed(found, listed), listed


def draw_strip(results: dict[str, Report], say: Translator) -> str:
    """The strip as HTML."""
    cards = "".join(
        f'<li data-scene="{scene}"><b>{html.escape(row["file"])}</b><span>{html.escape(row["settings"])}</span>'
        f"<span>{_error(row, say)}</span><span>"
        f'<button type="button" data-act="select">{say("play")}</button> '
        f'<button type="button" data-act="delete">{say("remove")}</button></span></li>'
        for scene, row in zip(results, rows_of(list(results.values())), strict=True)
    )
    return f"<h3>{say('last-results')}</h3><ol>{cards}</ol>" if cards else ""


def _error(row: dict[str, Any], say: Translator) -> str:
    error = row["log_mel_error_db"]
    return f"{row['seconds']:.1f} s" + ("" if error is None else f" · {say('error')} {error:.2f} dB")
