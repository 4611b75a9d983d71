"""Decoding against other software: `python -m benchmarks.decode`.

All systems hold the same weights and decode the same mel in turn. Ratios are to the official vocos 0.1.0, eager,
float32. ONNX Runtime and OpenVINO run our modules with the matmul inverse STFT inside the graph, since neither can
express the official one. They run on CPUs only. With `--device cuda`, the mel is on the GPU before the clock starts,
each decode is waited for, and the rate of the products is that of torch's own.
"""

from __future__ import annotations

import argparse
import math
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import Competition, environment, finish, measure, measure_busy, table
from benchmarks.vocoders import SIZES, make, speech_mel
from tts_infer import LogMel, log_mel_error_db, make_placement
from tts_infer.config import DTypeName
from tts_infer.devices import CPU, DTYPES, dtype_refusal, resolve_device, synchronise
from tts_infer.engines.onednn import PackedLinear, unsupported_reason
from tts_infer.stages import relative_error
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import family_of
from tts_infer.vocoders.reference import OfficialVocos
from tts_infer.vocoders.vocos import VocoderConfig, Vocos

Decoder = Callable[[Tensor], Any]
OFFICIAL = "official eager"
_WRONG = 0.1  # of the peak; bfloat16 is within a third of it
TITLES = {"embedded": "embedded, 3.6 M", "large": "large, 13.5 M, random weights"}


def official(config: VocoderConfig, weights: dict[str, Tensor]) -> OfficialVocos:
    model = OfficialVocos(config).eval().requires_grad_(False)
    model.load_state_dict(weights, strict=False)
    return model


def ours(config: VocoderConfig, weights: dict[str, Tensor], device: torch.device, dtype: Any, **how: Any) -> Decoder:
    model = Vocos(config, "fft").eval().requires_grad_(False)
    model.load_state_dict(weights)
    placement = make_placement(device=device, dtype=dtype, stages=family_of(model).stages(model), **how)
    return Vocoder(model, placement, "ours", dtype).decode


def onnx_runtime(model: Vocos) -> Decoder:
    import onnxruntime

    length = torch.export.Dim("L", min=2, max=100_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, (torch.zeros(2, 100, 50),), dynamic_shapes=({0: torch.export.Dim("B"), 2: length},), verbose=False
        )
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda mel: session.run(None, {name: mel.numpy()})[0]


def openvino(model: Vocos, precision: str) -> Decoder:
    import openvino as ov

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing: we checked the lengths, and the table has the errors
        graph = ov.convert_model(model, example_input=torch.zeros(1, 100, 50))
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = ov.Core().compile_model(graph, "CPU", settings)
    return lambda mel: compiled(mel.numpy())[0]


def systems(
    config: VocoderConfig, weights: dict[str, Tensor], device: torch.device, with_compile: bool
) -> dict[str, Decoder]:
    found: dict[str, Decoder] = {OFFICIAL: official(config, weights).to(device)}
    if with_compile and (device != CPU or shutil.which("g++")):
        found["official compiled"] = torch.compile(official(config, weights).to(device), dynamic=True)
    for dtype in half_and_float(device):
        found[f"ours {dtype}, default"] = ours(config, weights, device, dtype)
        for istft in ("fft", "matmul"):
            found[f"ours {dtype}, {istft}"] = ours(config, weights, device, dtype, istft=istft)
    if device != CPU:
        for dtype in half_and_float(device):
            graphs = dict.fromkeys(("backbone", "head", "istft"), f"{device}/cuda_graphs")
            found[f"ours {dtype}, fft, graphs"] = ours(config, weights, device, dtype, istft="fft", spec=graphs)
    else:
        reference = dict.fromkeys(("backbone", "head"), "cpu/torch")
        found["ours float32, reference"] = ours(config, weights, device, "float32", istft="fft", spec=reference)
        graph = Vocos(config, "matmul").eval().requires_grad_(False)
        graph.load_state_dict(weights)
        found["ONNX Runtime float32"] = onnx_runtime(graph)
        for dtype in half_and_float(device):
            found[f"OpenVINO {dtype}"] = openvino(graph, {"float32": "f32", "bfloat16": "bf16"}[dtype])
    return found


def half_and_float(device: torch.device) -> list[DTypeName]:
    """The dtypes to compare: of the two that every system has, those that the device computes well."""
    return [dtype for dtype in ("float32", "bfloat16") if dtype_refusal(device, dtype) is None]


def flop_per_frame(config: VocoderConfig) -> float:
    """Of convolutions and linear layers; the inverse STFT is not counted."""
    b, h = config.backbone, config.head
    blocks = b.num_layers * (2 * 7 * b.dim + 4 * b.dim * b.intermediate_dim)
    return 2 * 7 * b.input_channels * b.dim + blocks + 2 * b.dim * (h.n_fft + 2)


