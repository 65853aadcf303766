"""Learn instance segmentation with a spiking backbone in minutes on a CPU: what ``make demo`` runs after set-up.

Writes the embedded data set of drawn shapes, trains the demo's Mask R-CNN from scratch, tests it on held-out pictures and
draws some of them beside the ground truth. mmengine's own output goes to ``demo.log`` in the work dir.
"""

import argparse
import contextlib
import os
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import DictAction
from mmspike.utils.carried import carried

CONFIG = carried('configs') / 'mask_rcnn_metaspike_shapes.py'
REQUIRED_AP50 = 0.5  # of boxes on held-out pictures; less means that something is broken, not that training was unlucky
COMMANDS = ('mmspike test', 'mmspike train')  # outside a clone
PICTURES = 4  # in two rows
ENLARGE = 4  # so that labels are readable on small pictures


def progress_line(terminal):
    """A hook that prints one line on the terminal: iteration, loss, seconds per iteration, time left."""
    from mmengine.hooks import Hook

    live = terminal.isatty()

    class ProgressLine(Hook):
        priority = 'LOW'  # after the hooks that put loss and time into the message hub

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            done, total = runner.iter + 1, runner.max_iters
            if not live and done % 25 and done != total:
                return
            hub = runner.message_hub
            minutes, seconds = divmod(round(hub.get_info('eta')), 60)
            line = (
                f'  iteration {done:4d}/{total}   loss {hub.get_scalar("train/loss").mean(20):6.3f}   '
                f'{hub.get_scalar("train/time").mean(20):5.2f} s/iteration   {minutes}:{seconds:02d} left'
            )
            self._print('\r' + line if live else line, end='' if live and done != total else '\n')

        def after_val_epoch(self, runner, metrics=None):
            self._print(
                f'{chr(10) if live and runner.iter < runner.max_iters else ""}'
                f'  after epoch {runner.epoch}: box AP50 {metrics["coco/bbox_mAP_50"]:.3f}, '
                f'mask AP50 {metrics["coco/segm_mAP_50"]:.3f}'
            )

        def _print(self, text, end='\n'):
            print(text, end=end, file=terminal, flush=True)

    return ProgressLine()


def demo_config(data_root: Path, work_dir: Path, options: dict | None):
    """The demo's config for a data set and a work dir, changed by ``options`` (as mmengine's ``--cfg-options``)."""
    from mmengine.config import Config

    from mmspike.config.data_paths import move_data_root

    cfg = move_data_root(Config.fromfile(CONFIG), str(data_root))
    cfg.work_dir = str(work_dir)
    cfg.randomness = dict(seed=0)
    if options:
        cfg.merge_from_dict(options)
    return cfg


def print_table(metrics: dict) -> None:
    """The COCO table: AP over IoU 0.50:0.95, at 0.50 and 0.75, and of small, medium and large shapes."""
    columns = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l']
    print('        ' + ''.join(f'{name:>8}' for name in columns))
    for row, key in (('box', 'bbox'), ('mask', 'segm')):
        values = [metrics[f'coco/{key}_{name}'] for name in columns]
        # COCO's -1 says that there is no shape of that size.
        print(f'  {row:<6}' + ''.join(f'{value:8.3f}' if value >= 0 else f'{"-":>8}' for value in values))


def _enlarged(sample):
    """A copy of a DetDataSample with boxes and masks for a picture ENLARGE times as large."""
    import numpy as np
    import torch
    from mmdet.structures.mask import BitmapMasks

    sample = sample.clone()
    truth, found = sample.gt_instances, sample.pred_instances
    height, width = (ENLARGE * side for side in sample.ori_shape)
    truth.bboxes = truth.bboxes * ENLARGE
    truth.masks = truth.masks.resize((height, width))
    found.bboxes = found.bboxes * ENLARGE
    masks = BitmapMasks(found.masks.cpu().numpy().astype(np.uint8), *sample.ori_shape)
    found.masks = torch.from_numpy(masks.resize((height, width)).to_ndarray().astype(bool))
    return sample


