"""Spike-masked autoencoder (Spike-driven Transformer V3, TPAMI 2025, arXiv 2411.16061)."""

import torch
from mmpretrain.models import BaseSelfSupervisor
from torch import Tensor

from mmspike.models.backbones.e_spikeformer_large import ESpikeFormerLarge
from mmspike.registry import MODELS


def patchify(images: Tensor, size: int) -> Tensor:
    """[B, C, H, W] -> [B, N, size * size * C]: patches row by row, in each the pixels row by row with channels last."""
    B, C, H, W = images.shape
    patches = images.reshape(B, C, H // size, size, W // size, size).permute(0, 2, 4, 3, 5, 1)
    return patches.reshape(B, -1, size * size * C)


def unpatchify(patches: Tensor, size: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of :func:`patchify` for a ``grid`` of (rows, columns) of patches."""
    B, C = patches.shape[0], patches.shape[-1] // size**2
    pixels = patches.reshape(B, *grid, size, size, C).permute(0, 5, 1, 3, 2, 4)
    return pixels.reshape(B, C, grid[0] * size, grid[1] * size)


@MODELS.register_module()
class SpikeMAE(BaseSelfSupervisor):
    """Pretraining of the large E-SpikeFormer: parts of an image are hidden, and a decoder paints them from the rest.

    A share of the patches, each as large as the encoder's stride, is hidden. The encoder's convolutional parts see visible
    positions only; hidden patches enter its transformer as zeros and leave it as tokens that tell what their neighbours are.
    The loss is the mean squared error of hidden patches against their pixels, normalised within each patch.

    The mask is drawn anew in every call, from torch's generator of the image's device, and passed on as an argument: nothing
    is kept between calls, and models do not see each other's.

    Args:
        backbone: Config of a :class:`mmspike.ESpikeFormerLarge` whose last stage is among ``out_indices``. Images are a
            multiple of its last stride, H and W apart.
        neck: Config of the decoder, :class:`SpikeMAEDecoder`.
        mask_ratio: Share of the patches that is hidden, in (0, 1); at least one patch is hidden and one visible.
        token_order: 'place': the decoder gets every token with the position that it has. 'shuffled': it gets at position i
            the token of place r(i), where r(i) is the rank of patch i in the random order by which patches are hidden. So does
            the published code; place and position then agree by chance only. 'shuffled' is there to compute what it does.
        data_preprocessor: mmpretrain's ``SelfSupDataPreprocessor``.
        init_cfg: mmengine's.

    Raises:
        ValueError: The backbone takes no mask or leaves out its last stage, the decoder's patches or channels are not the
            backbone's, or another argument is out of range.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        mask_ratio: float = 0.5,
        token_order: str = 'place',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio must be in (0, 1), got {mask_ratio}')
        if token_order not in ('place', 'shuffled'):
            raise ValueError(f"token_order must be 'place' or 'shuffled', got {token_order!r}")
        super().__init__(backbone | dict(temporal_output='keep'), neck, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if not isinstance(self.backbone, ESpikeFormerLarge):
            raise ValueError(f'SpikeMAE needs the backbone mmspike.ESpikeFormerLarge, got {type(self.backbone).__name__}')
        given = (self.backbone.out_strides[-1], self.backbone.out_channels[-1])
        if self.backbone._positions[-1] != len(self.backbone.stages):
            raise ValueError('SpikeMAE decodes the last stage of the backbone: put -1 into its out_indices')
        if given != (self.neck.patch_size, self.neck.in_channels):
            raise ValueError(
                f'the decoder has patch_size={self.neck.patch_size} and in_channels={self.neck.in_channels}, but the '
                f'backbone ends at stride {given[0]} with {given[1]} channels'
            )
        self.mask_ratio = mask_ratio
        self.token_order = token_order

    def reconstruct(self, images: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Hide patches of preprocessed images and paint them.

        Args:
            images: [B, C, H, W].
            noise: [B, N], N patches: those with the smallest values of an image stay visible. None: drawn at random.

        Returns:
            ``prediction`` [B, N, pixels of a patch] in normalised pixels (see :func:`patchify`), ``visible`` [B, N] bool, and
            ``latent`` [B, N, C], the encoder's tokens after their norm.
        """
        size = self.neck.patch_size
        B, _, H, W = images.shape
        if H % size or W % size or H * W == size * size:
            raise ValueError(f'images must be a multiple of {size} px and have two patches or more, got {H} x {W} px')
        grid = (H // size, W // size)
        n = grid[0] * grid[1]
        if noise is None:
            noise = torch.rand(B, n, device=images.device)
        rank = noise.argsort(1).argsort(1)
        visible = rank < min(max(int(n * (1 - self.mask_ratio)), 1), n - 1)
        latent = self.neck.tokens(self.backbone(images, visible.view(B, *grid))[-1])
        tokens = latent
        if self.token_order == 'shuffled':
            tokens = latent.gather(1, rank.unsqueeze(-1).expand_as(latent))
        return dict(prediction=self.neck(tokens, grid), visible=visible, latent=latent)

    def target(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Patches [B, N, pixels] with mean 0 and variance 1 each, and their means and deviations [B, N, 1]."""
        patches = patchify(images, self.neck.patch_size)
        mean = patches.mean(-1, keepdim=True)
        deviation = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        return (patches - mean) / deviation, mean, deviation

    def reconstruction_loss(self, images: Tensor, result: dict[str, Tensor]) -> Tensor:
        """Mean squared error of the hidden patches of what :meth:`reconstruct` gives."""
        error = (result['prediction'] - self.target(images)[0]).square().mean(-1)
        hidden = ~result['visible']
        return (error * hidden).sum() / hidden.sum()

    def loss(self, inputs: Tensor, data_samples: list | None = None, **kwargs) -> dict[str, Tensor]:
        """Loss of preprocessed images [B, C, H, W]; labels are not looked at."""
        return dict(loss=self.reconstruction_loss(inputs, self.reconstruct(inputs)))

    @torch.no_grad()
    def paint(self, images: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Pictures of what the model does, in preprocessed pixels.

        A patch's mean and deviation, which the model does not predict, are those of the image.

        Returns:
            ``masked``: the image with hidden patches 0; ``painted``: the prediction everywhere; ``pasted``: the image with the
            prediction in hidden patches; all [B, C, H, W]. ``visible`` [B, N].
        """
        size = self.neck.patch_size
        grid = (images.shape[-2] // size, images.shape[-1] // size)
        result = self.reconstruct(images, noise)
        visible = result['visible']
        _, mean, deviation = self.target(images)
        painted = unpatchify(result['prediction'] * deviation + mean, size, grid)
        seen = visible.view(-1, 1, *grid).repeat_interleave(size, 2).repeat_interleave(size, 3)
        return dict(masked=images * seen, painted=painted, pasted=torch.where(seen, images, painted), visible=visible)
