"""The networks that ``tools/benchmark.py`` compares, by the names of its options: ours, others, and ours written down first."""

import importlib
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
DETECTORS = tuple(f'spikeyolo-{size}' for size in 'nsml')
#: the query decoder of the published mask transformer, 100 queries on maps of strides 16, 8 and 4
QUERY_DECODER = 'query-decoder'


def straightforward(name: str):
    """A module of this folder, also for a process that imports another checkout's ``mmspike``."""
    sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module(name)


def backbones() -> dict[str, type]:
    """Preset -> backbone, of all that --models takes."""
    from mmspike.models import backbones

    classes = [getattr(backbones, name) for name in backbones.__all__]
    return {arch: cls for cls in classes for arch in getattr(cls, 'arch_settings', {})}


class UnknownNetworkError(Exception):
    """There is no network of a name; a checkout that is compared with need not know the errors of this one."""


def build(case: dict):
    """The network of a case; its input is an image."""
    name, arch, T = case['against'], case['model'], case['T']
    if arch not in (*DETECTORS, QUERY_DECODER) and name not in ('ours', 'straightforward', 'relu'):
        try:
            import timm

            if timm.is_model(name):
                return timm.create_model(name)
        except ImportError:
            pass
        from mmpretrain import get_model, list_models

        if not list_models(f'{name}*'):
            raise UnknownNetworkError(f"no network '{name}': neither timm, if it is installed, nor mmpretrain has one")
        return get_model(list_models(f'{name}*')[0])

    if arch == QUERY_DECODER:
        return query_decoder(name, case['levels'])
    if arch in DETECTORS:
        return detector(name, arch, T, case['levels'])
    cls = backbones()[arch]
    integer = arch.startswith('espikeformer')
    T = T or (1 if integer else 4)
    if name == 'straightforward':
        dims, depths = (cls.arch_settings[arch].get(k) for k in ('dims', 'depths'))
        if cls.__name__ == 'MetaSpikeFormer':
            return straightforward('straightforward').meta_spikeformer(dims, depths, T)
        if cls.__name__ == 'ESpikeFormer':
            return straightforward('straightforward').e_spikeformer(dims, depths, T, case['levels'])
        if cls.__name__ == 'MaxFormer':
            return straightforward('straightforward_max_former').MaxFormer(dims, depths, T)
        raise UnknownNetworkError(f'there is no straightforward {cls.__name__}: give other names to --against, or none')
    neuron = dict(type='ReLU') if name == 'relu' else dict(type='SFA', levels=case['levels']) if integer else None
    return cls(arch, T=T, neuron=neuron, with_cp=case['with_cp'] and name == 'ours')


def detector(name: str, arch: str, T: int | None, levels: int):
    """A detector of one stage; its output is all that its head gives for an image, [B, numbers]."""
    import torch
    from mmengine.registry import MODELS, init_default_scope

    from mmspike.config.names import config_path, read_file
    from mmspike.utils.carried import carried

    file = 'spikeyolo_coco.py' if arch == 'spikeyolo-s' else f'spikeyolo/{arch}_t1_4xb10-300e_coco.py'
    cfg = read_file(str(carried('configs') / file))
    init_default_scope('mmdet')
    if name == 'straightforward':
        settings = backbones()[cfg.model.backbone.arch].arch_settings[cfg.model.backbone.arch]
        ratio = cfg.model.neck.get('mlp_ratio', 1)
        model = straightforward('straightforward_yolo').SpikeYOLO(
            settings['dims'], settings['depths'], T=T or 1, levels=levels, ratio=ratio
        )
    else:
        if name not in ('ours', 'relu'):
            found = sorted(Path(config_path('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py')).parents[1].rglob(f'{name}.py'))
            if not found:
                raise UnknownNetworkError(f"no detector '{name}': mmdet has no config of this name")
            cfg = read_file(str(found[0]))
        for part in (cfg.model.backbone, cfg.model.neck, cfg.model.bbox_head) if name in ('ours', 'relu') else ():
            part.neuron = dict(type='ReLU') if name == 'relu' else dict(type='ILIF', levels=levels)
        cfg.model.backbone.pop('init_cfg', None)  # weights of ImageNet are not fetched
        if T and name in ('ours', 'relu'):
            cfg.model.backbone.T = T
        model = MODELS.build(cfg.model)

    class Outputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images):
            outs = self.model(images) if name == 'straightforward' else self.model(images, mode='tensor')
            return torch.cat([level.flatten(1) for levels in outs for level in levels], 1)

    return Outputs()


def query_decoder(name: str, levels: int):
    """Six layers of 256 channels and 100 queries on drawn maps of the pixel decoder; of the image it takes the size."""
    import torch
    from torch import nn

    from mmspike.models.layers import channels_inside  # brings the operators that mmdet imports, where mmcv comes without

    if name not in ('ours', 'straightforward', 'relu'):
        raise UnknownNetworkError(f"no query decoder '{name}': compare with straightforward or relu")
    sizes = dict(channels=256, num_queries=100, num_layers=6, num_heads=8, mlp_channels=2048, num_levels=3)
    if name == 'straightforward':
        model = straightforward('straightforward_query_decoder').QueryDecoder(**sizes, levels=levels)
    else:
        from mmspike.models.mask_former import SpikingQueryDecoder

        neuron = dict(type='ReLU') if name == 'relu' else dict(type='SFA', levels=levels)
        model = SpikingQueryDecoder(**sizes, neuron=neuron, norm_cfg=dict(type='BN'))

    class OnMaps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = model
            self.maps = nn.ParameterList()  # so that they have gradients, as those of the pixel decoder

        def forward(self, images):
            if not len(self.maps):
                shapes = [(1, len(images), 256, images.shape[2] // s, images.shape[3] // s) for s in (16, 8, 4)]
                maps = (torch.randn(shape, device=images.device) for shape in shapes)
                # in the order that the pixel decoder of each gives them
                self.maps.extend(maps if name == 'straightforward' else map(channels_inside, maps))
            return self.decoder(list(self.maps))[-1]

    return OnMaps()
