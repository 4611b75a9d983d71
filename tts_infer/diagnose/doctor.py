"""The `doctor` command: devices and versions of this machine, where each stage runs and why, and the operator audit."""

from __future__ import annotations

import math
import os
import platform
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby, product
from typing import Any, get_args

import torch

from tts_infer.arguments import checked
from tts_infer.config import known_vocoders
from tts_infer.devices import CPU, DTYPES, available_devices, device_lock, dtype_refusal, resolve_device
from tts_infer.diagnose.audit import StageAudit, audit, installed_table, official_path, our_paths, shipped_tables
from tts_infer.engines import ENGINES, unusable_reason
from tts_infer.engines.cuda_graphs import unsupported_reason
from tts_infer.frontends import FRONTENDS
from tts_infer.runtime.placement import Placement, make_placement
from tts_infer.runtime.precision import best_dtype
from tts_infer.runtime.selftest import Size, StageCheck, StageTrial
from tts_infer.sentences import Sentence, Several
from tts_infer.stages import Stage
from tts_infer.vocoders import family_of
from tts_infer.vocoders.checkpoint import DEFAULT_VOCODER, load_model, resolve
from tts_infer.vocoders.hub import where

FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
Turn = Callable[[], AbstractContextManager[None]]  # one measurement is made inside of it


@checked()
def examine(
    device: str | torch.device = "auto", vocoder: str = DEFAULT_VOCODER, turn: Turn = nullcontext
) -> dict[str, Any]:
    """Everything that `doctor` reports, as values for JSON.

    Args:
        device: the device for the stages, or "auto".
        vocoder: the vocoder to check, as for `load_vocoder`.
        turn: for programs in which others compute, too.

    Raises:
        PlacementError: this machine has no such device.
        VocoderNotFoundError, ConfigError, CheckpointError: see `load_vocoder`.
    """
    resolve_device(device)
    model = load_model(resolve(vocoder))
    stages = family_of(model).stages(model)
    checks = [_as_json(_checked(trial, turn)) for trial in _trials(stages)]
    speeds = _speeds(stages, turn)
    with turn(), warnings.catch_warnings(record=True) as caught:  # from the measurements before
        warnings.simplefilter("always")
        placement = make_placement(device=device, stages=stages)
        dtype = best_dtype(stages, resolve_device(device))
    report: dict[str, Any] = {
        "versions": _versions(),
        "devices": {name: _dtypes(torch.device(name)) for name in available_devices()},
        "graphs": {name: unsupported_reason(resolve_device(name)) or "right" for name in available_devices()[1:]},
        "placement": _places(placement),
        "checks": checks,
        "speed": speeds,
        "dtype": dict(zip(("best", "reason"), dtype, strict=True)),
        "frontends": {name: [voice.name for voice in front_end.voices] for name, front_end in FRONTENDS.items()},
        "vocoders": {name: where(known) for name, known in known_vocoders().items()},
        "fallback": fallback_report(os.environ),
    }
    report["advice"] = [_said(warning.message) for warning in caught] + _advice(report)
    return report


def advise(device: str = "auto", vocoder: str = DEFAULT_VOCODER) -> dict[str, str]:
    """The device and the number format (`dtype`) that suit a vocoder here, and the `reason`.

    Args:
        device, vocoder: as for `examine`.

    Raises:
        PlacementError, VocoderNotFoundError, ConfigError, CheckpointError: as `examine`.
    """
    where = resolve_device(device)
    model = load_model(resolve(vocoder))
    dtype, reason = best_dtype(family_of(model).stages(model), where)
    return {"device": str(where), "dtype": dtype, "reason": reason}


def _checked(trial: StageTrial, turn: Turn) -> StageCheck:
    with turn():
        return trial.check()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("tts-infer", "torch", "numpy", "gradio", "huggingface_hub"):
        try:
            versions[package] = torch.__version__ if package == "torch" else version(package)
        except PackageNotFoundError:
            versions[package] = "source tree" if package == "tts-infer" else "not installed"
    import soundfile

    return {**versions, "libsndfile": soundfile.__libsndfile_version__}


def _dtypes(device: torch.device) -> dict[str, str]:
    """dtype -> "fast", or the reason why it is not."""
    return {name: dtype_refusal(device, name) or "fast" for name in DTYPES}


def _places(placement: Placement) -> dict[str, dict[str, Any]]:
    """Stage, or "short" for what runs short signals -> where, how and why."""
    rows: dict[str, dict[str, Any]] = {}
    for stage, place in placement.items():
        how = {"engine": place.engine, "method": place.method or place.engine}
        rows[stage] = {"device": str(place.device), **how, "reason": place.reason}
    if (short := placement.short) is not None:
        frames = Sentence("to {frames}", code="short-to", frames=short.frames)
        rows["short"] = {"device": str(CPU), "engine": short.engine, "method": frames, "reason": short.reason}
    return rows


