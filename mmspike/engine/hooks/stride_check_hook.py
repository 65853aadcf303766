import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

from mmspike.registry import HOOKS

from .spike_reset_hook import reset_spikes

SIDE = 256  # px of the trial image, a multiple of every stride


@torch.no_grad()
def check_strides(detector: nn.Module) -> None:
    """Raise ValueError when anchors or RoI extractors of a detector assume other strides than its features have.

    The features' strides are measured on a trial image, so that they are the true ones: published configs for
    spike-driven transformers take the last stage for stride 32, which is 16. Does nothing for other backbones than ours.
    """
    backbone = getattr(detector, 'backbone', None)
    if not hasattr(backbone, 'out_strides') or not hasattr(detector, 'extract_feat'):
        return
    training = detector.training
    parameter = next(detector.parameters())
    image = torch.zeros(1, backbone.in_channels, SIDE, SIDE, device=parameter.device, dtype=parameter.dtype)
    features = detector.eval().extract_feat(image)
    detector.train(training)
    reset_spikes(detector)
    strides = [SIDE // f.shape[-1] for f in features]
    for name, module in detector.named_modules():
        generator = getattr(module, 'prior_generator', None)
        if hasattr(module, 'featmap_strides'):
            assumed = list(module.featmap_strides)
        elif generator is not None and hasattr(generator, 'strides'):
            assumed = [s[0] if isinstance(s, tuple) else s for s in generator.strides]
        else:
            continue
        if assumed != strides[: len(assumed)]:
            raise ValueError(f'{name} assumes strides {assumed}, but the features it gets have {strides}: correct the config')


@HOOKS.register_module()
class StrideCheckHook(Hook):
    """Before a run, checks that anchors and RoI extractors assume the strides that the features have."""

    def before_run(self, runner) -> None:
        check_strides(runner.model.module if is_model_wrapper(runner.model) else runner.model)
