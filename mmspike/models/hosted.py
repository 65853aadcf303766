"""Registers the models that subclass a host library's.

Apart from :mod:`mmspike.models`, so that importing a backbone imports no host. What needs a missing host is a placeholder that
raises and names the package.
"""

from importlib import import_module

from mmspike.registry import MODELS
from mmspike.utils.optional import is_installed, register_placeholder

# task package -> its host library, and the models that need it
TASKS = dict(
    detection=(
        'mmdet',
        (
            'SpikingCascadeRoIHead',
            'SpikingConvFCBBoxHead',
            'SpikingFCNMaskHead',
            'SpikingRPNHead',
            'SpikingRetinaHead',
            'SpikingRoIExtractor',
            'SpikingShared2FCBBoxHead',
            'SpikingShared4Conv1FCBBoxHead',
            'SpikingStandardRoIHead',
        ),
    ),
    segmentation=('mmseg', ('SpikingDeepLabHead', 'SpikingFCNHead', 'SpikingFPNHead')),
    classification=(
        'mmpretrain',
        ('AttentionPoolClsHead', 'DistilledImageClassifier', 'EventDataPreprocessor', 'SpikingLinearClsHead'),
    ),
    pretraining=('mmpretrain', ('SpikeMAE', 'SpikeMAEDecoder')),
)

for _task, (_host, _names) in TASKS.items():
    if is_installed(_host):
        import_module(f'mmspike.models.{_task}')
    else:
        for _name in _names:
            register_placeholder(MODELS, _name, _host)
