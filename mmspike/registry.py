"""Child registries of mmengine's, scope ``mmspike``.

A type is found from any host's config by its prefixed name, for example ``type='mmspike.MetaSpikeFormer'``; a bare name is
looked up in the host's own registry and is not found.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from mmspike.utils import checkpoint  # noqa: F401  (checkpoint files are read without running what is in them)

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmspike', locations=['mmspike.models', 'mmspike.models.hosted'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mmspike', locations=['mmspike.datasets'])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope='mmspike', locations=['mmspike.datasets'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmspike', locations=['mmspike.engine'])
STRATEGIES = Registry('strategy', parent=MMENGINE_STRATEGIES, scope='mmspike', locations=['mmspike.engine.strategies'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmspike',
    locations=['mmspike.engine'],
)
