from importlib import import_module

import pytest

from mmspike.registry import DATASETS, HOOKS, MODELS, TRANSFORMS
from mmspike.utils.registered import Registered, registered

REGISTRIES = dict(MODELS=MODELS, HOOKS=HOOKS, DATASETS=DATASETS, TRANSFORMS=TRANSFORMS)
TASKS = ('classification', 'detection', 'pretraining', 'segmentation')


@pytest.mark.parametrize('package', ['models.backbones', 'models.necks', 'engine.hooks', *(f'models.{t}' for t in TASKS)])
def test_sources_tell_what_is_registered(package):
    """The names read in the files are those that the registries have of the package, and those that it offers."""
    package = import_module(f'mmspike.{package}')
    there = {
        Registered(name, cls.__module__, registry)
        for registry, content in REGISTRIES.items()
        for name, cls in content.module_dict.items()
        if cls.__module__.startswith(f'{package.__name__}.')
    }
    assert there and {found for found in registered(package.__name__) if found.registry in REGISTRIES} == there
    assert {found.name for found in there} <= set(package.__all__)
    assert len(package.__all__) == len(set(package.__all__)) and all(hasattr(package, name) for name in package.__all__)


def test_a_module():
    assert registered('mmspike.datasets.events.packing') == [
        Registered('PackEvents', 'mmspike.datasets.events.packing', 'TRANSFORMS')
    ]


@pytest.mark.parametrize(
    'package, files',
    [('datasets', ['loading', 'events.augment', 'events.transforms']), ('datasets.events', ['augment', 'transforms']),
     ('models.neurons', ['analogue', 'base', 'firing', 'integer', 'surrogate'])],
)  # fmt: skip
def test_names_that_are_written_by_hand(package, files):
    module = import_module(f'mmspike.{package}')
    names = {found.name for file in files for found in registered(f'mmspike.{package}.{file}')}
    assert names and names <= set(module.__all__)
    assert len(module.__all__) == len(set(module.__all__)) and all(hasattr(module, name) for name in module.__all__)
