"""A deployed network as a model of configs, so that the host's own tools test and serve it."""

from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from mmspike.config.loading import model_config
from mmspike.models.checkpoints import without_pretrained
from mmspike.registry import MODELS

from .expansion import expand
from .fusing import fuse


@MODELS.register_module()
def Deployed(model: dict, expanded: bool = False, merge_depthwise: bool = True) -> nn.Module:  # noqa: N802
    """The fused, and if asked for expanded, network of a model config: it takes the state dict of one that was saved so.

    Args:
        model: Config of the model that was trained.
        expanded: Send integer spikes as binary steps, see :func:`mmspike.deploy.expand`.
        merge_depthwise: See :func:`mmspike.deploy.fuse`.
    """
    network = fuse(MODELS.build(model), merge_depthwise)
    return expand(network) if expanded else network


def save(network: nn.Module, cfg: Config, folder: str | Path, expanded: bool, merge_depthwise: bool) -> tuple[Path, Path]:
    """Write ``deployed.py`` and ``deployed.pth`` into ``folder``, for ``tools/test.py`` and every tool that takes these two.

    Args:
        network: What ``fuse`` and ``expand`` made of the config's model. Names of classes in its ``dataset_meta``, as
            :func:`mmspike.config.loading.build_model` takes them from a checkpoint, go into the new one.
        cfg: The config that it was trained with.

    Returns:
        The paths of both files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cfg = Config(cfg.to_dict())
    inner = inference_config(model_config(cfg))
    cfg.pop('data_preprocessor', None)  # mmengine would hand it to the model around the inner one
    cfg.model = ConfigDict(type='mmspike.Deployed', model=inner, expanded=expanded, merge_depthwise=merge_depthwise)
    imports = cfg.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    imports['imports'] = [*dict.fromkeys([*imports['imports'], 'mmspike', 'mmspike.deploy'])]
    cfg.custom_imports = imports
    cfg.load_from = None
    cfg.dump(folder / 'deployed.py')
    meta = {'dataset_meta': network.dataset_meta} if getattr(network, 'dataset_meta', None) else {}
    torch.save(dict(state_dict=network.state_dict(), meta=meta), folder / 'deployed.pth')
    return folder / 'deployed.py', folder / 'deployed.pth'


def inference_config(cfg: ConfigDict) -> ConfigDict:
    """A model config without what only training needs: pretrained weights, and the teacher of a distilled classifier."""
    cfg = without_pretrained(cfg)
    if str(cfg.type).split('.')[-1] == 'DistilledImageClassifier':
        cfg.type = 'mmpretrain.ImageClassifier'
        cfg.pop('teacher')
    return cfg