def _trials(stages: Sequence[Stage]) -> list[StageTrial]:
    """All combinations of stage, device, engine and method that can run here."""
    return [
        StageTrial(stage, device, name, method)
        for stage in stages
        for device in map(resolve_device, available_devices())
        for name in ENGINES
        if unusable_reason(name, stage, device, "float32") is None and ENGINES[name].examined
        for method in stage.methods or ("",)
    ]


def _speeds(stages: Sequence[Stage], turn: Turn) -> list[dict[str, Any]]:
    """Milliseconds of every network on the CPU, by every engine and precision, on few frames and on many."""
    rows = []
    for stage in (stage for stage in stages if stage.half):
        for name, dtype in product(ENGINES, DTYPES):
            usable = unusable_reason(name, stage, CPU, dtype) is None and dtype_refusal(CPU, dtype) is None
            if usable and ENGINES[name].examined:
                trial = StageTrial(stage, CPU, name, "", dtype)
                times = {"usual": _checked(trial, turn).ms}  # first: the others run what it has prepared
                times |= {size: _checked(trial.on(size), turn).ms for size in get_args(Size) if size not in times}
                rows.append({"stage": stage.name, "engine": name, "dtype": dtype, **times})
    return rows


def _as_json(check: StageCheck) -> dict[str, Any]:
    finite = {name: x if math.isfinite(x) else None for name, x in (("error", check.error), ("ms", check.ms))}
    about: dict[str, Any] = {"stage": check.stage, "device": str(check.device), "engine": check.engine}
    about |= {"method": check.method or check.engine, "passed": check.passed}
    return {**about, **finite, "tolerance": check.tolerance, "failure": check.failure}


def fallback_report(environment: Mapping[str, str]) -> Sentence:
    """Whether the CPU fallback of torch for MPS is set, and whether it is in effect.

    torch reads the variable once, at start. If it is set later or misspelt, it has no effect. The test is an operator
    that no release has on MPS.
    """
    misspelt = [name for name in environment if name.endswith("_MPS_FALLBACK") and name != FALLBACK]
    said = Sentence("not set", code="fallback-unset")
    if FALLBACK in environment:
        said = Sentence("set to {value!r}", code="fallback-set", value=environment[FALLBACK])
    if misspelt:
        text = "{said}; {names:, } is misspelt, and ignored"
        said = Sentence(text, code="fallback-misspelt", said=said, names=Several(misspelt))
    if FALLBACK not in environment:
        return said
    if not any(name.startswith("mps") for name in available_devices()):
        return Sentence("{said}; no effect, since this machine has no MPS device", code="fallback-no-mps", said=said)
    device = resolve_device("mps")
    try:
        with device_lock(device), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the fallback
            torch.geqrf(torch.eye(2, device=device))
    except NotImplementedError:
        return Sentence("{said}; not in effect: it must be 1 before Python starts", code="fallback-late", said=said)
    return Sentence("{said}; in effect", code="fallback-in-effect", said=said)


def _said(warning: Warning | str) -> str:
    """The text of a warning, with its code if it has one."""
    said = warning if isinstance(warning, str) else warning.args[0]
    return said if isinstance(said, str) else str(warning)


def _advice(report: dict[str, Any]) -> list[Sentence]:
    advice = []
    if len(report["devices"]) == 1:
        advice.append(Sentence("no accelerator here: everything runs on the CPU", code="advice-cpu"))
    if report["dtype"]["best"] == "bfloat16":
        text = "--dtype bfloat16 is faster here, a little less exact ({reason})"
        advice.append(Sentence(text, code="advice-bfloat16", reason=report["dtype"]["reason"]))
    text = "{stage} by {method} is wrong on {device}: update torch and the system"
    for check in (one for one in report["checks"] if not one["passed"]):
        about = {key: check[key] for key in ("stage", "method", "device")}
        advice.append(Sentence(text, code="advice-wrong", **about))
    if FALLBACK in os.environ or report["fallback"].code == "fallback-misspelt":
        text = "nothing here needs {variable}; leave it unset, so that slow fallbacks show"
        advice.append(Sentence(text, code="advice-fallback", variable=FALLBACK))
    missing = [name for name, where in report["vocoders"].items() if where == "not cached"]
    if missing:
        text = "not in the Hub cache, so a first use downloads: {names:, }"
        advice.append(Sentence(text, code="advice-download", names=Several(missing)))
    return advice


