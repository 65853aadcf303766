"""Orders in memory: [T, B, C, H, W] with channels innermost is what the kernels work on."""

import torch
from torch import Tensor


def fold(x: Tensor) -> Tensor:
    """[T, B, ...] -> [T*B, ...], a view."""
    # flattening 1 x 1 would leave a stride by which PyTorch does not know channels-last memory any more
    return x.squeeze(0) if x.shape[0] == 1 else x.flatten(0, 1)


def unfold(x: Tensor, T: int) -> Tensor:
    """[T*B, ...] -> [T, B, ...], a view. B may be 0."""
    return x.unflatten(0, (T, x.shape[0] // T))


def rows(x: Tensor) -> Tensor:
    """[T, B, C, H, W] -> [T, B, H, W, C], contiguous; a view of channels-last memory. [T, B, C] as it is."""
    return (x.permute(0, 1, 3, 4, 2) if x.dim() == 5 else x).contiguous()


def images(x: Tensor) -> Tensor:
    """[T, B, H, W, C] -> [T, B, C, H, W], a view; [T, B, C] as it is."""
    return x.permute(0, 1, 4, 2, 3) if x.dim() == 5 else x


def channels_last(x: Tensor) -> Tensor:
    """[N, C, H, W] with channels innermost in memory; [N, C] contiguous."""
    if x.dim() != 4:
        return x.contiguous()
    x = x.contiguous(memory_format=torch.channels_last)
    step = x.numel() // max(x.shape[0], 1)
    # of one image the outermost stride says nothing, but by another one convolutions would put it in a new order first
    return x if x.shape[0] != 1 or x.stride(0) == step else x.as_strided(x.shape, (step, *x.stride()[1:]))


def in_one_piece(x: Tensor) -> Tensor:
    """``x`` if its elements lie in one piece, in whatever order; else a contiguous copy."""
    return x if torch.ops.aten.is_non_overlapping_and_dense(x) else x.contiguous()


class _Contiguous(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.reshape(-1).view(x.shape)  # which also sets the strides of sizes of 1

    @staticmethod
    def backward(ctx, grad):
        return grad.reshape(-1).view(grad.shape)


def contiguous_both_ways(x: Tensor) -> Tensor:
    """``x`` in the order of its dimensions, and its gradient as well."""
    return _Contiguous.apply(x)


def dense(x: Tensor) -> Tensor:
    """``x`` [T, ...] if its elements lie in one piece, time outermost; else a copy that keeps the order within a step."""
    step = x.numel() // x.shape[0]
    if not torch.ops.aten.is_non_overlapping_and_dense(x[0]):
        return x.contiguous()
    return x if x.stride(0) == step else x.new_empty_strided(x.shape, (step, *x.stride()[1:])).copy_(x)


def in_layout_of(like: Tensor, x: Tensor) -> Tensor:
    """``x``, broadcast to the shape of ``like``, with its strides."""
    return x if x.shape == like.shape and x.stride() == like.stride() else torch.empty_like(like, dtype=x.dtype).copy_(x)
