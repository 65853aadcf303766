"""Rounding of weights that keeps the sums of channels, without data."""

import numpy as np


def keep_sums(weight: np.ndarray, numbers: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """Round some weights to the other side, so that errors of a kernel, then those of an output channel, add up to half a step.

    Counts of spikes are never negative, so a sum of errors shifts a membrane, and errors of both signs cancel out. Those are
    turned that were closest to a half. After SQuant (Guo et al., ICLR 2022, arXiv 2202.07471, section 3), in float64.

    Args:
        weight: Of a convolution [C', C, h, w] or a matrix.
        numbers: int8 of the same shape, from :func:`mmspike.deploy.int8_weights.quantize_weight`.
        scale: For each index of ``axis``.
        axis: Of the output channels.

    Returns:
        int8 of the same shape.

    Example:
        >>> keep_sums(np.array([[1.25, 2.375, 3.25, 4.25]]), np.array([[1, 2, 3, 4]], np.int8), np.ones(1), 0).tolist()
        [[1, 3, 3, 4]]
    """
    rows = np.moveaxis(weight.astype(np.float64), axis, 0)
    whole = np.moveaxis(numbers, axis, 0).astype(np.float64)
    exact = (rows / scale.astype(np.float64).reshape(-1, *[1] * (rows.ndim - 1))).clip(-128, 127)
    kernels = rows.shape[0], int(np.prod(rows.shape[1:2])), -1
    if rows.ndim > 2:
        whole = _turned(exact.reshape(-1, kernels[1], int(np.prod(rows.shape[2:]))), whole.reshape(kernels))
    whole = _turned(exact.reshape(len(rows), -1), whole.reshape(len(rows), -1))
    return np.moveaxis(whole.reshape(rows.shape), 0, axis).astype(np.int8)


def _turned(exact: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``whole`` with the sums of ``exact`` over the last dimension, but for half a step."""
    error = whole - exact
    total = error.sum(-1, keepdims=True)
    # what is turned moves by one against the total, and only away from a rounding in its direction
    gain = np.where((error * total > 0) & (np.abs(whole - np.sign(total)) <= 127), np.abs(error), -1)
    order = np.argsort(np.argsort(-gain, -1, kind='stable'), -1, kind='stable')  # 0: the one closest to a half
    turn = (order < np.abs(total).round()) & (gain >= 0)
    return whole - np.sign(total) * turn
