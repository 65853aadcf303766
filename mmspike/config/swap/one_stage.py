"""SpikeYOLO's neck and head in the place of those of an ordinary anchor-free detector of one stage."""

from collections.abc import Sequence

from mmengine.config import ConfigDict

from mmspike.config.names import type_name

#: heads without anchors that predict at every cell
HEADS = ('FCOSHead', 'RTMDetHead', 'RTMDetSepBNHead', 'YOLOXHead')
#: necks that go down to the finest scale and up again
NECKS = ('CSPNeXtPAFPN', 'YOLOXPAFPN')


def spiking_pafpn(neck: dict, neuron: dict) -> ConfigDict:
    """SpikeYOLO's neck of the width of the finest scale, which others have at all scales."""
    return ConfigDict(
        type='mmspike.SpikingYOLOPAFPN',
        in_channels=list(neck['in_channels']),
        channels=neck['out_channels'],
        neuron=dict(neuron),
    )


def scale_channels(neck: dict) -> list[int]:
    """Channels of the scales of a spiking neck's config."""
    if type_name(neck) == 'SpikingYOLOPAFPN':
        return [neck['channels'] * factor for factor in (1, 2, 4)]
    return [neck['out_channels']] * neck['num_outs']


def replace_head(model: ConfigDict, channels: Sequence[int], neuron: dict) -> None:
    """Replace ``bbox_head`` in place, with SpikeYOLO's losses and assigner, which follow from its outputs.

    Classes and strides are the old head's, and so is what keeps boxes in ``test_cfg``; where it has no limits, as YOLOX
    has none, SpikeYOLO's are added.
    """
    old = model.bbox_head
    points = old.get('anchor_generator') or old.get('prior_generator') or {}
    strides = old.get('strides') or points.get('strides') or [8 * 2**i for i in range(len(channels))]
    model.bbox_head = ConfigDict(
        type='mmspike.SpikingYOLOHead',
        num_classes=old.num_classes,
        in_channels=list(channels),
        strides=[s if isinstance(s, int) else s[0] for s in strides],
        neuron=dict(neuron),
    )
    model.train_cfg = None
    model.test_cfg = ConfigDict(dict(nms_pre=30000, max_per_img=300) | dict(model.get('test_cfg') or {}))
