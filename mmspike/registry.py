"""Child registries of mmengine's, scope ``mmspike``.

A type is found from any host's config by its prefixed name, for example ``type='mmspike.MetaSpikeFormer'``; a bare name is
looked up in the host's own registry and is not found.
"""

from mmspike.utils.environment import check_versions

check_versions()  # before mmengine is imported, which may be one that fails

from mmengine import registry as roots  # noqa: E402
from mmengine.registry import Registry  # noqa: E402

from mmspike.utils import checkpoint  # noqa: E402, F401  (checkpoint files are read without running what is in them)

MODELS = Registry('model', parent=roots.MODELS, scope='mmspike', locations=['mmspike.models', 'mmspike.models.hosted'])
TASK_UTILS = Registry('task util', parent=roots.TASK_UTILS, scope='mmspike', locations=['mmspike.models.hosted'])
DATASETS = Registry('dataset', parent=roots.DATASETS, scope='mmspike', locations=['mmspike.datasets'])
DATA_SAMPLERS = Registry('data sampler', parent=roots.DATA_SAMPLERS, scope='mmspike', locations=['mmspike.datasets'])
TRANSFORMS = Registry('transform', parent=roots.TRANSFORMS, scope='mmspike', locations=['mmspike.datasets'])
HOOKS = Registry('hook', parent=roots.HOOKS, scope='mmspike', locations=['mmspike.engine'])
METRICS = Registry('metric', parent=roots.METRICS, scope='mmspike', locations=['mmspike.engine'])
STRATEGIES = Registry('strategy', parent=roots.STRATEGIES, scope='mmspike', locations=['mmspike.engine.strategies'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=roots.OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmspike',
    locations=['mmspike.engine'],
)
