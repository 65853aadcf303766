"""Decoder of the spike-masked autoencoder: an ordinary transformer, thrown away after pretraining."""

import torch
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from mmspike.registry import MODELS


def sincos_positions(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """Fixed positions of a grid's cells, row by row, [height * width, dim], with dtype and device of ``like``.

    The first half encodes the column and the second the row, each as sines and then cosines of dim / 4 frequencies from 1
    down to 1 / 10000 (Masked Autoencoders, arXiv 2111.06377).
    """
    if dim % 4:
        raise ValueError(f'positions in two dimensions need a width that is a multiple of 4, got {dim}')
    frequencies = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing='ij'
    )
    angles = [axis.flatten().outer(frequencies) for axis in (columns, rows)]
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1).to(like)


@MODELS.register_module()
class SpikeMAEDecoder(BaseModule):
    """Batch norm of the encoder's tokens, linear map, fixed positions, ViT blocks, layer norm, linear map to pixels.

    Spike-driven Transformer V3, arXiv 2411.16061. It holds no neuron.

    Args:
        in_channels: Channels of the encoder's last feature.
        patch_size: Side of a patch in px: the encoder's stride.
        image_channels: Channels of the image.
        dim: Width, a multiple of 4 and of ``num_heads``.
        depth: ViT blocks.
        num_heads: Heads of the ViT blocks.
        mlp_ratio: Hidden width of their MLPs over ``dim``.
        init_cfg: mmengine's; the default is truncated normal 0.02 with bias 0.
    """

    def __init__(
        self,
        in_channels: int,
        patch_size: int = 16,
        image_channels: int = 3,
        dim: int = 256,
        depth: int = 4,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0))
        self.in_channels = in_channels
        self.patch_size = patch_size
        self.dim = dim
        self.norm = nn.BatchNorm1d(in_channels)
        self.embed = nn.Linear(in_channels, dim)
        layer_norm = dict(type='LN', eps=1e-6)
        self.blocks = nn.ModuleList(
            TransformerEncoderLayer(dim, num_heads, int(mlp_ratio * dim), qkv_bias=False, norm_cfg=layer_norm)
            for _ in range(depth)
        )
        self.ln = nn.LayerNorm(dim, eps=1e-6)
        self.pred = nn.Linear(dim, patch_size**2 * image_channels)

    def tokens(self, feature: Tensor) -> Tensor:
        """Normalised tokens [B, N, C] of a feature [T, B, C, h, w], averaged over T."""
        return self.norm(feature.mean(0).flatten(2)).transpose(1, 2)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Pixels [B, N, patch_size**2 * image_channels] of tokens [B, N, C] that lie row by row on ``grid``, (h, w)."""
        x = self.embed(tokens)
        x = x + sincos_positions(*grid, self.dim, like=x)
        for block in self.blocks:
            x = block(x)
        return self.pred(self.ln(x))
