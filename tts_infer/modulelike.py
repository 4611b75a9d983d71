"""What programs call on a torch module, for vocoders: to, cpu, cuda, half, float, eval, train, parameters, ..."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn, TypeVar

import torch
from torch import Tensor, nn

from tts_infer.arguments import checked
from tts_infer.devices import dtype_name
from tts_infer.errors import InputError
from tts_infer.facts import Facts
from tts_infer.runtime.pipeline import Pipeline
from tts_infer.runtime.placement import make_placement

M = TypeVar("M", bound="ModuleLike")


class ModuleLike(Facts):
    """Base of `Vocoder`. A vocoder is no `nn.Module`; `tts_infer.integrations.vocos.Vocos` is one.

    Weights stay float32; a dtype is that of the matrix products.
    """

    @classmethod
    def from_pretrained(cls, name: str, revision: str | None = None) -> NoReturn:
        """Say what loads a vocoder: this class does not know where vocoders are."""
        raise InputError(
            "a Vocoder is loaded by tts_infer.load_vocoder({name!r}); where a program expects vocos.Vocos, use "
            "tts_infer.integrations.vocos.Vocos.from_pretrained({name!r})",
            code="load-vocoder",
            name=name,
        )

    def to(
        self: M, device: str | torch.device | torch.dtype | None = None, dtype: torch.dtype | str | None = None
    ) -> M:
        """Move every stage to one device, and choose engine and method anew. Returns itself, as `nn.Module.to` does.

        Args:
            device: the device; None: every stage stays where it is. A dtype may stand here alone.
            dtype: of the matrix products in networks; None: as it is.

        Raises:
            PlacementError: this machine has no such device, or the device cannot use the dtype well.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        name = self.dtype if dtype is None else dtype_name(dtype)
        stages = self._pipeline.family.stages(self.model)
        if device is None:
            here = {stage: str(place.device) for stage, place in self.placement.items()}
            placement = make_placement(here, dtype=name, stages=stages)
        else:
            placement = make_placement(device=device, dtype=name, stages=stages)
        self._pipeline = Pipeline(self.model, placement, name)
        return self

    def cpu(self: M) -> M:
        """Move every stage to the CPU."""
        return self.to("cpu")

    def cuda(self: M, index: int = 0) -> M:
        """Move every stage to an NVIDIA GPU."""
        return self.to(f"cuda:{index}")

    def float(self: M) -> M:
        """Compute in float32."""
        return self.to(torch.float32)

    def half(self: M) -> M:
        """Compute the matrix products of networks in float16. The CPU refuses it: there, use bfloat16."""
        return self.to(torch.float16)

    def bfloat16(self: M) -> M:
        """Compute the matrix products of networks in bfloat16."""
        return self.to(torch.bfloat16)

    def eval(self: M) -> M:
        """Return itself: a vocoder is always in evaluation mode."""
        return self

    def train(self: M, mode: bool = True) -> M:
        """Return itself: the families have no layer that differs in training."""
        return self

    @checked()
    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Say whether the weights take gradients. Decoding never records any; `vocoder.model` does."""
        self.model.requires_grad_(requires_grad)
        return self

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights."""
        weights: Iterator[nn.Parameter] = self.model.parameters()
        return weights

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by the names of the family's checkpoints, and the constants that these hold."""
        return {**self._pipeline.family.constants(self.model), **self.model.state_dict()}
