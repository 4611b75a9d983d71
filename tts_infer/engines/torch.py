"""The torch engine: it runs the modules as they are, on any device. Other engines are compared with it."""

from __future__ import annotations

import torch
from torch import nn

from tts_infer.config import DTypeName
from tts_infer.stages import Stage


class TorchEngine:
    """torch's own operators. Entry of `ENGINES`."""

    automatic = True
    package = None
    examined = True

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        return None

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        module = stage.module.to(device) if isinstance(stage.module, nn.Module) else stage.module
        return stage.using(module, dtype if stage.half else "float32")

    def padded_frames(self, batch: int, frames: int) -> int | None:
        return None
