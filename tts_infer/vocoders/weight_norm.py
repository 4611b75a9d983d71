"""Weight norm, folded: checkpoints of generators store a direction and a length for each weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Ends of the keys of length and direction, in both of torch's forms.
_FORMS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))


def fold_weight_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each pair of length g and direction v by the weight g v / |v|. What is no such pair stays as it is.

    Shape: g of (C, 1, ...), v of (C, ...) -> (C, ...)
    """
    folded = dict(weights)
    for length_end, direction_end in _FORMS:
        for key in [key for key in folded if key.endswith(length_end)]:
            stem = key.removesuffix(length_end)
            g, v = folded[key], folded.get(stem + direction_end)
            if v is not None and g.ndim == v.ndim and g.shape == (v.shape[0], *[1] * (v.ndim - 1)):
                norm = torch.linalg.vector_norm(v.float(), dim=tuple(range(1, v.ndim)), keepdim=True)
                folded[stem + "weight"] = v.float() * (g.float() / norm)
                del folded[key], folded[stem + direction_end]
    return folded
