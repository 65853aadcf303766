"""Weights in 8 bits, a scale for each output channel."""

import numpy as np


def quantize_weight(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers from -127 to 127 and a scale for each index of ``axis``: weight = number * scale, but for rounding.

    Of a channel the scale is that with the smallest squared error, among fractions of the one that reaches the largest weight.
    Whole numbers that fit, such as those of a sum, stay what they are.

    Args:
        weight: Of a convolution or a matrix.
        axis: Of its output channels.

    Returns:
        int8 of the same shape, and float32 scales.

    Example:
        >>> numbers, scale = quantize_weight(np.array([[1.27, -0.5], [0.0, 0.0]]), 0)
        >>> numbers.tolist(), scale.tolist()
        ([[127, -50], [0, 0]], [0.009999999776482582, 1.0])
    """
    rows = np.moveaxis(weight.astype(np.float64), axis, 0).reshape(weight.shape[axis], -1)
    if (rows == rows.round()).all() and np.abs(rows).max() <= 127:
        return weight.astype(np.int8), np.ones(len(rows), np.float32)
    largest = np.abs(rows).max(1) / 127
    largest[largest == 0] = 1
    best, error = largest.astype(np.float32), np.full(len(rows), np.inf)
    for fraction in np.linspace(1, 0.6, 41):
        scale = (largest * fraction).astype(np.float32)
        numbers = (rows / scale[:, None]).round().clip(-127, 127)
        found = ((numbers * scale[:, None] - rows) ** 2).sum(1)
        better = found < error
        best[better], error[better] = scale[better], found[better]
    shape = [-1 if i == axis % weight.ndim else 1 for i in range(weight.ndim)]
    return (weight / best.reshape(shape)).round().clip(-127, 127).astype(np.int8), best
