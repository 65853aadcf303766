"""Products of spikes in attentions, which save nothing but what the spikes are computed from; on the CPU."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .layout import images, rows
from .recompute import Signal, derived


class _Product(torch.autograd.Function):
    """A product of tensors by its two passes, each tensor with what it is computed from anew."""

    @staticmethod
    def forward(ctx, product, anew, *factors):
        ctx.product, ctx.compute, ctx.lengths = product, [a.compute for a in anew], [len(a.tensors) for a in anew]
        ctx.save_for_backward(*(t for a in anew for t in a.tensors))
        return product.forward(*factors)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        kept, factors = list(ctx.saved_tensors), []
        for compute, n in zip(ctx.compute, ctx.lengths, strict=True):
            factors.append(compute(*kept[:n]))
            del kept[:n]
        return None, None, *ctx.product.backward(*factors, grad)


class Linear:
    """q (k^T v) for every head, linear in the number of tokens; q may have another number of them than k and v."""

    def __init__(self, heads: int) -> None:
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        kv = self._split(k).transpose(-2, -1) @ self._split(v)
        return self._join(self._split(q) @ kv, (*v.shape[:3], *q.shape[3:]))

    def backward(self, q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shapes = [x.shape for x in (q, k, v)]
        q, k, v, grad = map(self._split, (q, k, v, grad))
        kv = k.transpose(-2, -1) @ v
        grad_kv = q.transpose(-2, -1) @ grad
        grads = grad @ kv.transpose(-2, -1), v @ grad_kv.transpose(-2, -1), k @ grad_kv
        q, k, v = (self._join(g, s) for g, s in zip(grads, shapes, strict=True))
        return q, k, v

    def _split(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] -> [T*B, heads, H*W, C / heads]."""
        split = rows(x).view(-1, x.shape[-2] * x.shape[-1], self.heads, x.shape[2] // self.heads)
        return split.transpose(1, 2).contiguous()

    def _join(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """[T*B, heads, H*W, C / heads] -> [T, B, C, H, W] of ``shape``, channels innermost in memory."""
        T, B, C, H, W = shape
        return images(x.transpose(1, 2).reshape(T, B, H, W, C))


class Sums:
    """The sums over all tokens of the products a * b of a channel, [T, B, C, 1, 1]."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((3, 4), keepdim=True, dtype=torch.promote_types(a.dtype, torch.float32))

    def backward(self, a: Tensor, b: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad * b, grad * a


class Masked:
    """x [T, B, C, H, W] where a mask [T, B, heads, H or 1, W or 1] lets the channels of a head pass: their product."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x.unflatten(2, (mask.shape[2], -1)) * mask.unsqueeze(3)).flatten(2, 3)

    def backward(self, x: Tensor, mask: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, grad, mask = (a.unflatten(2, (mask.shape[2], -1)) for a in (x, grad, mask))
        return (grad * mask).flatten(2, 3), (grad * x).sum_to_size(mask.shape).flatten(2, 3)


def multiply(product: Linear | Sums | Masked, *factors: Signal) -> Signal:
    """The product of tensors, of which none is saved that can be computed anew."""
    anew = [factor.back() for factor in factors]
    out = _Product.apply(product, anew, *(factor.x for factor in factors))
    return Signal(out, anew=derived(product.forward, *anew))
