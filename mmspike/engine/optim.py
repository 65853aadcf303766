from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Mixed precision on a machine without accelerator, in bfloat16.

    mmengine's ``AmpOptimWrapper`` refuses the CPU. bfloat16 has the exponent range of float32: no loss scaling is needed.
    Takes the arguments of ``OptimWrapper``. It is registered with mmengine, so the type has no prefix.
    """

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
