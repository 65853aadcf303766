"""The part of gpu.py that trains."""

import math
import time

from gpu_parts import REPO, Part
from torch import Tensor


def demo(part: Part) -> None:
    """Fifty iterations of the demo's Mask R-CNN, and some without FiniteLossHook; no compiled mmcv is needed."""
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    from mmspike.config.data_paths import move_data_root
    from mmspike.datasets.shapes import write_shapes

    class Keep(Hook):
        """Losses, and the time of the second half of the iterations."""

        def __init__(self) -> None:
            self.losses: list[Tensor] = []
            self.start = time.perf_counter()

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            self.losses.append(outputs['loss'].detach())
            if len(self.losses) == runner.max_iters // 2:
                part.wait()
                self.start = time.perf_counter()

    side = 64 if part.tiny else 128
    root = write_shapes(part.file.parent / f'shapes_{side}', num_train=4 if part.tiny else 64, num_val=2, size=side)

    def train(iterations: int, watched: bool) -> tuple[list[float], float, str]:
        cfg = move_data_root(Config.fromfile(REPO / 'configs/mask_rcnn_metaspike_shapes.py'), str(root))
        cfg.merge_from_dict(dict(work_dir=str(part.file.parent / 'demo'), randomness=dict(seed=0), log_level='ERROR'))
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=10 * iterations)
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
        cfg.train_dataloader.num_workers, cfg.train_dataloader.persistent_workers = 0, False
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if watched or hook.type != 'mmspike.FiniteLossHook']
        cfg.experiment_name = f'demo_{watched}'
        runner, keep = Runner.from_cfg(cfg), Keep()
        runner.register_hook(keep)
        runner.train()
        part.wait()
        seconds = (time.perf_counter() - keep.start) / (iterations - iterations // 2)
        return [float(x) for x in keep.losses], seconds, str(next(runner.model.parameters()).device)

    values, seconds, device = train(2 if part.tiny else 50, watched=True)
    tenth = max(len(values) // 5, 1)
    first, last = (sum(x) / len(x) for x in (values[:tenth], values[-tenth:]))
    part.note('training', iterations=len(values), seconds_an_iteration=seconds, device=device)
    part.check(
        'losses are finite, and fall', all(map(math.isfinite, values)) and (last < first or part.tiny), first=first, last=last
    )
    if not part.out_of_time('training without FiniteLossHook'):
        part.note('the same without FiniteLossHook', seconds_an_iteration=train(1 if part.tiny else 30, watched=False)[1])
