"""Numbers that choose for a whole signal, given by name when something is decoded: `decode(features, bandwidth_id=2)`.

A family says which ones it has, stages take them by name, and nothing else knows them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tts_infer.devices import CPU
from tts_infer.errors import InputError, InputTypeError

NO_NUMBERS: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Condition:
    """A number that chooses for a whole signal, given by name when something is decoded, such as `bandwidth_id=2`.

    Attributes:
        name: of the argument, and of the tensor that stages take.
        values: what each number stands for; the numbers count from 0.
    """

    name: str
    values: tuple[float, ...]

    def check(self, number: Any) -> Tensor:
        """A number, or one for each item, as the stages take it. Shape: (), (1,) or (B,) -> (1,) or (B,), int64

        Raises:
            InputError: it is no whole number, or none of the numbers there are.
        """
        given = number.tolist() if isinstance(number, Tensor | np.ndarray | np.generic) else number
        listed = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if not listed or not all(type(one) is int and 0 <= one < len(self.values) for one in listed):
            raise InputError(
                "{name} is {got}; allowed: 0 to {most}, for {values}",
                code="condition-range",
                name=self.name,
                got=reprlib.repr(given),
                most=len(self.values) - 1,
                values=", ".join(map(str, self.values)),
            )
        return torch.tensor(listed, dtype=torch.int64, device=CPU)

    def number_of(self, value: float) -> int:
        """The number that stands for a value.

        Raises:
            InputError: none does.
        """
        if value not in self.values:
            raise InputError(
                "{name} has no number for {got}; allowed: {values}",
                code="condition-value",
                name=self.name,
                got=value,
                values=", ".join(map(str, self.values)),
            )
        return self.values.index(value)


def checked(conditions: Sequence[Condition], given: Mapping[str, Any]) -> dict[str, Tensor]:
    """The numbers that stages take besides features, from the arguments of a call.

    Raises:
        InputTypeError: an argument that this vocoder does not have.
        InputError: a condition is missing, or out of its range.
    """
    known = {one.name: one for one in conditions}
    for name in given:
        if name not in known:
            raise InputTypeError(
                "{name!r} is no argument of this vocoder; besides the usual ones it has: {allowed}",
                code="condition-unknown",
                name=name,
                allowed=", ".join(known) or "none",
            )
    for name, one in known.items():
        if given.get(name) is None:
            raise InputError(
                "{name} is missing; give {name}=0 to {most}, for {values}",
                code="condition-missing",
                name=name,
                most=len(one.values) - 1,
                values=", ".join(map(str, one.values)),
            )
    return {name: one.check(given[name]) for name, one in known.items()}


def require_batch(conditions: Mapping[str, Tensor], batch: int) -> None:
    """Refuse conditions that are neither one for all items nor one for each.

    Raises:
        InputError: names the condition.
    """
    for name, numbers in conditions.items():
        if len(numbers) not in (1, batch):
            raise InputError(
                "{name} has {count} numbers; give one, or one for each of {batch} items",
                code="condition-batch",
                name=name,
                count=len(numbers),
                batch=batch,
            )


def of_items(numbers: Mapping[str, Tensor], items: slice) -> dict[str, Tensor]:
    """The numbers of some items of a batch."""
    return {name: one[items] if len(one) > 1 else one for name, one in numbers.items()}
