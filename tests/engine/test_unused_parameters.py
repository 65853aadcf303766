"""What a step leaves out is named, in a process group of one."""

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mmspike.engine.unused_parameters import unused_parameters_named
from mmspike.utils.errors import UserError


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen, self.used, self.spare = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.used(self.frozen(x))


@pytest.fixture
def group(tmp_path):
    distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/group', rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_parameters_without_gradient_are_named(group):
    model = DistributedDataParallel(Branches())
    with pytest.raises(UserError, match=r'no gradient to spare.weight, spare.bias, for which.*find_unused_parameters=True'):
        with unused_parameters_named(model):
            for _ in range(2):
                model(torch.randn(3, 2)).sum().backward()


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match='another'), unused_parameters_named(Branches()):
        raise RuntimeError('another')
