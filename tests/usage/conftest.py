import pytest

from mmspike.datasets.shapes import write_shapes

from .tiny import SIZE


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """A few drawn pictures, in the layouts of all hosts."""
    return write_shapes(tmp_path_factory.mktemp('data') / 'shapes', num_train=4, num_val=2, size=SIZE)
