"""Optional host libraries: what needs a missing one becomes a class that raises and names the package."""

from importlib.util import find_spec

from mmengine.registry import Registry

from mmspike.utils.environment import HOST_PACKAGES


def is_installed(module: str) -> bool:
    """True if the top-level ``module`` can be found, without importing it."""
    return find_spec(module) is not None


def register_placeholder(registry: Registry, name: str, module: str) -> type:
    """Register and return a class ``name`` whose construction raises ImportError naming the package of ``module``."""

    def __init__(self, *args, **kwargs):
        raise ImportError(
            f'mmspike.{name} needs {module}, which is not installed: pip install {HOST_PACKAGES.get(module, module)}'
        )

    cls = type(name, (), dict(__init__=__init__, __doc__=f'Placeholder: needs {module}.'))
    registry.register_module(name=name, module=cls)
    return cls
