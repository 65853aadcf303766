"""The query decoder of Spike2Former as one writes it down first: every layer a module of its own in PyTorch's eager mode.

What ``tools/benchmark.py`` compares the package's decoder with. Nothing is recomputed. Parameters carry the names of
``mmspike.models.mask_former.SpikingQueryDecoder``, so that one state dict fits both, and the outputs are the same.
"""

import torch
from mmdet.models.layers import SinePositionalEncoding
from straightforward import MLP as Block
from straightforward import ConvNorm, NaiveSFA
from torch import Tensor, nn


class MLP(Block):
    def __init__(self, dim: int, hidden: int, spike) -> None:
        super().__init__(dim, spike)
        self.fc1, self.fc2 = ConvNorm(dim, hidden, bias=True), ConvNorm(hidden, dim, bias=True)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, spike) -> None:
        super().__init__()
        self.heads, self.scale = heads, dim**-0.5
        self.neuron = spike()
        self.q_conv, self.k_conv, self.v_conv, self.proj_conv = (ConvNorm(dim, dim, bias=True) for _ in range(4))
        self.q_neuron, self.k_neuron, self.v_neuron, self.attn_neuron = spike(), spike(), spike(), spike()

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        T, B, C, Q, _ = query.shape
        q, k, v = (
            spike(conv(self.neuron(x))).reshape(T, B, self.heads, C // self.heads, -1).transpose(-1, -2)
            for x, conv, spike in (
                (query, self.q_conv, self.q_neuron),
                (key, self.k_conv, self.k_neuron),
                (value, self.v_conv, self.v_neuron),
            )
        )
        y = self.attn_neuron(q @ (k.transpose(-1, -2) @ v) * self.scale)
        return self.proj_conv(y.transpose(-1, -2).reshape(T, B, C, Q, 1))


class Layer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, spike) -> None:
        super().__init__()
        self.cross_attention, self.self_attention = Attention(dim, heads, spike), Attention(dim, heads, spike)
        self.ffn = nn.ModuleDict(dict(mlp=MLP(dim, hidden, spike)))

    def forward(self, x: Tensor, place: Tensor, pixels: Tensor, pixel_places: Tensor) -> Tensor:
        x = x + self.cross_attention(x + place, pixels + pixel_places, pixels)
        x = x + self.self_attention(x + place, x + place, x)
        return x + self.ffn['mlp'](x)


class QueryDecoder(nn.Module):
    """Maps [T, B, E, H_i, W_i] -> queries [T, B, E, Q, 1], at the start and after every layer."""

    def __init__(self, channels, num_queries, num_layers, num_heads, mlp_channels, num_levels, levels: int = 4) -> None:
        super().__init__()
        self.query_feat, self.query_embed = nn.Embedding(num_queries, channels), nn.Embedding(num_queries, channels)
        self.level_embed = nn.Embedding(num_levels, channels)
        self.positions = SinePositionalEncoding(num_feats=channels // 2, normalize=True)
        layer = lambda: Layer(channels, num_heads, mlp_channels, lambda: NaiveSFA(levels))  # noqa: E731
        self.layers = nn.ModuleList(layer() for _ in range(num_layers))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        pixels, places = [], []
        for x, embed in zip(maps, self.level_embed.weight, strict=True):
            places.append(self.positions(torch.zeros(1, *x.shape[-2:], dtype=torch.bool, device=x.device)).to(x.dtype))
            pixels.append(x + embed.view(-1, 1, 1))
        shape = (*maps[0].shape[:2], -1, -1, -1)
        x, place = (e.weight.t().unsqueeze(-1).expand(shape) for e in (self.query_feat, self.query_embed))
        states = [x]
        for i, layer in enumerate(self.layers):
            states.append(layer(states[-1], place, pixels[i % len(maps)], places[i % len(maps)]))
        return states
