"""The forms of torch modules in MLX: functions of MLX arrays that compute the same.

The table `FORMS` is closed: a module is converted by its type and those of its parts, and one without an entry is
refused. Time is the second axis throughout, as MLX's convolutions have it, so only the features are transposed.

Only the engine imports this file, and only where the package mlx is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import mlx.core as mx
from torch import Tensor, nn

from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mdct import IMDCT
from tts_infer.vocoders.convnext import ConvNeXtBlock, VocosBackbone
from tts_infer.vocoders.heads import MAX_MAGNITUDE, IMDCTCosHead, IMDCTSymExpHead, ISTFTHead
from tts_infer.vocoders.norms import AdaLayerNorm
from tts_infer.vocoders.padding import CachedPadding, conv_padding, crop

Form = Callable[..., Any]
_ROOT_HALF = 2**-0.5
# Modules that lie in a head and are stages of their own.
_STAGES = (ISTFT, IMDCT)


def form_of(module: nn.Module) -> Form:
    """The form of a module, with copies of its weights. Its parts have forms, see `formless`."""
    return FORMS[type(module)](module)


def formless(module: Any) -> str | None:
    """The name of the first part of a module that has no form; None if all have one."""
    if type(module) not in FORMS:
        return type(module).__name__
    return next(filter(None, (formless(part) for part in module.children() if not isinstance(part, _STAGES))), None)


def _array(weight: Tensor | None) -> Any:
    """A weight in MLX. It is evaluated at once, so that every thread can read it."""
    assert weight is not None
    return mx.array(weight.detach().float().contiguous().numpy())


def _linear(layer: nn.Linear) -> Form:
    """Shape: (..., in) -> (..., out)"""
    weight, bias = _array(layer.weight.t()), _array(layer.bias)
    return lambda x: mx.addmm(bias, x, weight)


def _conv1d(layer: nn.Conv1d) -> Form:
    """Shape: (B, L, C), zeros at both ends -> (B, L + 2 (zeros - reach), H)"""
    weight, bias = _array(layer.weight.transpose(1, 2)), _array(layer.bias)
    (stride,), (dilation,), groups = layer.stride, layer.dilation, layer.groups
    return lambda x, zeros: mx.conv1d(x, weight, stride, zeros, dilation, groups) + bias


def _gelu(module: nn.GELU) -> Form:
    assert module.approximate == "none"
    return lambda x: x * (1 + mx.erf(x * _ROOT_HALF)) / 2


def _layer_norm(norm: nn.LayerNorm) -> Form:
    """Shape: (B, L, H), no number -> (B, L, H)"""
    weight, bias = _array(norm.weight), _array(norm.bias)
    return lambda x, number=None: mx.fast.layer_norm(x, weight, bias, norm.eps)


def _ada_layer_norm(norm: AdaLayerNorm) -> Form:
    """Shape: (B, L, H), number of (B,) or (1,) -> (B, L, H)"""
    scale, shift = _array(norm.scale.weight), _array(norm.shift.weight)
    return lambda x, number: (
        mx.fast.layer_norm(x, None, None, norm.eps) * scale[number][:, None] + shift[number][:, None]
    )


def _block(block: ConvNeXtBlock) -> Form:
    dwconv, norm, pwconv1, act, pwconv2 = map(
        form_of, (block.dwconv, block.norm, block.pwconv1, block.act, block.pwconv2)
    )
    gamma, reach = _array(block.gamma), block.reach

    def run(x: Any, zeros: int, number: Any = None) -> Any:
        frames = pwconv2(act(pwconv1(norm(dwconv(x, zeros), number))))
        return crop(x, reach - zeros) + gamma * frames

    return run


class _Padding(CachedPadding):
    """The frames before a piece, of MLX arrays. Results are copied, so what is kept needs no copy of its own."""

    def extended(self, before: Any, x: Any) -> Any:
        return mx.concatenate([before, x], axis=1)

    def kept(self, frames: Any) -> Any:
        return frames


def _backbone(backbone: VocosBackbone) -> Form:
    embed, norm, final = map(form_of, (backbone.embed, backbone.norm, backbone.final_layer_norm))
    blocks, reaches = [form_of(block) for block in backbone.convnext], backbone.reaches

    def run(features: Any, valid: Any = None, history: Any = None, bandwidth_id: Any = None) -> Any:
        padding: Any = conv_padding(reaches, valid, history, _Padding)
        x = norm(embed(*padding(0, mx.swapaxes(features, 1, 2))), bandwidth_id)
        for layer, block in enumerate(blocks, start=1):
            x = block(*padding(layer, x), bandwidth_id)
        hidden = final(x)
        return (hidden, tuple(padding.history)) if isinstance(padding, CachedPadding) else hidden

    return run


def _istft_head(head: ISTFTHead) -> Form:
    """Shape: (B, L, H) -> real, imag of (B, N, L)"""
    out = form_of(head.out)

    def run(hidden: Any) -> tuple[Any, Any]:
        log_magnitude, phase = mx.split(out(hidden), 2, axis=-1)
        magnitude = mx.minimum(mx.exp(log_magnitude), MAX_MAGNITUDE)
        return mx.swapaxes(magnitude * mx.cos(phase), 1, 2), mx.swapaxes(magnitude * mx.sin(phase), 1, 2)

    return run


def _cos_head(head: IMDCTCosHead) -> Form:
    """Shape: (B, L, H) -> (B, L, N)"""
    out = form_of(head.out)

    def run(hidden: Any) -> Any:
        log_magnitude, phase = mx.split(out(hidden), 2, axis=-1)
        return mx.minimum(mx.exp(log_magnitude), MAX_MAGNITUDE) * mx.cos(phase)

    return run


def _sym_exp_head(head: IMDCTSymExpHead) -> Form:
    """Shape: (B, L, H) -> (B, L, N)"""
    out = form_of(head.out)

    def run(hidden: Any) -> Any:
        x = out(hidden)
        return mx.sign(x) * mx.minimum(mx.exp(mx.abs(x)) - 1, MAX_MAGNITUDE)

    return run


def _parts(_: nn.Module) -> Form:
    raise AssertionError("its owner converts its parts")


# Types of modules, and what converts them.
FORMS = cast(
    "dict[type, Callable[[nn.Module], Form]]",
    {
        nn.Linear: _linear,
        nn.Conv1d: _conv1d,
        nn.GELU: _gelu,
        nn.LayerNorm: _layer_norm,
        nn.Embedding: _parts,
        nn.ModuleList: _parts,
        AdaLayerNorm: _ada_layer_norm,
        ConvNeXtBlock: _block,
        VocosBackbone: _backbone,
        ISTFTHead: _istft_head,
        IMDCTCosHead: _cos_head,
        IMDCTSymExpHead: _sym_exp_head,
    },
)
