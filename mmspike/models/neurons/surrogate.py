"""Surrogate gradients: derivatives that stand in for the Heaviside step in the backward pass.

Each takes ``u``, the membrane minus the threshold, and the sharpness ``alpha``, and has the integral 1. Forms and defaults
are spikingjelly's, so that a number means the same in both.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def sigmoid(u: Tensor, alpha: float) -> Tensor:
    """Derivative of ``sigmoid(alpha * u)``."""
    s = torch.sigmoid(alpha * u)
    return alpha * s * (1 - s)


def atan(u: Tensor, alpha: float) -> Tensor:
    """Derivative of ``atan(pi / 2 * alpha * u) / pi + 1 / 2``."""
    return (alpha / 2) / (1 + (math.pi / 2 * alpha * u) ** 2)


def rectangle(u: Tensor, alpha: float) -> Tensor:
    """``alpha`` where ``|u| < 1 / (2 * alpha)``, else 0."""
    return alpha * (u.abs() < 0.5 / alpha).to(u.dtype)


# name -> (derivative, default alpha)
SURROGATES: dict[str, tuple[Callable[[Tensor, float], Tensor], float]] = dict(
    sigmoid=(sigmoid, 4.0),
    atan=(atan, 2.0),
    rectangle=(rectangle, 1.0),
)


def check_surrogate(name: str, alpha: float | None) -> float:
    """Return ``alpha``, or the default of the surrogate ``name`` where it is None; raise ValueError on a bad pair."""
    if name not in SURROGATES:
        raise ValueError(f"surrogate '{name}' is unknown: choose one of {sorted(SURROGATES)}")
    alpha = SURROGATES[name][1] if alpha is None else float(alpha)
    if alpha <= 0:
        raise ValueError(f'surrogate alpha must be positive, got {alpha}')
    return alpha
