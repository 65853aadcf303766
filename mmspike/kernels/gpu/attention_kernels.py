"""The kernels of attention.py: q (k^T v) of every head, and the neuron on it.

A program of the first and last kernel has one image, step and head, and sums over all tokens; one of the others has some tokens
of an image and head, and walks over the steps. q, k and v are channels of one tensor: token n of channel c stands
n * sn + c * sc behind the first of its image, and images stand si apart (si_o and sn_o: in the output, which has v's channels
alone). Sums of counts are whole in float32 whatever their order, and so are products of three TF32 parts, which have 33 bits.
"""

from .integer import _byte
from .launch import jit, tl
from .lif import _charge
from .norm_neuron_kernels import _back, _fired


@jit
def _load(ptr, base, n, c, N, sn, sc, width: tl.constexpr):
    """A tile [tokens, channels] in float32, 0 beyond the last of both."""
    at = n.to(tl.int64)[:, None] * sn + c[None, :] * sc
    return tl.load(ptr + base + at, (n < N)[:, None] & (c < width)[None, :], other=0.0).to(tl.float32)


@jit
def _save(ptr, base, n, c, N, sn, sc, values, width: tl.constexpr):
    at = n.to(tl.int64)[:, None] * sn + c[None, :] * sc
    tl.store(ptr + base + at, values.to(ptr.dtype.element_ty), (n < N)[:, None] & (c < width)[None, :])


@jit
def _base(image, head, si, sc, width: tl.constexpr):
    return tl.cast(image, tl.int64) * si + tl.cast(head, tl.int64) * width * sc


