"""The examples in docstrings are run, and give what they say."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

for host in ('mmdet', 'mmseg', 'mmpretrain'):
    pytest.importorskip(f'{host}.datasets')  # which print what they miss, once

PACKAGE = Path(__file__).resolve().parents[2] / 'mmspike'
# their examples read files of the reader
FILES = {'config/data_check/check.py', 'datasets/class_folders.py', 'datasets/events/readers.py'}
MODULES = sorted(
    name
    for path in PACKAGE.rglob('*.py')
    if '>>> ' in path.read_text() and (name := str(path.relative_to(PACKAGE))) not in FILES
)


@pytest.mark.parametrize('name', MODULES)
def test_examples(name):
    module = importlib.import_module(f'mmspike.{name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")}')
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed, f'{result} in {name}'


# what a user calls from Python: all that these packages offer but for types of results, errors and base classes
OFFERED = ('models.neurons', 'models.backbones', 'models.necks', 'deploy', 'apis', 'models.archs')
BESIDE = {
    'Answer',
    'Audit',
    'BaseNeuron',
    'Converted',
    'Deployed',
    'Exported',
    'InputError',
    'SpikingBackbone',
    'UnknownArchError',
    'save',
}
LAYERS = (
    'Chain ConvNorm DropPath MLP RepConv Residual SpikeAttention SpikingConv SpikingConvTranspose SpikingLinear attend '
    'binarise binary_weight mean_time repeat_time rounded_weight set_weight_bits write_low_bit_weights'
)
OTHERS = {
    'models.layers': LAYERS.split(),
    'models.inspection': ['is_neuron', 'reset_spikes', 'spike_unit', 'stage_of'],
    'models.segmentation': ['SpikingDeepLabHead', 'SpikingFCNHead', 'SpikingFPNHead'],
    'models.classification': ['AttentionPoolClsHead', 'SpikingLinearClsHead'],
    'models.detection': ['SpikingFCNMaskHead', 'SpikingRPNHead', 'SpikingRetinaHead', 'SpikingShared2FCBBoxHead'],
    'analysis': ['OpCounter', 'measure_energy'],
    'config.swap': ['swap_backbone'],
    'kernels': ['use'],
    'ops': ['install_operators'],
}


@pytest.mark.parametrize('package', [*OFFERED, *OTHERS])
def test_what_a_user_calls_has_an_example(package):
    module = importlib.import_module(f'mmspike.{package}')
    names = OTHERS.get(package) or [name for name in getattr(module, '__all__', vars(module)) if name not in BESIDE]
    own = {name: getattr(module, name) for name in names}
    called = {name: f for name, f in own.items() if callable(f) and f.__module__.startswith(module.__name__)}
    called = {name: f for name, f in called.items() if not name.startswith('_')}
    assert called and not [name for name, f in called.items() if '>>> ' not in (inspect.getdoc(f) or '')]


def test_there_are_examples():
    assert FILES <= {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob('*.py')} and len(MODULES) >= 10
