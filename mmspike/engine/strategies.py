"""Sharded training that can be resumed."""

from mmengine._strategy import FSDPStrategy as MMEngineFSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel

from mmspike.registry import STRATEGIES


@STRATEGIES.register_module()
class FSDPStrategy(MMEngineFSDPStrategy):
    """mmengine's strategy for ``FullyShardedDataParallel``, with which a training can also be resumed.

    mmengine hands the optimizer's state over in an order of arguments that torch gave up in 2.0. Takes mmengine's arguments.
    In a config: ``runner_type = 'FlexibleRunner'``, ``strategy = dict(type='mmspike.FSDPStrategy', state_dict_cfg='full')``.
    """

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of the optimizer, as a checkpoint of this strategy holds it."""
        optimizer = self.optim_wrapper.optimizer
        state = FullyShardedDataParallel.optim_state_dict_to_load(self.model, optimizer, state_dict)
        self.optim_wrapper.load_state_dict(state)