def gemm_runs(config: VocoderConfig, frames: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """The two products of a block alone (packed on a CPU): their rate is what the whole is compared with."""
    dim, inner = config.backbone.dim, config.backbone.intermediate_dim
    runs: dict[str, Callable[[], object]] = {}
    for dtype in half_and_float(device):
        if device == CPU and unsupported_reason(dtype) is not None:
            continue
        layers: list[Callable[[Tensor], Tensor]] = []
        for rows, columns in ((inner, dim), (dim, inner)):
            weight, bias = torch.randn(rows, columns, device=device), torch.zeros(rows, device=device)
            if device == CPU:
                layers.append(PackedLinear(weight, bias, dtype))
            else:
                layers.append(partial(F.linear, weight=weight.to(DTYPES[dtype]), bias=bias.to(DTYPES[dtype])))
        x = torch.randn(1, frames, dim, device=device).to(DTYPES[dtype])
        runs[f"gemm {dtype}"] = lambda up=layers[0], down=layers[1], x=x: down(up(x))  # type: ignore[misc]
    return runs


def waited(run: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Run, then wait for everything that the run queued on the device."""

    def both() -> None:
        run()
        synchronise(device)

    return both


def on_cpu(audio: Any) -> Tensor:
    """What a system made, as a tensor."""
    return audio.cpu() if isinstance(audio, Tensor) else torch.from_numpy(np.asarray(audio))


def run(name: str, config: VocoderConfig, weights: dict[str, Tensor], args: argparse.Namespace) -> list[dict[str, Any]]:
    device = resolve_device(args.device)
    decoders, mel_of = systems(config, weights, device, args.compile), LogMel(config.mel)
    results = []
    for batch in args.batch:
        for frames in args.frames:
            mel = speech_mel(batch, frames).to(device)
            expected = decoders[OFFICIAL](mel).cpu().double()
            made = {key: on_cpu(decode(mel)) for key, decode in decoders.items()}
            errors = {key: relative_error(audio, expected) for key, audio in made.items()}
            mels = {key: mel_of(audio.float()) for key, audio in made.items()}
            costs = {key: log_mel_error_db(mels[OFFICIAL], one) for key, one in mels.items()}
            for key in (wrong := {key for key, error in errors.items() if not error < _WRONG}):
                print(f"not measured: {key}, whose audio is wrong by {errors[key]:.2f} of the peak")
            right = {key: decode for key, decode in decoders.items() if key not in wrong}
            runs: dict[str, Callable[[], object]] = {key: partial(decode, mel) for key, decode in right.items()}
            runs |= gemm_runs(config, batch * frames, device)
            ms = measure({key: waited(run, device) for key, run in runs.items()}, args.seconds)
            work = flop_per_frame(config) * batch * frames
            gemm_work = 4 * config.backbone.dim * config.backbone.intermediate_dim * batch * frames
            rows = []
            for key in right:
                rate = work / ms[key] / 1e6
                peak = ms.get("gemm bfloat16" if "bfloat16" in key else "gemm float32", math.nan)
                rows.append(
                    {
                        "system": key,
                        "ms": ms[key],
                        "x real time": batch * frames * config.mel.hop_length / config.mel.sample_rate / ms[key] * 1e3,
                        "ratio": ms[OFFICIAL] / ms[key],
                        "GFLOP/s": rate,
                        "of GEMM": rate / (gemm_work / peak / 1e6),
                        "error": errors[key],
                        "mel dB": costs[key],
                    }
                )
            table(f"{name}, batch {batch}, {frames} frames", rows)
            results += [{"model": name, "batch": batch, "frames": frames, **row} for row in rows]
    return results


def run_busy(name: str, config: VocoderConfig, weights: dict[str, Tensor], args: argparse.Namespace) -> list[Any]:
    """Ours and the peers, on a quiet machine and beside competing processes; rows for one thread and for several."""
    graph = Vocos(config, "matmul").eval().requires_grad_(False)
    graph.load_state_dict(weights)
    threads = torch.get_num_threads()
    default = ours(config, weights, CPU, "float32")
    found: dict[str, Decoder] = {
        f"ours, default ({threads} threads)": default,
        "ours, 1 thread": partial(_with_threads, 1, default),
        OFFICIAL: official(config, weights),
        f"ONNX Runtime, {threads} threads": onnx_runtime(graph),
        f"OpenVINO, {threads} threads": openvino(graph, "f32"),
    }
    results: list[Any] = []
    with Competition(args.busy) as competition:
        for frames in args.frames:
            mel = speech_mel(1, frames)
            rows = measure_busy({key: partial(run, mel) for key, run in found.items()}, competition, args.seconds)
            table(f"{name}, {frames} frames, {args.busy} competing processes", rows)
            results += [{"model": name, "frames": frames, "busy": args.busy, **row} for row in rows]
    return results


def _with_threads(threads: int, decode: Decoder, mel: Tensor) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return decode(mel)
    finally:
        torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 94, 938, 5625])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    parser.add_argument("--seconds", type=float, default=8.0, help="measuring time of one table (default: 8)")
    parser.add_argument("--busy", type=int, metavar="N", help="beside N competing processes, quiet and busy in turns")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    args = parser.parse_args()
    setting = {"device": args.device, **environment("vocos", "onnxruntime", "openvino")}
    print(setting)
    results: list[dict[str, Any]] = []
    with torch.inference_mode():
        for size in args.models:
            model = make(size).model
            measured = run if args.busy is None else run_busy
            results += measured(TITLES[size], model.config, model.state_dict(), args)
    finish("decode", setting, results)


if __name__ == "__main__":
    main()
