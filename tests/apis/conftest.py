import pytest

from .networks import networks_in


@pytest.fixture(scope='session')
def network(tmp_path_factory):
    """``network(host, neuron)``: the config and checkpoint of a tiny network."""
    return networks_in(tmp_path_factory.mktemp('networks'))
