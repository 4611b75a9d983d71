"""The settings that all tabs share: what they are, how they are chosen, and how an endpoint takes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

import tts_infer
from ui.session import AUTO, Refine, load
from ui.texts import label


@dataclass(frozen=True)
class Settings:
    """What a visitor chooses besides the input.

    Attributes:
        vocoder: name of a known vocoder; a mel must be in its convention
        device: device of every stage that `placement` does not name; "auto" takes the best
        placement: where each stage runs: "auto", a named placement, or stage=device[/engine][/method],...
        istft: inverse STFT method
        refine: passes that bring the output's mel closer to the input's; "auto" is the number that suits the vocoder
    """

    vocoder: str
    device: str = AUTO
    placement: str = AUTO
    istft: tts_infer.MethodChoice = AUTO
    refine: Refine = AUTO

    def load(self) -> tts_infer.Vocoder:
        """The vocoder, placed as chosen; see `load`."""
        return load(self.vocoder, self.device, self.placement, self.istft, refine=self.refine)


def takes_settings(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Make an endpoint of a handler that has a parameter `settings`.

    Gradio passes and documents one parameter for each component. So the endpoint has the fields of `Settings` in place
    of `settings`, in its signature and in its docstring.
    """
    fields = inspect.signature(Settings, eval_str=True).parameters
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(handler, eval_str=True).parameters.values():
        flat += fields.values() if parameter.name == "settings" else [parameter]
    signature = inspect.Signature(flat)

    def call(*args: Any, **kwargs: Any) -> Any:
        values = signature.bind(*args, **kwargs).arguments
        chosen = {name: values.pop(name) for name in fields if name in values}
        return handler(**values, settings=Settings(**chosen))

    def generate(*args: Any, **kwargs: Any) -> Any:  # Gradio streams what it recognises as a generator function
        yield from call(*args, **kwargs)

    endpoint = functools.wraps(handler)(generate if inspect.isgeneratorfunction(handler) else call)
    shown: Any = endpoint
    shown.__signature__ = signature
    shown.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    described = (inspect.getdoc(Settings) or "").partition("Attributes:\n")[2]
    shown.__doc__ = (inspect.getdoc(handler) or "").replace("    settings: see `Settings`", described)
    return endpoint


def settings_panel(vocoders: Sequence[str], device: str, prefix: str = "") -> list[gr.Dropdown]:
    """The settings as dropdowns, in the order of the fields of `Settings`."""
    with gr.Accordion(label("settings"), open=False, elem_id=f"{prefix}settings"):
        with gr.Row():
            vocoder = dropdown("vocoder", vocoders, vocoders[0], prefix)
            where = dropdown("device", devices(device), device, prefix)
        placement = dropdown("placement", usable_placements(), AUTO, prefix, info="placement-hint", free=True)
        with gr.Row():
            istft = dropdown("istft-method", get_args(tts_infer.MethodChoice), AUTO, prefix)
            refine = dropdown("refine", get_args(Refine), AUTO, prefix)
        gr.Markdown(label("refine-hint"))
    return [vocoder, where, placement, istft, refine]


def dropdown(
    key: str,
    choices: Sequence[str],
    value: str | Sequence[str],
    prefix: str = "",
    *,
    info: str | None = None,
    free: bool = False,
) -> gr.Dropdown:
    """A labelled choice; its element id is prefix + key.

    Args:
        key: of the label.
        choices, value: the choices, and the one that is chosen at first; of a list of values, several may be chosen.
        prefix: of the element id.
        info: key of a text under the label.
        free: whether visitors may write another value.
    """
    return gr.Dropdown(
        list(choices),
        value=value if isinstance(value, str) else list(value),
        multiselect=not isinstance(value, str),
        allow_custom_value=free,
        label=label(key),
        info=label(info) if info else None,
        min_width=160,
        elem_id=prefix + key,
    )


def devices(device: str) -> list[str]:
    """The devices to choose from."""
    return list(dict.fromkeys([AUTO, *tts_infer.available_devices(), device]))


def usable_placements() -> list[str]:
    """ "auto", and those named placements that this machine can run."""
    names = [AUTO]
    for name in tts_infer.named_placements():
        try:
            tts_infer.make_placement(name)
        except tts_infer.PlacementError:
            continue
        names.append(name)
    return names