def report_text(report: dict[str, Any]) -> str:
    """The report as a page of text."""
    lines = [", ".join(f"{name} {value}" for name, value in report["versions"].items())]
    for device, dtypes in report["devices"].items():
        lines.append(f"{device}: " + ", ".join(f"{name} {said}" for name, said in dtypes.items()))
    lines += [f"{device}: graphs for short inputs: {said}" for device, said in report["graphs"].items()]
    lines += ["", f"{'stage':<10}{'device':<10}{'method':<10}why"]
    for stage, place in report["placement"].items():
        lines.append(f"{stage:<10}{place['device']:<10}{place['method']:<10}{place['reason']}")
    lines += [
        "",
        f"{'check':<10}{'device':<10}{'method':<10}{'ms':>8}{'error':>10}{'allowed':>10}   half a second of audio",
    ]
    for c in report["checks"]:
        lines.append(f"{c['stage']:<10}{c['device']:<10}{c['method']:<10}" + _figures(c))
    lines += [
        "",
        f"{'network':<10}{'engine':<14}{'dtype':<10}" + "".join(f"{size + ' ms':>10}" for size in get_args(Size)),
    ]
    for row in report["speed"]:
        times = "".join(f"{row[size]:>10.2f}" for size in get_args(Size))
        lines.append(f"{row['stage']:<10}{row['engine']:<14}{row['dtype']:<10}{times}")
    lines += [f"--dtype auto: {report['dtype']['best']} ({report['dtype']['reason']})"]
    lines += ["", *(f"{name}: {where}" for name, where in report["vocoders"].items())]
    lines += ["", f"{FALLBACK}: {report['fallback']}", *(f"- {line}" for line in report["advice"])]
    return "\n".join(lines)


def _figures(check: dict[str, Any]) -> str:
    if check["failure"]:
        return f"fails: {check['failure']}"
    return f"{check['ms']:>8.2f}{check['error']:>10.1e}{check['tolerance']:>10.0e}"


def audit_stages(turn: Turn = nullcontext) -> list[StageAudit]:
    """Audit the embedded vocoder, and the official package with the same weights if it is installed.

    Args:
        turn: as for `examine`.
    """
    model = load_model(resolve(DEFAULT_VOCODER))
    paths = our_paths(model)
    try:
        paths["official vocos"] = official_path(model)
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed, so the official vocos is left out", file=sys.stderr)
    samples = 60 * family_of(model).features(model.config).hop_length
    n = torch.arange(2 * samples, device=CPU)
    audio = 0.1 * torch.sin((n * n % 997).to(torch.float32)).reshape(2, samples)
    rows = []
    for table in (*shipped_tables().values(), installed_table()):
        for name, path in paths.items():
            with turn():
                rows += audit({name: path}, audio, [table])
    return rows


def audit_text(rows: Sequence[StageAudit]) -> str:
    """The audit as text: one line for each stage and for releases with equal results, then the names of all faults."""
    lines = [
        f"{'path':<22}{'stage':<10}{'torch':<32}{'operators':>9}{'missing':>9}{'complex':>9}{'float64':>9}{'syncs':>7}"
    ]

    def faults(row: StageAudit) -> tuple[tuple[str, ...], ...]:
        return row.operators, row.missing, row.complex, row.float64, row.syncs

    stages = dict.fromkeys((row.path, row.stage) for row in rows)
    for path, stage in stages:
        for counts, group in groupby((r for r in rows if (r.path, r.stage) == (path, stage)), key=faults):
            n = [len(names) for names in counts]
            span = _span([row.release for row in group])
            lines.append(f"{path:<22}{stage:<10}{span:<32}{n[0]:>9}{n[1]:>9}{n[2]:>9}{n[3]:>9}{n[4]:>7}")
            for what, names in zip(("missing", "complex", "float64", "syncs"), counts[1:], strict=True):
                lines += [f"{'':<32}{what}: {', '.join(names)}"] if names else []
    clean = all(row.clean for row in rows if row.path.startswith("matmul"))
    return "\n".join([*lines, f"default path (matmul): {'clean in every release' if clean else 'NOT clean'}"])


def _span(releases: Sequence[str]) -> str:
    """Successive releases as text, the installed one last: "2.4.1 to 2.15.0, 2.13.0 here"."""
    shipped = [release for release in releases if release in shipped_tables()]
    here = [f"{torch.__version__} here"] if len(shipped) < len(releases) else []
    ends = shipped[:1] + shipped[-1:] if len(shipped) > 1 else shipped
    return ", ".join(([" to ".join(ends)] if ends else []) + here)
