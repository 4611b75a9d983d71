"""Settings in the page's link and in the browser: those of a link win, else those of the last visit come back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import gradio as gr

import tts_infer
from ui.session import AUTO, require_placement
from ui.settings import Settings
from ui.texts import translator

KEYS = tuple(field.name for field in fields(Settings))
# Storage may be forbidden; then nothing is remembered. `gr.BrowserState` would write later than a page may be left.
ARRIVED = """() => {
    const link = Object.fromEntries([...new URLSearchParams(location.search)].filter(([key]) => KEYS.includes(key)));
    if (Object.keys(link).length) return [link];
    try { return [JSON.parse(localStorage.getItem('tts-infer-settings')) ?? {}]; } catch { return [{}]; }
}"""
RESTORED = "() => { window.ttsInferRestored = true; }"
# What is as it was when the page was built stays out of the link. Other parts of the link stay as they are.
CHANGED = """(...values) => {
    if (!window.ttsInferRestored) return;
    const url = new URL(location.href);
    const chosen = {};
    KEYS.forEach((key, i) => {
        url.searchParams.delete(key);
        if (values[i] === FIRST[i]) return;
        url.searchParams.set(key, values[i]);
        chosen[key] = values[i];
    });
    history.replaceState(history.state, '', url);
    try { localStorage.setItem('tts-infer-settings', JSON.stringify(chosen)); } catch {}
}"""


def remember_settings(page: gr.Blocks, settings: Sequence[gr.Dropdown]) -> Any:
    """Keep the settings of the first tab; returns the event after which they are as they were.

    Args:
        page: which settings come back when it is opened.
        settings: components in the order of `Settings`.
    """
    first = [setting.value for setting in settings]
    offered = [[str(value) for _, value in setting.choices] for setting in settings]

    def restore(kept: Any, request: gr.Request) -> list[Any]:
        """The settings of the link or of the last visit; of those that are not offered here, it is said."""
        good, strange = usable(kept if isinstance(kept, dict) else {}, offered)
        if strange:
            gr.Warning(translator(request)("strange-settings", settings=", ".join(strange)))
        return [gr.update(value=good[key]) if key in good else gr.skip() for key in KEYS]

    def script(text: str) -> str:
        return text.replace("KEYS", json.dumps(KEYS)).replace("FIRST", json.dumps(first))

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    changes = [setting.change for setting in settings]
    gr.on(changes, js=script(CHANGED), inputs=list(settings), api_name="remember", **private)
    back = page.load(restore, gr.JSON(visible=False), list(settings), js=script(ARRIVED), api_name="restore", **private)
    return back.then(js=RESTORED, api_name="restored", **private)


def usable(kept: dict[str, Any], offered: Sequence[Sequence[str]]) -> tuple[dict[str, str], list[str]]:
    """Which of the kept settings this page offers, and which it does not, as `key=value`."""
    good: dict[str, str] = {}
    strange: list[str] = []
    for key, choices in zip(KEYS, offered, strict=True):
        value = kept.get(key)
        if value is None:
            continue
        if value in choices or (key == "placement" and may_be_placement(value)):
            good[key] = value
        else:
            strange.append(f"{key}={str(value)[:40]}")
    return good, strange


def may_be_placement(value: Any) -> bool:
    """Whether visitors may give this placement; whether the machine has its devices is said when it is used."""
    try:
        require_placement(str(value))
    except tts_infer.PlacementError:
        return False
    return value != AUTO
