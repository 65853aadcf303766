"""Anytime inference of a classifier of T > 1 time steps: stop at the first step at which it is sure.

Chooses the thresholds on training images, augmented as in training, and evaluates them on the test set, where a decided
image is computed no further. Prints accuracy and average steps beside the accuracy of 1, 2, … T steps for every image.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_config_options, add_device_option, positive
from mmspike.utils.errors import UserError


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value < 1:
        return value
    raise argparse.ArgumentTypeError(f'expected a share of at least 0 and less than 1, got {text!r}')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a classifier')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument(
        '--epsilon', type=share, default=0.05, help='share of stopped training images that may be wrong (default 0.05)'
    )
    parser.add_argument(
        '--train-images',
        type=positive,
        default=1000,
        help='images to calibrate on (default 1000); each several times, augmented anew, where the training set has fewer',
    )
    parser.add_argument('--num-images', type=positive, help='test images to evaluate (default: all)')
    parser.add_argument('--batch-size', type=positive, default=50, help='images at a time (default 50)')
    parser.add_argument('--json', metavar='FILE', help='write the result as JSON')
    add_device_option(parser)
    add_config_options(parser)
    return parser.parse_args()


def batches(model, dataset, number: int, size: int):
    """Preprocessed inputs and labels of ``number`` images, evenly spaced over a dataset, ``size`` at a time."""
    import torch
    from mmengine.dataset import default_collate

    indices = [i * len(dataset) // number for i in range(number)]
    for start in range(0, number, size):
        batch = default_collate([dataset[i] for i in indices[start : start + size]])
        data = model.data_preprocessor(batch, False)
        labels = torch.cat([sample.gt_label for sample in data['data_samples']])
        yield data['inputs'], labels.to(data['inputs'].device)


def main(args: argparse.Namespace) -> None:
    import torch
    from mmengine.registry import DATASETS
    from mmengine.runner import set_random_seed

    from mmspike.config import data, launch, precision
    from mmspike.config.loading import build_model
    from mmspike.deploy.cutoff import StepByStep, calibrate, evaluate

    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    precision.set_tf32(args.tf32)
    cfg = launch.load_config(args)
    if cfg.get('default_scope') != 'mmpretrain':
        raise UserError(
            f'{args.config} is no config of a classifier: its default_scope is {cfg.get("default_scope")!r}, not mmpretrain'
        )
    with data.data_faults_explained(cfg, ('train_dataloader', 'test_dataloader'), ()):
        model = build_model(cfg, args.checkpoint, args.device)
        try:
            runner = StepByStep(model)
        except ValueError as error:
            raise UserError(f'{args.config}: {error}') from error
        # most training images are known by heart, and a network is surer of those than of what it has never seen
        train = cfg.train_dataloader.dataset
        while 'dataset' in train:
            train = train.dataset
        train, test = DATASETS.build(train), DATASETS.build(cfg.test_dataloader.dataset)
        set_random_seed(0)
        logits, labels = [], []
        for inputs, truth in batches(model, train, args.train_images, args.batch_size):
            if not logits:
                runner.check(inputs)
            logits.append(runner.logits(inputs))
            labels.append(truth)
        betas = calibrate(torch.cat(logits, 1), torch.cat(labels), args.epsilon)
        number = min(args.num_images or len(test), len(test))
        result = evaluate(runner, betas, batches(model, test, number, args.batch_size))
    print(f'thresholds from {sum(map(len, labels))} training images, epsilon {args.epsilon}')
    print(result)
    if args.json:
        Path(args.json).write_text(json.dumps(asdict(result) | dict(epsilon=args.epsilon), indent=1), encoding='utf-8')


if __name__ == '__main__':
    run(parse_args, main)
