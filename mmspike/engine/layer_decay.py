"""Learning rates that fall from layer to layer towards the input."""

from typing import Any

from torch import nn

from mmspike.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmspike.utils.errors import UserError

from .optim import OptimWrapperConstructor


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(OptimWrapperConstructor):
    """Learning rates that fall from layer to layer towards the input, for models of every host on a spiking backbone.

    A parameter of depth i of n has the learning rate times ``layer_decay_rate ** (n - 1 - i)``; the heads have it whole. The
    depths are the backbone's ``get_layer_depth``, which mmpretrain's backbones have, too. (mmpretrain's own constructor does
    the same for classifiers; those of mmdet and mmseg know ConvNeXt, BEiT and MAE by their names only.) Other keys of
    ``paramwise_cfg`` are those of :class:`OptimWrapperConstructor`. In a config::

        optim_wrapper = dict(
            constructor='mmspike.LayerDecayOptimWrapperConstructor', paramwise_cfg=dict(layer_decay_rate=0.75)
        )

    Raises:
        UserError: The rate is missing or not between 0 and 1, or the model has no backbone that knows its depths.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: bool | None = None) -> None:
        """Append the parameter groups of ``module`` to ``params``, their learning rates scaled."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:  # a child; the whole model is last
            return
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise UserError(
                f'paramwise_cfg.layer_decay_rate must be a number above 0 and at most 1, such as 0.75, got {rate!r}'
            )
        backbone: Any = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise UserError(
                f'LayerDecayOptimWrapperConstructor needs a backbone with get_layer_depth, as mmspike and mmpretrain have; '
                f'{type(module).__name__}.backbone is {type(backbone).__name__}. Choose another constructor'
            )
        names = {parameter: name for name, parameter in module.named_parameters()}
        for group in params:
            depth, depths = backbone.get_layer_depth(names[group['params'][0]], 'backbone.')
            group['lr_scale'] = rate ** (depths - 1 - depth)
            group['lr'] = group.get('lr', self.base_lr) * group['lr_scale']