def draw_picture(runner, path: Path) -> None:
    """Write the first held-out pictures to a PNG, each with its ground truth on the left and what was found right."""
    import cv2
    import numpy as np
    import torch
    from mmdet.visualization import DetLocalVisualizer
    from mmengine.dataset import pseudo_collate

    dataset = runner.test_dataloader.dataset
    visualizer = DetLocalVisualizer(line_width=2, alpha=0.5)
    visualizer.dataset_meta = dataset.metainfo
    runner.model.eval()
    panels = []
    for index in range(PICTURES):
        batch = pseudo_collate([dataset[index]])
        with torch.no_grad():
            sample = runner.model.test_step(batch)[0]
        image = cv2.cvtColor(cv2.imread(sample.img_path), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, None, fx=ENLARGE, fy=ENLARGE, interpolation=cv2.INTER_NEAREST)
        visualizer.add_datasample('shapes', image, _enlarged(sample), pred_score_thr=0.5)
        panel = cv2.cvtColor(visualizer.get_image(), cv2.COLOR_RGB2BGR)
        header = np.full((30, panel.shape[1], 3), 255, np.uint8)
        for text, left in (('ground truth', 8), ('prediction', panel.shape[1] // 2 + 8)):
            cv2.putText(header, text, (left, 21), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
        panel = np.vstack([header, panel])
        panels.append(cv2.copyMakeBorder(panel, 0, 8, 0, 8, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    if not cv2.imwrite(str(path), np.vstack([np.hstack(panels[: PICTURES // 2]), np.hstack(panels[PICTURES // 2 :])])):
        raise OSError(f'could not write {path}')


def train_and_test(data_root: Path, work_dir: Path, options: dict | None, terminal) -> dict:
    """Train, test and draw; returns the metrics. Only ``terminal`` shows progress: all other output is the caller's."""
    import torch
    from mmengine.device import get_device
    from mmengine.runner import Runner

    runner = Runner.from_cfg(demo_config(data_root, work_dir, options))
    runner.register_hook(progress_line(terminal))
    threads = f'{torch.get_num_threads()} threads' if get_device() == 'cpu' else f'on {get_device()}'
    print(f'[2/4] Training: {runner.max_iters} iterations, {threads}', file=terminal, flush=True)
    runner.train()
    print('[3/4] Testing on held-out shapes', file=terminal, flush=True)
    metrics = runner.test()
    print('[4/4] Drawing', file=terminal, flush=True)
    draw_picture(runner, work_dir / 'demo.png')
    return metrics


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', type=Path, default=Path('data/shapes'), help='where the shapes are written')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'), help='logs, checkpoints and picture')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='changes to the config, key=value')
    parser.add_argument('--cpu', action='store_true', help='no GPU, even where torch finds one')
    args = parser.parse_args()
    if args.cpu:
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # torch and mmengine, which choose the device, are imported after this
    return args


def main(args: argparse.Namespace) -> int:
    """Returns the exit status: 1 when the demo failed or learned too little."""
    from mmspike.datasets.shapes import write_shapes

    start = time.perf_counter()
    terminal = sys.stdout
    args.work_dir.mkdir(parents=True, exist_ok=True)
    log_path = args.work_dir / 'demo.log'
    print(f'[1/4] Writing drawn shapes to {args.data_root}', flush=True)
    with open(log_path, 'w') as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            write_shapes(args.data_root)
            metrics = train_and_test(args.data_root, args.work_dir, args.cfg_options, terminal)
        except Exception as error:
            traceback.print_exc()
            print(f'\nThe demo failed: {type(error).__name__}: {error}\nDetails: {log_path}', file=terminal)
            return 1

    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    checkpoint = (args.work_dir / 'last_checkpoint').read_text().strip()
    print(f'\nHeld-out shapes, {minutes}:{seconds:02d} minutes after the start:')
    print_table(metrics)
    print(f'\nGround truth and predictions side by side: {args.work_dir / "demo.png"}')
    print(f'Log: {log_path}')
    if metrics['coco/bbox_mAP_50'] < REQUIRED_AP50:
        print(f'\nThe demo failed: box AP50 is {metrics["coco/bbox_mAP_50"]:.3f}, at least {REQUIRED_AP50} was expected.')
        return 1
    test, train = ('python tools/test.py', 'python tools/train.py') if Path('tools/train.py').is_file() else COMMANDS
    print(
        '\nNext:\n'
        f'  {test} configs/{CONFIG.name} {checkpoint} --data-root {args.data_root} --show-dir pictures\n'
        f'  {train} configs/{CONFIG.name} --data-root {args.data_root} --work-dir work_dirs/shapes\n'
        f'  {train} configs/mask_rcnn_metaspike_coco.py --data-root YOUR_COCO'
    )
    return 0


if __name__ == '__main__':
    run(parse_args, main)
