"""Engines: the libraries that compute stages. An engine is one file here, and one line in `ENGINES`."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from tts_infer.config import DTypeName
from tts_infer.engines.cuda_graphs import CUDAGraphsEngine
from tts_infer.engines.engine import Engine
from tts_infer.engines.mlx import MLXEngine
from tts_infer.engines.onednn import OneDNNEngine
from tts_infer.engines.onnxruntime import OnnxRuntimeEngine
from tts_infer.engines.openvino import OpenVINOEngine
from tts_infer.engines.torch import TorchEngine
from tts_infer.sentences import Sentence, Several
from tts_infer.stages import Stage

# In order of preference.
ENGINES: dict[str, Engine] = {
    "onednn": OneDNNEngine(),
    "torch": TorchEngine(),
    "onnxruntime": OnnxRuntimeEngine(),
    "openvino": OpenVINOEngine(),
    "cuda_graphs": CUDAGraphsEngine(),
    "mlx": MLXEngine(),
}


def unusable_reason(engine: str, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
    """Say why an engine cannot run a stage on a device: its package is missing, or see `Engine`. None if it can."""
    if stage.engines and engine not in stage.engines:
        text = "{stage} is run by {engines:, } only"
        return Sentence(text, code="stage-run-by", stage=stage.name, engines=Several(stage.engines))
    package = ENGINES[engine].package
    if package is not None and find_spec(package) is None:
        return Sentence("{package} is not installed", code="not-installed", package=package)
    return ENGINES[engine].unsupported(stage, device, dtype)


def usable_engines(stage: Stage, device: torch.device, dtype: DTypeName) -> tuple[str, ...]:
    """The engines to choose from if the user names none.

    The first is the preferred one of those that need no package. The others need a package, which is installed; they
    must be faster than the first to be chosen. None can run a stage that has engines of its own, on another device.
    """
    wanted = [name for name, one in ENGINES.items() if one.automatic or name in stage.engines]
    able = [name for name in wanted if unusable_reason(name, stage, device, dtype) is None]
    free = [name for name in able if ENGINES[name].package is None]
    return (*free[:1], *(name for name in able if ENGINES[name].package is not None))
