"""Classes and masks of queries, by spikes: the mask embedding of Spike2Former."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmspike.models.layers import Chain, ConvNorm, mean_time, run
from mmspike.models.neurons import BaseNeuron, build_neuron, integrate_and_fire


def counting(neuron: dict) -> nn.Module:
    """The neuron with spikes of 1: in front of weights without norm, counts are of use and not their share of D."""
    made = build_neuron(neuron)
    if hasattr(made, 'divisor'):
        made.divisor = 1
    return made


class Sign(BaseNeuron):
    """1 where the membrane is not negative, else 0; the gradient is that of the sigmoid.

    Spike2Former fires on the sigmoid of the queries. The rounding of a number between 0 and 1 is this, whatever D is, and takes
    no exponential.

    Example:
        >>> import torch
        >>> from mmspike.models.mask_former.queries_to_masks import Sign
        >>> Sign()(torch.tensor([-0.1, 0.1]).view(1, 1, 2)).tolist()
        [[[0.0, 1.0]]]
    """

    leaky = False
    has_memory = False

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, None]:
        spikes, _ = integrate_and_fire(x.flatten(0, 1).unsqueeze(0), None, 0.0, 0.0, 'sigmoid', 1.0)
        return spikes.view_as(x), None


class MaskProduct(nn.Module):
    """The sums over channels of a mask embedding's spikes times the mask features.

    Spikes of queries add up features: no product is one of two floats.

    Args:
        neuron: Neuron config.

    Shape:
        Embeddings [T, B, E, Q, 1] and mask features [T, B, E, H, W], membranes -> [T, B, Q, H, W].
    """

    def __init__(self, neuron: dict) -> None:
        super().__init__()
        self.neuron = counting(neuron)

    def forward(self, embedding: Tensor, features: Tensor) -> Tensor:
        return self.multiply(self.neuron(embedding), features)

    def multiply(self, spikes: Tensor, features: Tensor) -> Tensor:
        """The product of counts [T, B, E, Q, 1] and mask features."""
        dtype = torch.promote_types(features.dtype, torch.float32)  # half precision would round the sums that losses see
        with torch.autocast(features.device.type, enabled=False):
            x = torch.matmul(spikes.squeeze(-1).transpose(2, 3).to(dtype), features.flatten(3).to(dtype))
        return x.unflatten(-1, features.shape[-2:])


class QueriesToMasks(nn.Module):
    """Class scores and mask logits of queries.

    With h the sign of the queries, classes are a linear map of h, and the mask embedding is MLP(h) + w * S(h): an MLP of three
    layers with N between them, and a linear map over the queries with norm, w learned. The logits of a mask are the sums over
    channels of N(embedding) times the mask features. Both are averaged over T.

    Args:
        num_classes: Classes; the last score, one more, is that of no object.
        channels: Width E.
        num_queries: Queries Q.
        neuron: Neuron config; here its spikes count 1 each.
        norm_cfg: Norm config.

    Shape:
        States of queries [T, B, E, Q, 1] and mask features [T, B, E, H, W] -> for each state scores [B, Q, classes + 1] and
        logits [B, Q, H, W].
    """

    def __init__(self, num_classes: int, channels: int, num_queries: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        self.neuron = Sign()
        self.classify = nn.Conv2d(channels, num_classes + 1, 1)
        self.embed = Chain(
            fc1=nn.Conv2d(channels, channels, 1, bias=False),
            neuron1=counting(neuron),
            fc2=nn.Conv2d(channels, channels, 1, bias=False),
            neuron2=counting(neuron),
            fc3=nn.Conv2d(channels, channels, 1),
        )
        self.shortcut = ConvNorm(num_queries, num_queries, norm_cfg=norm_cfg)
        self.shortcut_weight = nn.Parameter(torch.ones(()))
        self.product = MaskProduct(neuron)

    def init_weights(self) -> None:
        """Truncated normal weights, biases of 0; of the MLP He's, so that its neurons fire and all of it learns.

        With the published deviation of 0.02 they are silent at the start, and two of three layers have no gradient.
        """
        for conv in (self.classify, self.shortcut.conv):
            nn.init.trunc_normal_(conv.weight, std=0.02)
        for conv in (m for m in self.embed if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_normal_(conv.weight)
        for conv in (self.classify, self.embed.fc3):
            nn.init.zeros_(conv.bias)

    def forward(self, states: Sequence[Tensor], features: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        # one batch of all states: its statistics are then those that the norm remembers
        h = self.neuron(torch.cat(tuple(states), 1))
        scores = mean_time(run([self.classify], h)).flatten(2).transpose(1, 2)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # as masks: matching and losses see them
        across = self.shortcut(h.transpose(2, 3)).transpose(2, 3)
        embedding = self.embed(h) + self.shortcut_weight * across
        # by a shape and not in chunks: an exporter would take the batch for fixed
        embeddings = embedding.unflatten(1, (len(states), -1)).unbind(1)
        masks = [mean_time(self.product(e, features)) for e in embeddings]
        return list(scores.unflatten(0, (len(states), -1)).unbind()), masks
