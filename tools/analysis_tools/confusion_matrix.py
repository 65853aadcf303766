"""Confusion matrix of a detector, segmentor or classifier.

    confusion_matrix.py CONFIG PREDICTIONS.pkl OUT_DIR                          mmdet; PREDICTIONS from test.py --out
    confusion_matrix.py CONFIG PREDICTIONS_DIR OUT_DIR                          mmseg; the same
    confusion_matrix.py CONFIG CHECKPOINT.pth|PREDICTIONS.pkl --show-path FILE  mmpretrain: its own tool

Detections are counted by mmdet's tool: boxes, and the last row and column are the background. Pixels are counted here: mmseg's
tool counts in 8 bits, which is wrong from 16 classes on, and knows built-in data sets only.
"""

import argparse
import csv
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import parse_host_tool_args
from mmspike.utils.errors import UserError

SCRIPTS = dict.fromkeys(('mmdet', 'mmpretrain', 'mmseg'), 'analysis_tools/confusion_matrix.py')
READABLE = 40  # classes up to which they are named and every cell has its number


def parse_args() -> argparse.Namespace:
    return parse_host_tool_args(__doc__)


def parse_rest(arguments: list[str], host: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage='%(prog)s CONFIG PREDICTIONS OUT_DIR [options]')
    parser.add_argument('predictions', type=Path, help='what tools/test.py --out wrote')
    parser.add_argument('out', type=Path, help='directory for confusion_matrix.png and .csv (counts; a row is a label)')
    parser.add_argument('--title', default='Confusion matrix')
    parser.add_argument('--color-theme', default='viridis', help='colour map of matplotlib')
    if host == 'mmdet':
        parser.add_argument('--score-thr', type=float, default=0.3, help='least score of a box (default 0.3)')
        parser.add_argument('--tp-iou-thr', type=float, default=0.5, help='least IoU of a match (default 0.5)')
        parser.add_argument('--nms-iou-thr', type=float, help='suppress boxes once more, with this IoU')
    args = parser.parse_args(arguments)
    if not args.predictions.exists():
        raise UserError(f'{args.predictions} does not exist: write it with tools/test.py CONFIG CHECKPOINT --out')
    return args


def detection_matrix(dataset, args: argparse.Namespace):
    """Boxes of the test set by (label, detection), the background last in both."""
    from mmengine.fileio import load

    from mmspike.config.host_tools import host_script

    results = load(args.predictions)
    if len(results) != len(dataset):
        raise UserError(f'{args.predictions} has {len(results)} images, and the test set {len(dataset)}: of another data set?')
    count = runpy.run_path(host_script('mmdet', SCRIPTS['mmdet']))['calculate_confusion_matrix']
    return count(dataset, results, args.score_thr, args.nms_iou_thr, args.tp_iou_thr).astype(int)


def segmentation_matrix(dataset, predictions: Path, name: Callable[[str], str]):
    """Pixels of the test set by (label, prediction), [C, C].

    Args:
        predictions: Folder of label images as ``test.py --out`` writes them; with ``reduce_zero_label`` they count classes
            from 1.
        name: Gives the name of the label image for an image's path.

    Raises:
        UserError: A label image is missing, or does not fit.
    """
    import numpy as np
    from PIL import Image

    n = len(dataset.metainfo['classes'])
    matrix = np.zeros((n, n), dtype=np.int64)
    for sample in dataset:
        sample = sample['data_samples']
        path = predictions / name(sample.img_path)
        if not path.is_file():
            raise UserError(f'{path} does not exist: write the predictions with tools/test.py … --out {predictions}')
        label = sample.gt_sem_seg.data.squeeze().numpy().astype(np.int64)
        predicted = np.asarray(Image.open(path)).astype(np.int64) - bool(dataset.reduce_zero_label)
        if predicted.shape != label.shape:
            raise UserError(f'{path} has the size {predicted.shape}, and its label {label.shape}: of another data set?')
        counted = label != dataset.ignore_index
        outside = predicted[counted & ((predicted < 0) | (predicted >= n))]
        if outside.size:
            raise UserError(f'{path} holds class {outside[0]}, and the data set has {n} classes: of another model?')
        matrix += np.bincount(n * label[counted] + predicted[counted], minlength=n * n).reshape(n, n)
    return matrix


def draw(matrix, names: list[str], title: str, colours: str, path: Path) -> None:
    """The share of each label that each class got, in per cent; a label without any has an empty row."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sums = matrix.sum(1, keepdims=True)
    shares = np.where(sums > 0, 100 * matrix / np.maximum(sums, 1), np.nan)
    n = len(names)
    size = min(max(4, 0.55 * n), 14)
    figure = Figure(figsize=(size + 1, size), layout='constrained', dpi=150)
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    figure.colorbar(ax.imshow(shares, cmap=colours, vmin=0, vmax=100), ax=ax, label='% of the label')
    ax.set(title=title, xlabel='prediction', ylabel='label')
    if n <= READABLE:
        ax.set_xticks(range(n), names, rotation=45, ha='right')
        ax.set_yticks(range(n), names)
        for (i, j), share in np.ndenumerate(shares):
            if not np.isnan(share):
                ax.text(j, i, f'{share:.1f}', ha='center', va='center', size=7, color='black' if share > 50 else 'white')
    figure.savefig(path)


def main(args: argparse.Namespace) -> None:
    from mmengine.registry import DATASETS, init_default_scope

    from mmspike.config import data, host_tools, launch
    from mmspike.config.output_names import OutputNames
    from mmspike.models.checkpoints import check_checkpoint_fits

    cfg, rest = launch.load_config(args), args.rest
    host = host_tools.host_of(cfg, SCRIPTS, 'confusion_matrix.py')
    init_default_scope(host)
    if host == 'mmpretrain':
        if rest and rest[0].endswith('.pth'):
            check_checkpoint_fits(cfg.model, rest[0])  # the tool would go on with random weights
        return host_tools.run_host_tool(cfg, rest, SCRIPTS, ('test_dataloader',))
    args = parse_rest(rest, host)
    with data.data_faults_explained(cfg, ('test_dataloader',), ()):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        names = list(dataset.metainfo['classes'])
        if host == 'mmdet':
            matrix, names = detection_matrix(dataset, args), [*names, 'background']
        else:
            matrix = segmentation_matrix(dataset, args.predictions, OutputNames(cfg, 'test_dataloader').labels)
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / 'confusion_matrix.csv', 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['label', *names])
        writer.writerows([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))
    draw(matrix, names, args.title, args.color_theme, args.out / 'confusion_matrix.png')
    print(f'Written to {args.out}: confusion_matrix.png, confusion_matrix.csv')


if __name__ == '__main__':
    run(parse_args, main)
