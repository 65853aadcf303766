"""Parameters of layers that read the same spikes, copied side by side, so that the layers run as one."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Pack(torch.autograd.Function):
    """Rows of tensors joined along their first axis, in one launch for every dtype."""

    @staticmethod
    def forward(ctx, dtypes, sizes, *tensors):
        rows, packed = [], []
        for size in sizes:
            rows.append(tensors[:size])
            tensors = tensors[size:]
        for row, dtype in zip(rows, dtypes, strict=True):
            packed.append(row[0].new_empty(sum(len(t) for t in row), *row[0].shape[1:], dtype=dtype))
        for dtype in dict.fromkeys(dtypes):
            places: list[Tensor] = []
            values: list[Tensor] = []
            for row, whole in zip(rows, packed, strict=True):
                if whole.dtype == dtype:
                    places += whole.split([len(t) for t in row])
                    values += row
            torch._foreach_copy_(places, values)
        ctx.lengths, ctx.dtypes = [[len(t) for t in row] for row in rows], [t.dtype for row in rows for t in row]
        ctx.set_materialize_grads(False)
        return tuple(packed)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        parts: list[Tensor | None] = []
        for grad, lengths in zip(grads, ctx.lengths, strict=True):
            parts += [None] * len(lengths) if grad is None else grad.split(lengths)
        lifted = {i: part for i, part in enumerate(parts) if part is not None and part.dtype != ctx.dtypes[i]}
        copies = {i: torch.empty_like(part, dtype=ctx.dtypes[i]) for i, part in lifted.items()}
        if lifted:
            torch._foreach_copy_(list(copies.values()), list(lifted.values()))
        return None, None, *(copies.get(i, part) for i, part in enumerate(parts))


def pack(rows: Sequence[Sequence[Tensor]], dtypes: Sequence[torch.dtype]) -> tuple[Tensor, ...]:
    """The tensors of every row joined along the first axis, in its dtype."""
    return _Pack.apply(dtypes, [len(row) for row in rows], *(t for row in rows for t in row))


def write_back(packed: Sequence[Tensor], rows: Sequence[Sequence[Tensor]]) -> None:
    """The contents of joined tensors into those that they were joined from."""
    places = [t for row in rows for t in row]
    values = [part for whole, row in zip(packed, rows, strict=True) for part in whole.split([len(t) for t in row])]
    torch._foreach_copy_(places, values)
