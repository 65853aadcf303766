"""Operations that make a view of their argument count as the ones that are given it: exact events, whatever the unit."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike.models.neurons import SFA

from .counting import count, integer_counts

# what computes it, the same by products of matrices, the rows of spikes that it reads, and the outputs that a spike reaches
PRODUCTS = {
    'rows @ vector': (lambda s, m: s[0] @ m.vector, lambda s, m: s[0] @ m.vector[:, None], 3, 1),
    'matrix @ row': (lambda s, m: m.matrix @ s[0, 0], lambda s, m: s[0, :1] @ m.matrix.T, 1, 5),
    'addmv': (lambda s, m: torch.addmv(torch.zeros(5), m.matrix, s[0, 0]), lambda s, m: s[0, :1] @ m.matrix.T, 1, 5),
    'dot': (lambda s, m: torch.dot(s[0, 0], m.vector), lambda s, m: s[0, :1] @ m.vector[:, None], 1, 1),
}


class Product(nn.Module):
    def __init__(self, compute, levels: int) -> None:
        super().__init__()
        self.neurons = nn.ModuleList(SFA(levels) for _ in range(3))
        self.vector, self.matrix = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(5, 8))
        self.compute = compute

    def forward(self, *counts: Tensor) -> None:
        self.compute(*[neuron(x) for neuron, x in zip(self.neurons, counts, strict=False)], self)


def records(compute, levels: int, *counts: Tensor) -> list:
    counter = count(Product(compute, levels), *counts)
    assert not counter.unknown
    return list(counter.layers.values())


@pytest.mark.parametrize('levels', [1, 4])
@pytest.mark.parametrize('name', PRODUCTS)
def test_products_with_vectors(name, levels) -> None:
    x = integer_counts(levels, 1, 3, 8)
    x[0, 0, 0] = levels
    *ways, rows, reached = PRODUCTS[name]
    (given,), (plain,) = (records(compute, levels, x) for compute in ways)
    assert given.op == plain.op == 'linear' and given.fed == plain.fed == ('integers' if levels > 1 else 'binary spikes')
    assert given.events == plain.events == int(x[0, :rows].sum()) * reached
    assert (given.macs, given.spikes, given.max_count) == (plain.macs, plain.spikes, levels)


@pytest.mark.parametrize('levels', [1, 4])
@pytest.mark.parametrize('options', [dict(), dict(attn_mask=torch.zeros(6, 6)), dict(enable_gqa=True)], ids=str)
def test_scaled_dot_product_attention(levels, options) -> None:
    """Of spikes as of products by hand: a spike of q meets those of k, and one of v every row of the softmax."""
    heads = 1 if 'enable_gqa' in options else 2
    x = [integer_counts(levels, 1, 1, n, 6, 4) for n in (2, heads, heads)]

    def by_hand(q: Tensor, k: Tensor, v: Tensor, model: nn.Module) -> None:
        k, v = (y[0].expand(-1, 2, -1, -1) for y in (k, v))
        (q[0] @ k.transpose(-2, -1)).softmax(-1) @ v

    def fused(q: Tensor, k: Tensor, v: Tensor, model: nn.Module) -> None:
        F.scaled_dot_product_attention(q[0], k[0], v[0], **options)

    given, plain = records(fused, levels, *x), records(by_hand, levels, *x)
    q, k, v = (y[0, 0] for y in x)
    assert given[0].events == plain[0].events == int((q @ k.transpose(-2, -1)).sum())
    assert given[1].events == plain[1].events == int(v.expand(2, -1, -1).sum()) * 6
    assert [r.fed for r in given] == [r.fed for r in plain] and [r.macs for r in given] == [r.macs for r in plain]
