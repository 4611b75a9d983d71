"""Constants of modules."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tts_infer.dsp import register_constant


def test_constant_moves_with_its_module_and_is_not_saved() -> None:
    module = nn.Module()
    torch.set_default_dtype(torch.float16)
    try:
        register_constant(module, "third", np.full((2, 3), 1 / 3).T)
    finally:
        torch.set_default_dtype(torch.float32)
    third = module.get_buffer("third")
    assert third.dtype == torch.float32 and third.is_contiguous()
    assert torch.equal(third, torch.full((3, 2), 1 / 3, dtype=torch.float32))  # not rounded to float16
    assert module.to("meta").get_buffer("third").device.type == "meta"
    assert not module.state_dict()
