"""The measure of every proof: relative to each result's own peak, and blind to nothing."""

from __future__ import annotations

import math

import torch

from tts_infer.engines.relative_error import relative_error


def test_nan_is_a_mistake_wherever_it_is() -> None:
    one, nan = torch.ones(2), torch.tensor([1.0, torch.nan])
    assert relative_error((one, 2 * one), (one, one)) == 1.0
    assert math.isnan(relative_error((one, nan), (one, one))) and math.isnan(relative_error(nan, one))
    assert relative_error(one, torch.ones(3)) == math.inf
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0.0
    # each by its own peak: 0.5 of 1, and 1 of 100
    assert relative_error((1.5 * one, 101 * one), (one, 100 * one)) == 0.5
