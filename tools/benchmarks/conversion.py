"""An ordinary network converted at several D: metrics, energy and time, with and without a tenth of its training on top.

    python tools/benchmarks/conversion.py CONFIG CHECKPOINT --out DIR --data-root DATA --finetune 8

Writes DIR/conversion.json, conversion.md and conversion.png, and for each D the converted config and weights. What the JSON has
already is not measured again. Time is CPU time of a forward of one image on one thread. --spikingjelly converts a classifier
with spikingjelly's ann2snn, too, and tests it on the same images after as many time steps as there are levels.
"""

import argparse
import json
import sys
import time
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_config_options, add_device_option, positive

METRICS = ('accuracy/top1', 'coco/bbox_mAP', 'coco/segm_mAP', 'mIoU')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of the ordinary network')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', required=True, type=Path, help='directory to write into')
    parser.add_argument('--levels', type=positive, nargs='+', default=[2, 4, 8, 16, 32], help='(default: 2 4 8 16 32)')
    parser.add_argument('--finetune', type=positive, nargs='*', default=[], metavar='D', help='D that are trained on from')
    parser.add_argument('--images', type=positive, default=64, help='training images that set thresholds (default: 64)')
    parser.add_argument('--energy-images', type=positive, default=8, help='test images of the energy (default: 8)')
    parser.add_argument('--spikingjelly', action='store_true', help="spikingjelly's ann2snn beside it")
    add_device_option(parser)
    add_config_options(parser)
    return parser.parse_args()


def score(model, cfg) -> dict:
    """The metrics of a model on the test data."""
    import torch
    from mmengine.evaluator import Evaluator
    from mmengine.runner import Runner

    loader = Runner.build_dataloader(deepcopy(cfg.test_dataloader))
    evaluator = Evaluator(deepcopy(cfg.test_evaluator))
    evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
    model.eval()
    for batch in loader:
        with torch.no_grad():
            outputs = model.test_step(deepcopy(batch))
        evaluator.process(outputs, batch)
    found = evaluator.evaluate(len(loader.dataset))
    return {name.split('/')[-1]: round(float(value), 4) for name, value in found.items() if name in METRICS}


def cost(model, cfg, images: int) -> dict:
    """Energy of an image in mJ, of the ordinary network with the same layers, and CPU time in milliseconds."""
    import torch
    from mmengine.runner import Runner

    from mmspike.analysis import measure_energy

    loader_cfg = deepcopy(cfg.test_dataloader)
    loader_cfg.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader_cfg)
    batches = [loader.collate_fn([loader.dataset[i]]) for i in range(min(images, len(loader.dataset)))]
    report = measure_energy(model, [deepcopy(b) for b in batches])
    threads, least = torch.get_num_threads(), float('inf')
    torch.set_num_threads(1)
    image = model.data_preprocessor(deepcopy(batches[0]), False)
    with torch.no_grad():
        for _ in range(6):
            start = time.process_time()
            model(**image, mode='tensor')
            least = min(least, time.process_time() - start)
    torch.set_num_threads(threads)
    energy, twin = report.total['exact_energy_mj'], report.total['twin_energy_mj']
    return dict(energy_mj=energy, ordinary_mj=twin, milliseconds=1000 * least, float_fed=report.float_fed)


