"""Replace neck and heads of a swapped config by spiking ones, as far as everything that reads a feature can follow."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import ConfigDict

from mmspike.config.names import type_name

from . import one_stage
from .parse import SwapError

# the host's type -> ours, which takes the same arguments and a neuron; SpikingYOLOHead has its own
COUNTERPARTS = dict(
    mmdet=dict(
        RPNHead='SpikingRPNHead',
        RetinaHead='SpikingRetinaHead',
        SingleRoIExtractor='SpikingRoIExtractor',
        StandardRoIHead='SpikingStandardRoIHead',
        CascadeRoIHead='SpikingCascadeRoIHead',
        Shared2FCBBoxHead='SpikingShared2FCBBoxHead',
        Shared4Conv1FCBBoxHead='SpikingShared4Conv1FCBBoxHead',
        FCNMaskHead='SpikingFCNMaskHead',
        **dict.fromkeys(one_stage.HEADS, 'SpikingYOLOHead'),
    ),
    mmseg=dict(FPNHead='SpikingFPNHead', FCNHead='SpikingFCNHead'),
    mmpretrain=dict(LinearClsHead='SpikingLinearClsHead'),
)
WITHOUT_NEURON = ('SingleRoIExtractor', 'StandardRoIHead', 'CascadeRoIHead')
ACTIVATION = ('act_cfg', 'conv_cfg')  # neurons take their place


def _parts(model: dict) -> Iterator[tuple[str, dict]]:
    """Name and config of every head of a model, and of the parts of an RoI head."""
    for key, value in model.items():
        if key != 'head' and not key.endswith('_head'):
            continue
        for i, head in enumerate(value if isinstance(value, list) else [value]):
            name = f'{key}[{i}]' if isinstance(value, list) else key
            if not isinstance(head, dict):
                continue
            yield name, head
            if key == 'roi_head':
                for part_key, part in head.items():
                    for cfg in part if isinstance(part, list) else [part]:
                        if isinstance(cfg, dict) and 'type' in cfg:
                            yield f'{name}.{part_key}', cfg


def replace_heads(model: ConfigDict, scope: str, backbone: dict, neuron: dict, notes: list[str]) -> None:
    """Replace neck and heads in place.

    If all heads have a spiking counterpart and the neck has, or there is none, all are replaced and features keep their time
    axis. If only the neck has, it is replaced and its outputs are averaged over T for the heads, which stay.

    FCOS, YOLOX and RTMDet get SpikeYOLO's head, and the latter two its neck.

    Args:
        backbone: What the user gave: its ``neuron``, if any, is that of neck and heads.
        neuron: The backbone's. The SFA neuron has divisor 1 in neck and heads, as published, unless the user gave one.
        notes: Gets a line for what stayed.

    Raises:
        SwapError: Nothing can be replaced.
    """
    table = COUNTERPARTS[scope]
    head_neuron = neuron
    if 'neuron' not in backbone and neuron['type'] == 'SFA' and scope != 'mmpretrain':
        head_neuron = {key: value for key, value in neuron.items() if key != 'norm'} | dict(divisor=1)
    neck = model.get('neck')
    pooling = scope == 'mmpretrain' and isinstance(neck, dict) and type_name(neck) == 'GlobalAveragePooling'
    parts = list(_parts(model))
    staying = [f'{name} ({type_name(cfg)})' for name, cfg in parts if type_name(cfg) not in table]
    dense = [name for name, cfg in parts if type_name(cfg) in one_stage.HEADS] == ['bbox_head']
    pafpn = dense and isinstance(neck, dict) and type_name(neck) in one_stage.NECKS
    fpn = isinstance(neck, dict) and type_name(neck) == 'FPN' and neck.get('end_level', -1) == -1
    neck_fits = neck is None or pooling or fpn or pafpn and len(neck['in_channels']) == 3
    if not neck_fits or staying and (neck is None or pooling):
        culprits = (
            staying if neck_fits else [f'neck ({type_name(neck) if isinstance(neck, dict) else [type_name(n) for n in neck]})']
        )
        raise SwapError(
            f'--spiking-heads: {", ".join(culprits)} without spiking counterpart, so that nothing that reads the features can '
            f'be replaced (of {scope} there are {", ".join([*table, "FPN"] if scope != "mmpretrain" else table)})'
        )
    if pooling:
        model.pop('neck')  # our head pools
    elif neck is not None:
        model.neck = one_stage.spiking_pafpn(neck, head_neuron) if pafpn else _spiking_fpn(neck, scope, head_neuron)
    model.backbone.temporal_output = 'keep'
    if staying:
        model.neck = [model.neck, dict(type='mmspike.TemporalMean')]
        notes.append(
            f'FPN is spiking, its outputs are averaged over T for the heads, which stay: {", ".join(staying)} without spiking '
            'counterpart'
        )
        return
    if dense:
        notes.append('targets and losses are those of SpikeYOLO, train_cfg of the old head is dropped')
        one_stage.replace_head(model, one_stage.scale_channels(model.neck), head_neuron)
        return
    cfg: Any
    for _, cfg in parts:
        name = type_name(cfg)
        cfg.type = f'mmspike.{table[name]}'
        if name not in WITHOUT_NEURON:
            cfg.neuron = dict(head_neuron)
        for key in ACTIVATION:
            cfg.pop(key, None)


def _spiking_fpn(neck: dict, scope: str, neuron: dict) -> ConfigDict:
    """Levels above the inputs are strided convolutions on the outputs where the host's FPN has convolutions, else pooled."""
    return ConfigDict(
        type='mmspike.SpikingFPN',
        in_channels=neck['in_channels'],
        out_channels=neck['out_channels'],
        num_outs=neck['num_outs'],
        start_level=neck.get('start_level', 0),
        extra_levels='conv' if neck.get('add_extra_convs') else 'pool',
        norm_cfg=neck.get('norm_cfg') or (dict(type='BN') if scope == 'mmseg' else None),
        neuron=dict(neuron),
    )
