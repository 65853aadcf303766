"""Weights in 8 bits, a scale for each output channel."""

import numpy as np

LOW, HIGH = -128, 127


def quantize_weight(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers in 8 bits and a scale for each index of ``axis``: weight = number * scale, but for rounding.

    Channels whose weights are whole numbers of a step already, as those of networks trained with ``weight_bits``, are read as
    they are. Of another one the scale is that with the smallest squared error, among fractions of the one that reaches the
    largest weight; numbers are then at most 127. Whole numbers that fit, such as those of a sum, stay what they are.

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
    exact = exact_scales(rows)
    best = np.where(exact > 0, exact, best)
    shape = [-1 if i == axis % weight.ndim else 1 for i in range(weight.ndim)]
    return (weight / best.reshape(shape)).round().clip(LOW, HIGH).astype(np.int8), best


def exact_scales(rows: np.ndarray) -> np.ndarray:
    """For each of some rows the largest scale of which all its weights are whole numbers in 8 bits; 0: there is none.

    Weights are whole numbers if they differ from such by no more than the rounding of float32, 1e-6 of the largest one.

    Example:
        >>> exact_scales(np.array([[0.75, -1.0, 0.5], [0.1, 0.2, 0.2001]])).tolist()
        [0.25, 0.0]
    """
    scales = np.zeros(len(rows), np.float32)
    sizes = np.abs(rows)
    for i, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        smallest = size[size > 1e-6 * size.max()].min() if size.any() else 0.0
        # the smallest weight that is not 0 is 1, 2, 3 ... steps
        for steps in range(1, HIGH + 1) if smallest else ():
            numbers = row * (steps / smallest)
            if numbers.max() > HIGH + 0.5 or numbers.min() < LOW - 0.5:
                break
            if np.abs(numbers - numbers.round()).max() <= 1e-6 * np.abs(numbers).max():
                whole = numbers.round()
                scales[i] = (row @ whole) / (whole @ whole)
                break
    return scales
