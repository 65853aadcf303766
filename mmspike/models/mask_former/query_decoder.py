"""The query decoder of Spike2Former: attention without softmax between queries and pixels, and among queries."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmspike.kernels.recompute import Signal
from mmspike.models.layers import MLP, ConvNorm, Residual, SpikeAttention, channels_inside, run, walk


class QueryAttention(SpikeAttention):
    """Attention without softmax of queries on keys of another number: q (k^T v) / sqrt(C), then N - 1x1 - norm.

    Each of q, k, v is N(norm(1x1(N(x)))). The order of the products makes the cost linear in the number of pixels.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        neuron: Neuron config.
        norm_cfg: Norm config.
        num_keys: Keys in training: the scale is 1000 / (C of a head x keys), with which the mean product is 1 where the mean of
            q, k and v is 0.1, as at the start. None: 1 / sqrt(C), as published; of few keys no product fires then.

    Values are x plus what marks their level, keys also have their places. Both are made here, so that they are gone as soon as
    their spikes are there.

    Shape:
        Queries [T, B, C, Q, 1], x [T, B, C, H, W], places [C, H, W] and levels [C, 1, 1] -> [T, B, C, Q, 1]; membranes.

    Example:
        >>> import torch
        >>> from mmspike.models.mask_former import QueryAttention
        >>> attention = QueryAttention(8, 2, dict(type='LIF'), dict(type='BN'))
        >>> attention(torch.randn(4, 2, 8, 10, 1), torch.randn(4, 2, 8, 6, 6), torch.randn(8, 6, 6)).shape
        torch.Size([4, 2, 8, 10, 1])
    """

    pairs_tokens = False  # queries are no places of an image

    def __init__(self, dim: int, num_heads: int, neuron: dict, norm_cfg: dict, num_keys: int | None = None) -> None:
        super().__init__(dim, num_heads, lambda which: ConvNorm(dim, dim, bias=True, norm_cfg=norm_cfg), neuron)
        self.scale = dim**-0.5 if num_keys is None else 10**3 / (dim // num_heads * num_keys)

    def _mix_on_cuda(self, q: Signal, k: Signal, v: Signal) -> None:
        return None  # the kernel has as many queries as keys

    def forward(  # type: ignore[override]
        self, query: Tensor, x: Tensor, place: Tensor, level: Tensor | float = 0.0
    ) -> Tensor:
        q = walk([self.neuron, self.q_conv, self.q_neuron], Signal(query), alone=True)
        k = walk([self.neuron, self.k_conv, self.k_neuron], Signal(x + level + place), alone=True)
        v = walk([self.neuron, self.v_conv, self.v_neuron], Signal(x + level), alone=True)
        return run([self.proj_conv], self.mix(q, k, v))


class QueryLayer(nn.Module):
    """x + cross attention, x + self attention, x + MLP; places are added to queries and keys."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_channels: int,
        neuron: dict,
        norm_cfg: dict,
        num_pixels: int | None = None,
        num_queries: int | None = None,
    ) -> None:
        super().__init__()
        self.cross_attention = QueryAttention(dim, num_heads, neuron, norm_cfg, num_pixels)
        self.self_attention = QueryAttention(dim, num_heads, neuron, norm_cfg, num_queries)
        self.ffn = Residual(dict(mlp=MLP(dim, mlp_channels / dim, neuron, norm_cfg)))

    def forward(self, x: Tensor, place: Tensor, pixels: Tensor, pixel_place: Tensor, level: Tensor) -> Tensor:
        x = x + self.cross_attention(x + place, pixels, pixel_place, level)
        x = x + self.self_attention(x + place, x, place)
        return self.ffn(x)


class SpikingQueryDecoder(nn.Module):
    """Learned queries that read the levels of a pyramid, one a layer in turns.

    Args:
        channels: Width E, a multiple of ``num_heads``.
        num_queries: Queries Q.
        num_layers: Layers.
        num_heads: Attention heads.
        mlp_channels: Hidden width of the MLPs.
        num_levels: Levels.
        neuron: Neuron config.
        norm_cfg: Norm config.
        num_pixels: Pixels of the levels in training, see :class:`QueryAttention`.

    Shape:
        Levels [T, B, E, H_i, W_i] -> queries [T, B, E, Q, 1], at the start and after every layer.
    """

    def __init__(
        self,
        channels: int,
        num_queries: int,
        num_layers: int,
        num_heads: int,
        mlp_channels: int,
        num_levels: int,
        neuron: dict,
        norm_cfg: dict,
        num_pixels: Sequence[int] | None = None,
    ) -> None:
        from mmdet.models.layers import SinePositionalEncoding

        super().__init__()
        self.query_feat = nn.Embedding(num_queries, channels)
        self.query_embed = nn.Embedding(num_queries, channels)
        self.level_embed = nn.Embedding(num_levels, channels)
        self.positions = SinePositionalEncoding(num_feats=channels // 2, normalize=True)
        whole = isinstance(num_pixels, Sequence) and all(isinstance(n, int) and n > 0 for n in num_pixels)
        if num_pixels is not None and not (whole and len(num_pixels) == num_levels):
            raise ValueError(
                f'num_pixels must be a whole number from 1 on for each of {num_levels} levels (num_levels), coarsest first, '
                f'such as {[8**2 * 4**i for i in range(num_levels)]} for images of 128 x 128 px, got {num_pixels}'
            )
        scales = [(None, None) if num_pixels is None else (num_pixels[i % num_levels], num_queries) for i in range(num_layers)]
        self.layers = nn.ModuleList(QueryLayer(channels, num_heads, mlp_channels, neuron, norm_cfg, *s) for s in scales)

    def init_weights(self) -> None:
        """Xavier uniform, as MaskFormer's decoder; embeddings stay normal. A layer adds nothing at the start.

        The factors of the last norms of its branches are 0 (arXiv 1706.02677). With 1, as published, the gradients that come
        through attention are noise, and the largest that pixel decoder and backbone have: most neurons on the products are
        silent, and norms on what is constant multiply gradients by 316.
        """
        for p in self.layers.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
        for layer in self.layers:
            for last in (layer.cross_attention.proj_conv, layer.self_attention.proj_conv, layer.ffn.mlp.fc2):
                nn.init.zeros_(last.norm.weight)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        T, B = levels[0].shape[:2]
        pixels = [channels_inside(x) for x in levels]
        marks = [e.view(-1, 1, 1).to(levels[0].dtype) for e in self.level_embed.weight]
        # an image's size is that of its batch: padding has places as well
        whole = (torch.zeros(1, *x.shape[-2:], dtype=torch.bool, device=x.device) for x in levels)
        places = [self.positions(mask).to(levels[0].dtype) for mask in whole]
        queries, place = (
            e.weight.t().unsqueeze(-1).to(levels[0].dtype).expand(T, B, -1, -1, -1) for e in (self.query_feat, self.query_embed)
        )
        states = [queries]
        for i, layer in enumerate(self.layers):
            level = i % len(levels)
            states.append(layer(states[-1], place, pixels[level], places[level], marks[level]))
        return states
