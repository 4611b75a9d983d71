"""The settings that all tabs share: what they are, how they are chosen, and how an endpoint takes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

import tts_infer
from ui.card import card, draw_card, facts
from ui.session import AUTO, COMPUTE, DType, Refine, load, place_of, shown_errors
from ui.texts import label
from ui.work import desk

PRESETS: dict[str, Refine] = {"fast": "0", "balanced": "16", "best": "24"}


@dataclass(frozen=True)
class Settings:
    """What a visitor chooses besides the input.

    Attributes:
        vocoder: name of a known vocoder; a mel must be in its convention
        device: device of every stage that `placement` does not name; "auto" takes the best
        placement: where each stage runs: "auto", a named placement, or stage=device[/engine][/method],...
        istft: inverse STFT method
        refine: passes that bring the output's mel closer to the input's; "auto" is the number that suits the vocoder
        dtype: number format of matrix products; "auto" is bfloat16 where it was measured to be faster, else float32
    """

    vocoder: str
    device: str = AUTO
    placement: str = AUTO
    istft: tts_infer.MethodChoice = AUTO
    refine: Refine = AUTO
    dtype: DType = "float32"

    def load(self) -> tts_infer.Vocoder:
        """The vocoder, placed as chosen; see `load`."""
        return load(self.vocoder, self.device, self.placement, self.istft, self.dtype, self.refine)


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
    """The settings as dropdowns, in the order of the fields of `Settings`: four in sight, the rest for experts."""
    vocoder = dropdown("vocoder", vocoders, vocoders[0], prefix)
    about = card(f"{prefix}card")
    choices = [(label(name), passes) for name, passes in PRESETS.items()]
    preset = gr.Radio(choices, label=label("preset"), info=label("preset-hint"), elem_id=f"{prefix}preset")
    placement = dropdown("placement", usable_placements(), AUTO, prefix, info="placement-hint", free=True)
    with gr.Accordion(label("expert"), open=False, elem_id=f"{prefix}settings"):
        refine = dropdown("refine", get_args(Refine), AUTO, prefix, info="refine-hint")
        where = dropdown("device", devices(device), device, prefix, info="device-info")
        istft = dropdown("istft-method", get_args(tts_infer.MethodChoice), AUTO, prefix, info="istft-hint")
        dtype = dropdown("number-format", [AUTO, *usable_dtypes()], "float32", prefix, info="dtype-hint")
        advised = gr.Button(label("use-advice"), size="sm", elem_id=f"{prefix}use-advice")
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    # when the page is opened, and at each change
    gr.on(None, show_vocoder, [vocoder, refine], [about, preset], api_name=f"{prefix}show_vocoder", **private)
    preset.input(js="(passes) => passes", inputs=preset, outputs=refine, api_name=f"{prefix}preset", **private)
    advised.click(advise, [vocoder, where], [where, placement, istft, dtype], api_name=f"{prefix}advise",
                  api_visibility="private" if prefix else "public", show_progress="hidden", **COMPUTE)  # fmt: skip
    return [vocoder, where, placement, istft, refine, dtype]


def show_vocoder(vocoder: str, refine: str, request: gr.Request) -> tuple[str, Any]:
    """The card of a vocoder, and the preset that is chosen with `refine`; one that cannot refine has none to choose."""
    with shown_errors(request) as say:
        found = facts(vocoder)
        passes = found["refine"] if refine == AUTO else refine
        chosen = str(passes) if str(passes) in PRESETS.values() else None
        can = found["stages"] is None or "refine" in found["stages"]
        return draw_card(vocoder, found, say), gr.update(value=chosen, interactive=can)


def advise(vocoder: str, device: str = AUTO, request: gr.Request | None = None) -> tuple[str, str, str, str]:
    """What suits a vocoder on this machine.

    Parameters:
        vocoder: name of a known vocoder
        device: the device of all stages; "auto" is the best

    Returns:
        device, placement, istft and dtype, as /synthesize takes them. What is measured is kept.
    """
    with shown_errors(request), desk.job(request) as job, desk.turn(job):
        advice = tts_infer.doctor.advise(device, place_of(vocoder))
        return device, AUTO, AUTO, advice["dtype"]


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


def usable_dtypes() -> list[str]:
    """The number formats that some device of this machine is good at."""
    here = tts_infer.available_devices()
    return [dtype for dtype in get_args(tts_infer.DTypeName) if any(good_at(device, dtype) for device in here)]


def good_at(device: str, dtype: tts_infer.DTypeName) -> bool:
    """Whether a device computes fast and completely in a number format."""
    try:
        tts_infer.make_placement(device=device, dtype=dtype, check=False)
    except tts_infer.PlacementError:
        return False
    return True
