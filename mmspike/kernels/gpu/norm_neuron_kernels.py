"""The kernels of norm_neuron.py: batch norm, or two in a row, and the neuron behind it.

A step [B, C, H, W] is ``E`` elements of ``C`` channels, which are innermost in memory or stand ``inner`` elements apart. The
norm is y * scale + shift; ``affine`` [4, C] holds scale, shift, mean and 1 / (variance + eps) of each channel (the last for
training).
"""

from .integer import _count
from .launch import jit, tl
from .lif import _charge, _derivative, _fire


@jit
def _places(E, C, inner, row, INNERMOST: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Channels of a tile, offsets in a step, and which of them there are."""
    if WIDE:
        row = tl.cast(row, tl.int64)
    e = row * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BN + tl.arange(0, BN)
    wide = tl.cast(C, tl.int64)
    if INNERMOST:
        at = e[:, None] * wide + c[None, :]
    else:
        at = (e // inner)[:, None] * (wide * inner) + (e % inner)[:, None] + c[None, :] * tl.cast(inner, tl.int64)
    return c, at, (e < E)[:, None] & (c < C)[None, :]


@jit
def _affine(
    c, ok, mean_ptr, inverse_ptr, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, w2_ptr, b2_ptr, mean2_ptr, var2_ptr, eps1, eps2,
    TRAINING: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Scale, shift, mean, 1 / (variance + eps) and variance of what a norm, or two in a row, do to a channel."""
    w = tl.load(w1_ptr + c, ok, other=1.0)
    b = tl.load(b1_ptr + c, ok, other=0.0)
    if TRAINING:
        mean = tl.load(mean_ptr + c, ok, other=0.0)
        inverse = tl.load(inverse_ptr + c, ok, other=1.0)
        var = tl.div_rn(1.0, inverse * inverse) - eps1
        var = tl.where(var < 0, 0.0, var)
    else:
        mean = tl.load(mean1_ptr + c, ok, other=0.0)
        var = tl.load(var1_ptr + c, ok, other=1.0)
        inverse = tl.div_rn(1.0, tl.sqrt_rn(var + eps1))
    scale = w * inverse
    shift = b - mean * scale
    square = inverse * inverse
    if DOUBLE:
        w2 = tl.load(w2_ptr + c, ok, other=1.0)
        b2 = tl.load(b2_ptr + c, ok, other=0.0)
        if TRAINING:
            # the first's output has the mean b and the variance w^2 var / (var + eps1): two norms are one of another eps
            q = (w * w + eps2) * var + eps1 * eps2
            scale = tl.div_rn(w2 * w, tl.sqrt_rn(q))
            shift = b2 - mean * scale
            square = tl.div_rn(w * w + eps2, q)
        else:
            second = w2 * tl.div_rn(1.0, tl.sqrt_rn(tl.load(var2_ptr + c, ok, other=1.0) + eps2))
            shift = (shift - tl.load(mean2_ptr + c, ok, other=0.0)) * second + b2
            scale = scale * second
    return scale, shift, mean, square, var


@jit
def _move(c, ok, mean, var, mean_ptr, var_ptr, momentum, unbiased):
    """Running statistics towards those of a batch."""
    before = tl.load(mean_ptr + c, ok)
    tl.store(mean_ptr + c, before + momentum * (mean - before), ok)
    before = tl.load(var_ptr + c, ok)
    tl.store(var_ptr + c, before + momentum * (var * unbiased - before), ok)


@jit
def _counted(tracked_ptr):
    tl.store(tracked_ptr, tl.load(tracked_ptr) + 1)


@jit
def _keep(c, ok, C, affine_ptr, scale, shift, mean, square):
    tl.store(affine_ptr + c, scale, ok)
    tl.store(affine_ptr + C + c, shift, ok)
    tl.store(affine_ptr + 2 * C + c, mean, ok)
    tl.store(affine_ptr + 3 * C + c, square, ok)


@jit
def _learn(
    c, ok, mean, var, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, tracked1_ptr, mean2_ptr, var2_ptr, tracked2_ptr, eps1,
    momentum1, momentum2, unbiased, DOUBLE: tl.constexpr,
):  # fmt: skip
    """The running statistics and counters of a norm, or of two in a row."""
    _move(c, ok, mean, var, mean1_ptr, var1_ptr, momentum1, unbiased)
    if DOUBLE:
        w = tl.load(w1_ptr + c, ok)
        second = tl.div_rn(w * w * var, var + eps1)
        _move(c, ok, tl.load(b1_ptr + c, ok), second, mean2_ptr, var2_ptr, momentum2, unbiased)
    if tl.program_id(1) == 0:
        _counted(tracked1_ptr)
        if DOUBLE:
            _counted(tracked2_ptr)


@jit
def _normalised(
    row, c, ok, C, affine_ptr, mean_ptr, inverse_ptr, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, tracked1_ptr,
    w2_ptr, b2_ptr, mean2_ptr, var2_ptr, tracked2_ptr, eps1, eps2, momentum1, momentum2, unbiased,
    TRAINING: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """Scale and shift of the norms; the first programs of the channels keep them and move the running statistics."""
    scale, shift, mean, square, var = _affine(
        c, ok, mean_ptr, inverse_ptr, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, w2_ptr, b2_ptr, mean2_ptr, var2_ptr,
        eps1, eps2, TRAINING, DOUBLE,
    )  # fmt: skip
    if row == 0:
        _keep(c, ok, C, affine_ptr, scale, shift, mean, square)
        if TRAINING:
            _learn(
                c, ok, mean, var, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, tracked1_ptr, mean2_ptr, var2_ptr, tracked2_ptr, eps1,
                momentum1, momentum2, unbiased, DOUBLE,
            )  # fmt: skip
    return scale, shift


@jit
def _fired(z, v, tau, v_threshold, v_reset, levels, divisor, KIND: tl.constexpr, LEAK: tl.constexpr):
    """The output of a neuron for the input z, and the membrane v of the next step."""
    if KIND == 0:
        z, v = _fire(_charge(z, v, tau, v_reset, LEAK), v_threshold, v_reset)
    elif KIND == 1:
        z = tl.div_rn(_count(z, levels), divisor)
    return z, v


@jit
def _neurons(
    y_ptr, out_ptr, scale, shift, at, inside, step, tau, v_threshold, v_reset, levels, divisor,
    T: tl.constexpr, KIND: tl.constexpr, LEAK: tl.constexpr,
):  # fmt: skip
    v = tl.zeros_like(scale + at.to(tl.float32)) + v_reset
    for t in range(T):
        z = tl.load(y_ptr + t * step + at, inside, other=0.0).to(tl.float32) * scale + shift
        z, v = _fired(z, v, tau, v_threshold, v_reset, levels, divisor, KIND, LEAK)
        tl.store(out_ptr + t * step + at, z.to(out_ptr.dtype.element_ty), inside)


@jit
def _norm_neuron_forward(
    y_ptr, out_ptr, affine_ptr, mean_ptr, inverse_ptr, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, tracked1_ptr,
    w2_ptr, b2_ptr, mean2_ptr, var2_ptr, tracked2_ptr, E, C, inner, eps1, eps2, momentum1, momentum2, unbiased,
    tau, v_threshold, v_reset, levels, divisor, TRAINING: tl.constexpr, DOUBLE: tl.constexpr, T: tl.constexpr,
    KIND: tl.constexpr, LEAK: tl.constexpr, INNERMOST: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Neurons of the normalised y; the first programs of the channels keep ``affine`` and move the running statistics."""
    row = tl.program_id(0)
    c, at, inside = _places(E, C, inner, row, INNERMOST, WIDE, BM, BN)
    ok = c < C
    scale, shift = _normalised(
        row, c, ok, C, affine_ptr, mean_ptr, inverse_ptr, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, tracked1_ptr,
        w2_ptr, b2_ptr, mean2_ptr, var2_ptr, tracked2_ptr, eps1, eps2, momentum1, momentum2, unbiased, TRAINING, DOUBLE,
    )  # fmt: skip
    step = tl.cast(E, tl.int64) * C
    scale, shift = scale[None, :], shift[None, :]
    _neurons(y_ptr, out_ptr, scale, shift, at, inside, step, tau, v_threshold, v_reset, levels, divisor, T, KIND, LEAK)


@jit
def _affine_neuron(
    y_ptr, out_ptr, affine_ptr, E, C, inner, tau, v_threshold, v_reset, levels, divisor, T: tl.constexpr,
    KIND: tl.constexpr, LEAK: tl.constexpr, INNERMOST: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The same from ``affine``: spikes computed anew in the backward pass."""
    c, at, inside = _places(E, C, inner, tl.program_id(0), INNERMOST, WIDE, BM, BN)
    ok = c < C
    scale = tl.load(affine_ptr + c, ok, other=0.0)[None, :]
    shift = tl.load(affine_ptr + C + c, ok, other=0.0)[None, :]
    step = tl.cast(E, tl.int64) * C
    _neurons(y_ptr, out_ptr, scale, shift, at, inside, step, tau, v_threshold, v_reset, levels, divisor, T, KIND, LEAK)


@jit
def _border(
    affine_ptr, border_ptr, bias_ptr, kernel_ptr, mean_ptr, inverse_ptr, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, tracked1_ptr,
    C, eps1, momentum1, unbiased, TRAINING: tl.constexpr, TAPS: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """``affine`` of RepConv's first norm without the output for a zero input, and what that adds behind the kernel."""
    c = tl.program_id(0) * BN + tl.arange(0, BN)
    ok = c < C
    scale, shift, mean, square, var = _affine(
        c, ok, mean_ptr, inverse_ptr, w1_ptr, b1_ptr, mean1_ptr, var1_ptr, w1_ptr, b1_ptr, mean1_ptr, var1_ptr,
        eps1, 0.0, TRAINING, False,
    )  # fmt: skip
    mean1 = tl.load(mean1_ptr + c, ok, other=0.0)
    var1 = tl.load(var1_ptr + c, ok, other=1.0)
    if TRAINING:  # the border is that of the running statistics that this batch leaves
        mean1 = mean1 + momentum1 * (mean - mean1)
        var1 = var1 + momentum1 * (var * unbiased - var1)
        tl.store(mean1_ptr + c, mean1, ok)
        tl.store(var1_ptr + c, var1, ok)
        if tl.program_id(0) == 0:
            _counted(tracked1_ptr)
    border = tl.load(b1_ptr + c, ok, other=0.0) - tl.div_rn(mean1 * tl.load(w1_ptr + c, ok, other=0.0), tl.sqrt_rn(var1 + eps1))
    _keep(c, ok, C, affine_ptr, scale, shift - border, mean, square)
    total = tl.zeros_like(border)
    for i in range(TAPS):
        total += tl.load(kernel_ptr + c * TAPS + i, ok, other=0.0).to(tl.float32)
    tl.store(border_ptr + c, border, ok)
    tl.store(bias_ptr + c, (border * total).to(bias_ptr.dtype.element_ty), ok)


@jit
def _membranes(
    y_ptr, scale, shift, at, inside, step, tau, v_threshold, v_reset, T: tl.constexpr, KIND: tl.constexpr, LEAK: tl.constexpr
):
    """Membranes before firing of all steps, a tuple."""
    v = tl.zeros_like(scale + at.to(tl.float32)) + v_reset
    hidden = ()
    for t in tl.static_range(T):
        z = tl.load(y_ptr + t * step + at, inside, other=0.0).to(tl.float32) * scale + shift
        if KIND == 0:
            z = _charge(z, v, tau, v_reset, LEAK)
            v = tl.where(z >= v_threshold, v_reset, z)
        hidden = hidden + (z,)
    return hidden


@jit
def _back(h, g, gv, tau, v_threshold, alpha, levels, divisor, KIND: tl.constexpr, LEAK: tl.constexpr, SURROGATE: tl.constexpr):
    """The gradient behind the norm of a step, and that of the membrane before it."""
    if KIND == 0:
        u = h - v_threshold
        # the reset is detached: a neuron that fired passes nothing on through its membrane
        g = g * _derivative(u, alpha, SURROGATE) + tl.where(u >= 0, 0.0, gv)
        gv = g
        if LEAK == 1:
            g = tl.div_rn(g, tau)
            gv = gv - g
    elif KIND == 1:
        g = tl.where((h >= 0.0) & (h <= levels), tl.div_rn(g, divisor), g * 0.0)  # a NaN stays one
    return g, gv


@jit
def _norm_neuron_sums(
    y_ptr, grad_ptr, affine_ptr, part_ptr, E, C, inner, rounds, tau, v_threshold, v_reset, alpha, levels, divisor,
    T: tl.constexpr, KIND: tl.constexpr, LEAK: tl.constexpr, SURROGATE: tl.constexpr,
    INNERMOST: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A part of the sums over all elements of g and g * (y - mean), g the gradient of the normalised y."""
    part = tl.program_id(0)
    c = tl.program_id(1) * BN + tl.arange(0, BN)
    ok = c < C
    scale = tl.load(affine_ptr + c, ok, other=0.0)[None, :]
    shift = tl.load(affine_ptr + C + c, ok, other=0.0)[None, :]
    mean = tl.load(affine_ptr + 2 * C + c, ok, other=0.0)[None, :]
    step = tl.cast(E, tl.int64) * C
    plain = tl.zeros([BM, BN], tl.float32)
    centred = tl.zeros([BM, BN], tl.float32)
    for i in range(rounds):
        _, at, inside = _places(E, C, inner, part * rounds + i, INNERMOST, WIDE, BM, BN)
        hidden = _membranes(y_ptr, scale, shift, at, inside, step, tau, v_threshold, v_reset, T, KIND, LEAK)
        gv = tl.zeros([BM, BN], tl.float32)
        for j in tl.static_range(T):  # an index into a tuple has to stay a constant: no name for T - 1 - j
            g = tl.load(grad_ptr + (T - 1 - j) * step + at, inside, other=0.0).to(tl.float32)
            g, gv = _back(hidden[T - 1 - j], g, gv, tau, v_threshold, alpha, levels, divisor, KIND, LEAK, SURROGATE)
            g = tl.where(inside, g, 0.0)
            y = tl.load(y_ptr + (T - 1 - j) * step + at, inside, other=0.0).to(tl.float32)
            plain += g
            centred += g * (y - mean)
    tl.store(part_ptr + part * 2 * C + c, tl.sum(plain, 0), ok)
    tl.store(part_ptr + (part * 2 + 1) * C + c, tl.sum(centred, 0), ok)


@jit
def _norm_neuron_backward(
    y_ptr, grad_ptr, affine_ptr, part_ptr, gy_ptr, gparam_ptr, w1_ptr, b1_ptr, w2_ptr, mean2_ptr, var1_ptr, var2_ptr,
    E, C, inner, rounds, parts, count, eps1, eps2, tau, v_threshold, v_reset, alpha, levels, divisor,
    TRAINING: tl.constexpr, DOUBLE: tl.constexpr, T: tl.constexpr, KIND: tl.constexpr, LEAK: tl.constexpr,
    SURROGATE: tl.constexpr, INNERMOST: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The gradient of y, and those of the norms' parameters [4, C]: weight and bias of the first, then of the second."""
    c = tl.program_id(1) * BN + tl.arange(0, BN)
    ok = c < C
    scale = tl.load(affine_ptr + c, ok, other=0.0)
    shift = tl.load(affine_ptr + C + c, ok, other=0.0)
    mean = tl.load(affine_ptr + 2 * C + c, ok, other=0.0)
    square = tl.load(affine_ptr + 3 * C + c, ok, other=1.0)
    plain = tl.zeros_like(scale)
    centred = tl.zeros_like(scale)
    for part in range(parts):
        plain += tl.load(part_ptr + part * 2 * C + c, ok, other=0.0)
        centred += tl.load(part_ptr + (part * 2 + 1) * C + c, ok, other=0.0)
    if tl.program_id(0) == 0:
        gw = centred * tl.sqrt_rn(square)
        gb = plain
        if DOUBLE:
            w = tl.load(w1_ptr + c, ok, other=1.0)
            w2 = tl.load(w2_ptr + c, ok, other=1.0)
            if TRAINING:
                # square = (w^2 + eps2) / q with q = (w^2 + eps2) var + eps1 eps2, and scale = w2 w / sqrt(q)
                q = tl.div_rn(w * w + eps2, square)
                root = tl.sqrt_rn(q)
                var = tl.div_rn(q - eps1 * eps2, w * w + eps2)
                gw = tl.div_rn(centred * w2 * eps2 * (var + eps1), q * root)
                gb = tl.zeros_like(plain)  # the second takes the first's bias away again
                second = tl.div_rn(centred * w, root)
            else:
                inverse1 = tl.div_rn(1.0, tl.sqrt_rn(tl.load(var1_ptr + c, ok, other=1.0) + eps1))
                inverse2 = tl.div_rn(1.0, tl.sqrt_rn(tl.load(var2_ptr + c, ok, other=1.0) + eps2))
                b = tl.load(b1_ptr + c, ok, other=0.0) - tl.load(mean2_ptr + c, ok, other=0.0)
                gw = centred * inverse1 * w2 * inverse2
                gb = plain * w2 * inverse2
                second = (centred * w * inverse1 + plain * b) * inverse2
            tl.store(gparam_ptr + 2 * C + c, second, ok)
            tl.store(gparam_ptr + 3 * C + c, plain, ok)
        tl.store(gparam_ptr + c, gw, ok)
        tl.store(gparam_ptr + C + c, gb, ok)
    plain = tl.div_rn(plain, count)[None, :]
    centred = tl.div_rn(square * centred, count)[None, :]
    scale = scale[None, :]
    shift = shift[None, :]
    mean = mean[None, :]
    step = tl.cast(E, tl.int64) * C
    for i in range(rounds):
        _, at, inside = _places(E, C, inner, tl.program_id(0) * rounds + i, INNERMOST, WIDE, BM, BN)
        hidden = _membranes(y_ptr, scale, shift, at, inside, step, tau, v_threshold, v_reset, T, KIND, LEAK)
        gv = tl.zeros([BM, BN], tl.float32)
        for j in tl.static_range(T):
            g = tl.load(grad_ptr + (T - 1 - j) * step + at, inside, other=0.0).to(tl.float32)
            g, gv = _back(hidden[T - 1 - j], g, gv, tau, v_threshold, alpha, levels, divisor, KIND, LEAK, SURROGATE)
            if TRAINING:
                y = tl.load(y_ptr + (T - 1 - j) * step + at, inside, other=0.0).to(tl.float32)
                g = g - plain - (y - mean) * centred
            tl.store(gy_ptr + (T - 1 - j) * step + at, (g * scale).to(gy_ptr.dtype.element_ty), inside)
