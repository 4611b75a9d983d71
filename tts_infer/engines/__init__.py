"""The means by which a stage computes. An engine is one file here, and one line in `ENGINES`."""

from __future__ import annotations

from tts_infer.engines.cuda_graphs import CUDAGraphsEngine
from tts_infer.engines.engine import Engine
from tts_infer.engines.onednn import OneDNNEngine
from tts_infer.engines.onnxruntime import OnnxRuntimeEngine
from tts_infer.engines.torch import TorchEngine

# In the order of preference.
ENGINES: dict[str, Engine] = {
    "onednn": OneDNNEngine(),
    "torch": TorchEngine(),
    "onnxruntime": OnnxRuntimeEngine(),
    "cuda_graphs": CUDAGraphsEngine(),
}
