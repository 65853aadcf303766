"""The kernels of shortcut.py: batch norm, or two in a row, plus a shortcut, and the neuron on the sum.

Sizes and ``affine`` are those of norm_neuron_kernels.py.
"""

from .integer import _code, _count, _through
from .launch import jit, tl
from .norm_neuron_kernels import _back, _fired, _membranes, _normalised, _places


@jit
def _norm_sum_forward(
    y_ptr, shortcut_ptr, sum_ptr, out_ptr, code_ptr, affine_ptr, mean_ptr, inverse_ptr,
    w1_ptr, b1_ptr, mean1_ptr, var1_ptr, tracked1_ptr, w2_ptr, b2_ptr, mean2_ptr, var2_ptr, tracked2_ptr,
    E, C, inner, eps1, eps2, momentum1, momentum2, unbiased, tau, v_threshold, v_reset, levels, divisor,
    TRAINING: tl.constexpr, DOUBLE: tl.constexpr, SHORTCUT: tl.constexpr, CODE: tl.constexpr, T: tl.constexpr,
    KIND: tl.constexpr, LEAK: tl.constexpr, INNERMOST: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The sum, its spikes and by choice their bytes; the first programs of the channels do what those of a norm do."""
    row = tl.program_id(0)
    c, at, inside = _places(E, C, inner, row, INNERMOST, WIDE, BM, BN)
    ok = c < C
    scale, shift = _normalised(
        row, c, ok, C, affine_ptr, mean_ptr, inverse_ptr, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, tracked1_ptr,
        w2_ptr, b2_ptr, mean2_ptr, var2_ptr, tracked2_ptr, eps1, eps2, momentum1, momentum2, unbiased, TRAINING, DOUBLE,
    )  # fmt: skip
    step = tl.cast(E, tl.int64) * C
    scale, shift = scale[None, :], shift[None, :]
    v = tl.zeros_like(scale + at.to(tl.float32)) + v_reset
    for t in range(T):
        z = tl.load(y_ptr + t * step + at, inside, other=0.0).to(tl.float32) * scale + shift
        if SHORTCUT:
            z += tl.load(shortcut_ptr + t * step + at, inside, other=0.0).to(tl.float32)
        z = z.to(sum_ptr.dtype.element_ty)
        tl.store(sum_ptr + t * step + at, z, inside)
        z = z.to(tl.float32)  # the neuron reads the sum as it is kept
        if KIND != 2:
            spikes, v = _fired(z, v, tau, v_threshold, v_reset, levels, divisor, KIND, LEAK)
            tl.store(out_ptr + t * step + at, spikes.to(out_ptr.dtype.element_ty), inside)
        if CODE:
            tl.store(code_ptr + t * step + at, _code(z, _count(z, levels), levels), inside)


@jit
def _norm_sum_gradient(
    y_ptr, kept_ptr, grad_sum_ptr, grad_ptr, affine_ptr, total_ptr, part_ptr, E, C, inner, rounds,
    tau, v_threshold, v_reset, alpha, levels, divisor, SUM: tl.constexpr,
    T: tl.constexpr, KIND: tl.constexpr, LEAK: tl.constexpr, SURROGATE: tl.constexpr,
    INNERMOST: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The gradient g of the sum, that through its spikes and the other one, and a part of the sums of g and g * (y - mean).

    ``kept`` are the sums for neurons that fire, bytes for those that count.
    """
    part = tl.program_id(0)
    c = tl.program_id(1) * BN + tl.arange(0, BN)
    ok = c < C
    mean = tl.load(affine_ptr + 2 * C + c, ok, other=0.0)[None, :]
    step = tl.cast(E, tl.int64) * C
    plain = tl.zeros([BM, BN], tl.float32)
    centred = tl.zeros([BM, BN], tl.float32)
    for i in range(rounds):
        _, at, inside = _places(E, C, inner, part * rounds + i, INNERMOST, WIDE, BM, BN)
        if KIND == 0:
            one = tl.full([1, BN], 1.0, tl.float32)
            hidden = _membranes(kept_ptr, one, one * 0.0, at, inside, step, tau, v_threshold, v_reset, T, KIND, LEAK)
        gv = tl.zeros([BM, BN], tl.float32)
        for j in tl.static_range(T):  # an index into a tuple has to stay a constant: no name for T - 1 - j
            g = tl.load(grad_ptr + (T - 1 - j) * step + at, inside, other=0.0).to(tl.float32)
            if KIND == 0:
                g, gv = _back(hidden[T - 1 - j], g, gv, tau, v_threshold, alpha, levels, divisor, KIND, LEAK, SURROGATE)
            else:
                g = _through(g, tl.load(kept_ptr + (T - 1 - j) * step + at, inside, other=0), divisor)
            if SUM:
                g += tl.load(grad_sum_ptr + (T - 1 - j) * step + at, inside, other=0.0).to(tl.float32)
            g = g.to(total_ptr.dtype.element_ty)
            tl.store(total_ptr + (T - 1 - j) * step + at, g, inside)
            g = tl.where(inside, g.to(tl.float32), 0.0)
            y = tl.load(y_ptr + (T - 1 - j) * step + at, inside, other=0.0).to(tl.float32)
            plain += g
            centred += g * (y - mean)
    tl.store(part_ptr + part * 2 * C + c, tl.sum(plain, 0), ok)
    tl.store(part_ptr + (part * 2 + 1) * C + c, tl.sum(centred, 0), ok)
