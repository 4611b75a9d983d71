"""Losses for those who train: differences of spectra, with gradients, by batches, for items of several lengths.

from tts_infer.losses import MultiResolutionSTFTLoss
loss = MultiResolutionSTFTLoss()(output, target)

The classes whose names end in STFTLoss have the definitions of auraloss 0.4, and its names of arguments. They use the
transforms of this package. By the "matmul" method they use real numbers only, so every operator has an MPS kernel from
torch 2.4.1 on. `import tts_infer` does not import this module.
"""

from tts_infer.losses.mel import LogMelLoss
from tts_infer.losses.multiple import (
    MelSTFTLoss,
    MultiResolutionSTFTLoss,
    RandomResolutionSTFTLoss,
    SumAndDifferenceSTFTLoss,
)
from tts_infer.losses.stft import STFTLoss, Terms
from tts_infer.losses.weighting import AWeighting

__all__ = [
    "AWeighting",
    "LogMelLoss",
    "MelSTFTLoss",
    "MultiResolutionSTFTLoss",
    "RandomResolutionSTFTLoss",
    "STFTLoss",
    "SumAndDifferenceSTFTLoss",
    "Terms",
]
