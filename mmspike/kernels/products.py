"""Products of spikes in attentions, which save nothing but what the spikes are computed from; on the CPU."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .layout import images, rows
from .recompute import Signal, derived


class _Product(torch.autograd.Function):
    """A product of tensors by its two passes, each tensor with what it is computed from anew.

    ``backward`` of a product is told whether the factors are its own, to be overwritten.
    """

    @staticmethod
    def forward(ctx, product, anew, *factors):
        ctx.product, ctx.compute, ctx.lengths = product, [a.compute for a in anew], [len(a.tensors) for a in anew]
        ctx.owned = all(a.made for a in anew)
        ctx.save_for_backward(*(t for a in anew for t in a.tensors))
        return product.forward(*factors)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        kept, factors = list(ctx.saved_tensors), []
        for compute, n in zip(ctx.compute, ctx.lengths, strict=True):
            factors.append(compute(*kept[:n]))
            del kept[:n]
        return None, None, *ctx.product.backward(*factors, grad, ctx.owned)


#: elements of a factor that are put in the order of heads at once
PIECE = 2**18


class Linear:
    """q (k^T v) for every head, linear in the number of tokens; q may have another number of them than k and v.

    Images are multiplied a few at a time: heads lie between channels, and putting them first takes a copy of several images.
    """

    def __init__(self, heads: int) -> None:
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        T, B, C = v.shape[:3]
        out = images(v.new_empty(T, B, *q.shape[3:], C))
        for qs, ks, vs, outs in self._pieces([q, k, v], [out]):
            outs.copy_(qs @ (ks.transpose(-2, -1) @ vs))
        return out

    def backward(self, q: Tensor, k: Tensor, v: Tensor, grad: Tensor, owned: bool) -> tuple[Tensor, Tensor, Tensor]:
        # gradients take the memory of factors that nobody else has
        grads = [images(rows(x) if owned else torch.empty_like(rows(x))) for x in (q, k, v)]
        for qs, ks, vs, gs, grad_q, grad_k, grad_v in self._pieces([q, k, v, grad], grads):
            grad_kv, kv = qs.transpose(-2, -1) @ gs, ks.transpose(-2, -1) @ vs
            grad_q.copy_(gs @ kv.transpose(-2, -1))
            tokens = max(1, PIECE // ks[:, :, 0].numel())
            for k_part, v_part, to_k, to_v in zip(*(x.split(tokens, 2) for x in (ks, vs, grad_k, grad_v)), strict=True):
                part = v_part @ grad_kv.transpose(-2, -1)
                to_v.copy_(k_part @ grad_kv)
                to_k.copy_(part)
        return grads[0], grads[1], grads[2]

    def _pieces(self, factors: list[Tensor], outs: list[Tensor]) -> Iterator[list[Tensor]]:
        """[T, B, C, H, W] each -> of some images at a time [n, heads, H*W, C / heads]; those of ``outs`` are views."""
        views = [
            rows(x).view(-1, x.shape[-2] * x.shape[-1], self.heads, x.shape[2] // self.heads).transpose(1, 2)
            for x in (*factors, *outs)
        ]
        n = max(1, PIECE // max(x[0].numel() for x in views))
        for pieces in zip(*(x.split(n) for x in views), strict=True):
            read = pieces[: len(factors)]
            yield [*(read if n == 1 else [x.contiguous() for x in read]), *pieces[len(factors) :]]


class Sums:
    """The sums over all tokens of the products a * b of a channel, [T, B, C, 1, 1]."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((3, 4), keepdim=True, dtype=torch.promote_types(a.dtype, torch.float32))

    def backward(self, a: Tensor, b: Tensor, grad: Tensor, owned: bool) -> tuple[Tensor, Tensor]:
        return grad * b, grad * a


class Masked:
    """x [T, B, C, H, W] where a mask [T, B, heads, H or 1, W or 1] lets the channels of a head pass: their product."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x.unflatten(2, (mask.shape[2], -1)) * mask.unsqueeze(3)).flatten(2, 3)

    def backward(self, x: Tensor, mask: Tensor, grad: Tensor, owned: bool) -> tuple[Tensor, Tensor]:
        x, grad, mask = (a.unflatten(2, (mask.shape[2], -1)) for a in (x, grad, mask))
        return (grad * mask).flatten(2, 3), (grad * x).sum_to_size(mask.shape).flatten(2, 3)


def multiply(product: Linear | Sums | Masked, *factors: Signal) -> Signal:
    """The product of tensors, of which none is saved that can be computed anew."""
    anew = [factor.back() for factor in factors]
    out = _Product.apply(product, anew, *(factor.x for factor in factors))
    return Signal(out, anew=derived(product.forward, *anew))
