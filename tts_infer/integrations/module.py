"""A vocoder as a torch module: programs move it, cast it, save it and put it into modules of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tts_infer.devices import DTYPES
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import family_of
from tts_infer.vocoders.checkpoint import check_constants

V = TypeVar("V", bound="VocoderModule")


class VocoderModule(nn.Module):
    """Base of what replaces other packages' vocoders. Its weights are those of the vocoder, under the same names.

    Moving, casting and loading weights prepare the vocoder's stages anew, also as part of a larger module. Weights stay
    float32: `half()` and `bfloat16()` choose how matrix products are computed. `decode` may not see other changes of
    weights (an optimizer's, say), since engines keep copies of their own.

    Attributes:
        vocoder: what computes. Several modules may share one.
    """

    def __init__(self, vocoder: Vocoder) -> None:
        super().__init__()
        self.vocoder = vocoder
        self._family = family_of(vocoder.model)
        for name, child in vocoder.model.named_children():
            self.add_module(name, FeatureExtractor(vocoder) if name == "feature_extractor" else child)
        self.register_load_state_dict_pre_hook(_without_constants)
        self.register_load_state_dict_post_hook(_prepared_anew)
        self.train(vocoder.model.training)

    @property
    def sample_rate(self) -> int:
        """Samples a second of the audio."""
        return self.vocoder.sample_rate

    def _apply(self: V, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> V:
        """What `to`, `cuda`, `half` and all others end in: ask where `fn` leads to, and place the stages there."""
        vocoder = self.vocoder
        device = next(vocoder.parameters()).device
        before = torch.empty(0, device=device, dtype=DTYPES[vocoder.dtype])
        after = fn(before)
        if (after.device, after.dtype) != (device, before.dtype) or vocoder.placement.devices != {device}:
            vocoder.to(after.device, after.dtype)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """The weights of a module itself; here the constants that the family's checkpoints hold beside the weights."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        constants = self._family.constants(self.vocoder.model)
        destination.update({prefix + name: constant for name, constant in constants.items()})


class FeatureExtractor(nn.Module):
    """The stage that makes features of audio, as a module. It has the weights of the family's own.

    Shape: (B, T) -> (B, n_mels, L)
    Raises:
        InputError: see `Vocoder.mel`; or the vocoder makes its features of something else.
    """

    def __init__(self, vocoder: Vocoder) -> None:
        super().__init__()
        self._vocoder = vocoder
        for name, weight in vocoder.model.feature_extractor.named_parameters():
            self.register_parameter(name, weight)

    def forward(self, audio: Tensor, bandwidth_id: Tensor | int | None = None) -> Tensor:
        return self._vocoder.mel(audio)


def _without_constants(module: VocoderModule, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Compare the constants among the weights with ours, and leave them out: our models compute them."""
    constants = module._family.constants(module.vocoder.model)
    given = {name: state_dict.pop(prefix + name) for name in constants if prefix + name in state_dict}
    check_constants(constants, given, Path("state dict"), module.vocoder.name)


def _prepared_anew(module: VocoderModule, _: Any) -> None:
    module.vocoder.to(dtype=module.vocoder.dtype)