def train_on(config: Path, folder: Path):
    """A converted network after its config's training, and the CPU time of that."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.val_dataloader, cfg.val_cfg, cfg.val_evaluator = str(folder), None, None, None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.pop('prefetch_factor', None)
    runner = Runner.from_cfg(cfg)
    start = time.process_time()
    runner.train()
    return runner.model, time.process_time() - start


def spikingjelly_scores(model, cfg, images: list, steps: list[int]) -> dict:
    """Top-1 of spikingjelly's conversions of a classifier after so many time steps, by recipe."""
    import torch
    from mmengine.runner import Runner
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based.ann2snn import Converter, LocalThresholdBalancingRecipe, RateCodingRecipe
    from torch import nn

    class Plain(nn.Module):
        """Without the host's classes of results, which cannot be traced."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.fc = deepcopy(model.backbone), deepcopy(model.head.fc)

        def forward(self, x):
            return self.fc(self.backbone(x)[-1].mean((2, 3)))

    calibration = [(image['inputs'], 0) for image in images]
    recipes = {
        'RateCodingRecipe, maximum': RateCodingRecipe(calibration, mode='Max'),
        'RateCodingRecipe, 99.9 %': RateCodingRecipe(calibration, mode='99.9%'),
        'LocalThresholdBalancingRecipe': LocalThresholdBalancingRecipe(calibration),
    }
    found: dict = {}
    for name, recipe in recipes.items():
        try:
            network = Converter(recipe).convert(Plain().eval()).eval()
        except Exception as error:  # its own reason, which is the result
            found[name] = f'{type(error).__name__}: {error}'
            continue
        hits, total = dict.fromkeys(steps, 0), 0
        for batch in Runner.build_dataloader(deepcopy(cfg.test_dataloader)):
            data = model.data_preprocessor(batch, False)
            labels = torch.cat([sample.gt_label for sample in data['data_samples']])
            functional.reset_net(network)
            logits = 0
            with torch.no_grad():
                for step in range(1, max(steps) + 1):
                    logits = logits + network(data['inputs'])
                    if step in hits:
                        hits[step] += int((logits.argmax(1) == labels).sum())
            total += len(labels)
        found[name] = {str(step): round(100 * n / total, 2) for step, n in hits.items()}
    return found


def ordered(rows: dict) -> dict:
    """The ordinary network, the converted ones and the trained ones, by D."""
    return dict(
        sorted(rows.items(), key=lambda item: (not item[0].startswith('ordinary'), item[0][:9], item[1]['levels'] or 0))
    )


def table(found: dict) -> str:
    rows = ordered(found['rows'])
    names = list(next(iter(rows.values()))['scores'])
    lines = [f'| | {" | ".join(names)} | mJ an image | CPU ms an image |', '|---|' + '---|' * (len(names) + 2)]
    for label, row in rows.items():
        scores = ' | '.join(f'{row["scores"][name]:g}' for name in names)
        lines.append(f'| {label} | {scores} | {row["energy_mj"]:.3g} | {row["milliseconds"]:.1f} |')
    for name, scores in found.get('spikingjelly', {}).items():
        text = scores if isinstance(scores, str) else ', '.join(f'{score:g} (T = {step})' for step, score in scores.items())
        lines.append(f'\nspikingjelly, {name}: {text}')
    return '\n'.join(lines) + '\n'


def draw(found: dict, path: Path) -> None:
    """Each metric against D and energy; dotted: the ordinary network."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

    rows = ordered(found['rows'])
    ordinary = rows['ordinary']
    names = list(ordinary['scores'])
    figure = Figure((7.5, 2.6 * len(names)), layout='constrained', dpi=80)
    axes = figure.subplots(len(names), 2, squeeze=False, sharey='row')
    levels = sorted({row['levels'] for row in rows.values() if row['levels']})
    for y, name in enumerate(names):
        for ax, key in zip(axes[y], ('levels', 'energy_mj'), strict=True):
            for kind, marker in (('converted', 'o-'), ('trained', 's-')):
                chosen = [row for label, row in rows.items() if label.startswith(kind)]
                ax.plot([row[key] for row in chosen], [row['scores'][name] for row in chosen], marker, label=kind, markersize=4)
            ax.axhline(ordinary['scores'][name], color='black', linestyle=':', label='ordinary')
            ax.set_xscale('log')
            ax.grid(alpha=0.3)
        axes[y][0].set(xlabel='D, binary steps to an answer', ylabel=name)
        axes[y][0].xaxis.set_major_locator(FixedLocator(levels))
        axes[y][0].xaxis.set_major_formatter(FormatStrFormatter('%d'))
        axes[y][0].xaxis.set_minor_locator(NullLocator())
        axes[y][1].set_xlabel('mJ an image')
    axes[0][0].legend(fontsize=8)
    figure.savefig(path)


def main(args: argparse.Namespace) -> None:

    from mmspike.config import launch
    from mmspike.config.loading import build_model
    from mmspike.deploy.conversion import calibrate, convert, find, save_converted
    from mmspike.deploy.forwards import forwards, regions, training_images

    cfg = launch.load_config(args)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / 'conversion.json'
    found = json.loads(file.read_text()) if file.exists() else dict(rows={})
    rows = found['rows']

    def keep(label: str, model, **more) -> None:
        rows[label] = dict(scores=score(model, cfg), **cost(model, cfg, args.energy_images), **more)
        file.write_text(json.dumps(found, indent=1))
        print(label, rows[label]['scores'], flush=True)

    model = build_model(cfg, args.checkpoint, args.device)
    if 'ordinary' not in rows:
        keep('ordinary', model, levels=None)
    images = [model.data_preprocessor(batch, False) for batch in training_images(cfg, args.images)]
    if args.spikingjelly and 'spikingjelly' not in found:
        found['spikingjelly'] = spikingjelly_scores(model, cfg, images, args.levels)
        file.write_text(json.dumps(found, indent=1))

    given = [regions(model, image) for image in images]
    sites = find(model, forwards(model, images, given))
    for levels in args.levels:
        label, folder = f'converted, D = {levels}', args.out / f'D{levels}'
        if label not in rows:
            network = convert(deepcopy(model), sites, levels)
            calibrate(network, sites, forwards(network, images, given))
            save_converted(network, cfg, folder, sites, levels)
            keep(label, network, levels=levels)
        label = f'trained, D = {levels}'
        if levels in args.finetune and label not in rows:
            trained, seconds = train_on(folder / 'converted.py', folder / 'trained')
            keep(label, trained, levels=levels, training_seconds=seconds)
    (args.out / 'conversion.md').write_text(table(found))
    draw(found, args.out / 'conversion.png')
    print(table(found))


if __name__ == '__main__':
    run(parse_args, main)