@jit
def _keys_values(
    k_ptr, v_ptr, kv_ptr, N, si, sn, sc, HEADS: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    PD: tl.constexpr, PV: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """k^T v [images, heads, D, DV]."""
    image = tl.program_id(0) // HEADS
    head = tl.program_id(0) % HEADS
    d = tl.arange(0, PD)
    e = tl.program_id(1) * PV + tl.arange(0, PV)
    base = _base(image, head, si, sc, D)
    base_v = _base(image, head, si, sc, DV)
    sums = tl.zeros([PD, PV], tl.float32)
    for start in range(0, N, BN):
        n = start + tl.arange(0, BN)
        k = _load(k_ptr, base, n, d, N, sn, sc, D)
        sums += tl.dot(tl.trans(k), _load(v_ptr, base_v, n, e, N, sn, sc, DV), input_precision='tf32x3')
    at = tl.cast(tl.program_id(0), tl.int64) * D * DV + d[:, None] * DV + e[None, :]
    tl.store(kv_ptr + at, sums, (d < D)[:, None] & (e < DV)[None, :])


@jit
def _matrix(kv_ptr, image, head, d, e, HEADS: tl.constexpr, D: tl.constexpr, DV: tl.constexpr):
    at = (tl.cast(image, tl.int64) * HEADS + head) * D * DV + d[:, None] * DV + e[None, :]
    return tl.load(kv_ptr + at, (d < D)[:, None] & (e < DV)[None, :], other=0.0)


@jit
def _attention_forward(
    q_ptr, kv_ptr, out_ptr, code_ptr, B, N, si, sn, si_o, sn_o, sc, scale, tau, v_threshold, v_reset, levels, divisor,
    CODE: tl.constexpr, T: tl.constexpr, KIND: tl.constexpr, LEAK: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr,
    DV: tl.constexpr, PD: tl.constexpr, PV: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """N(q (k^T v) * scale), and the same as bytes."""
    b = tl.program_id(0) // HEADS
    head = tl.program_id(0) % HEADS
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    d = tl.arange(0, PD)
    e = tl.program_id(2) * PV + tl.arange(0, PV)
    v = tl.zeros([BN, PV], tl.float32) + v_reset
    for t in range(T):
        image = t * B + b
        q = _load(q_ptr, _base(image, head, si, sc, D), n, d, N, sn, sc, D)
        kv = _matrix(kv_ptr, image, head, d, e, HEADS, D, DV)
        z, v = _fired(
            tl.dot(q, kv, input_precision='tf32x3') * scale, v, tau, v_threshold, v_reset, levels, divisor, KIND, LEAK
        )
        base = _base(image, head, si_o, sc, DV)
        _save(out_ptr, base, n, e, N, sn_o, sc, z, DV)
        if CODE:
            _save(code_ptr, base, n, e, N, sn_o, sc, _byte(z, divisor), DV)


@jit
def _attention_sums_back(
    q_ptr, kv_ptr, grad_ptr, gsum_ptr, gq_ptr, B, N, si, sn, si_o, sn_o, sc, scale,
    tau, v_threshold, v_reset, alpha, levels, divisor,
    T: tl.constexpr, KIND: tl.constexpr, LEAK: tl.constexpr, SURROGATE: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr,
    DV: tl.constexpr, PD: tl.constexpr, PV: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The gradients of q (k^T v), tokens before channels of a head, and of q."""
    b = tl.program_id(0) // HEADS
    head = tl.program_id(0) % HEADS
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    d = tl.arange(0, PD)
    e = tl.arange(0, PV)
    v = tl.zeros([BN, PV], tl.float32) + v_reset
    hidden = ()
    for t in tl.static_range(T):
        q = _load(q_ptr, _base(t * B + b, head, si, sc, D), n, d, N, sn, sc, D)
        h = tl.dot(q, _matrix(kv_ptr, t * B + b, head, d, e, HEADS, D, DV), input_precision='tf32x3') * scale
        if KIND == 0:
            h = _charge(h, v, tau, v_reset, LEAK)
            v = tl.where(h >= v_threshold, v_reset, h)
        hidden = hidden + (h,)
    gv = tl.zeros([BN, PV], tl.float32)
    for j in tl.static_range(T):
        image = (T - 1 - j) * B + b
        g = _load(grad_ptr, _base(image, head, si_o, sc, DV), n, e, N, sn_o, sc, DV)
        g, gv = _back(hidden[T - 1 - j], g, gv, tau, v_threshold, alpha, levels, divisor, KIND, LEAK, SURROGATE)
        g = tl.where((n < N)[:, None] & (e < DV)[None, :], g * scale, 0.0)
        kv = _matrix(kv_ptr, image, head, d, e, HEADS, D, DV)
        gq = tl.dot(g, tl.trans(kv), input_precision='tf32x3')
        _save(gq_ptr, _base(image, head, si, sc, D), n, d, N, sn, sc, gq, D)
        _save(gsum_ptr, (tl.cast(image, tl.int64) * HEADS + head) * N * DV, n, e, N, DV, 1, g, DV)


@jit
def _attention_factors_back(
    q_ptr, k_ptr, v_ptr, gsum_ptr, gk_ptr, gv_ptr, N, si, sn, sc, HEADS: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    PD: tl.constexpr, PV: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The gradients of k and v: those of k^T v first, then over all tokens again."""
    image = tl.program_id(0) // HEADS
    head = tl.program_id(0) % HEADS
    d = tl.arange(0, PD)
    e = tl.arange(0, PV)
    base = _base(image, head, si, sc, D)
    base_v = _base(image, head, si, sc, DV)
    base_g = tl.cast(tl.program_id(0), tl.int64) * N * DV
    gkv = tl.zeros([PD, PV], tl.float32)
    for start in range(0, N, BN):
        n = start + tl.arange(0, BN)
        q = _load(q_ptr, base, n, d, N, sn, sc, D)
        gkv += tl.dot(tl.trans(q), _load(gsum_ptr, base_g, n, e, N, DV, 1, DV), input_precision='tf32x3')
    for start in range(0, N, BN):
        n = start + tl.arange(0, BN)
        v = _load(v_ptr, base_v, n, e, N, sn, sc, DV)
        k = _load(k_ptr, base, n, d, N, sn, sc, D)
        _save(gk_ptr, base, n, d, N, sn, sc, tl.dot(v, tl.trans(gkv), input_precision='tf32x3'), D)
        _save(gv_ptr, base_v, n, e, N, sn, sc, tl.dot(k, gkv, input_precision='tf32x3'), DV)
