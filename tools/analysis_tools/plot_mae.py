"""Picture of a masked autoencoder: images, what is left of them, and what the model paints.

    plot_mae.py CONFIG [CHECKPOINT] -o out.png [--data-root DIR | --images FILE …]

Images are prepared as in pretraining, which includes its random crop and flip. A patch's mean and contrast are those of the
image, for the model predicts normalised patches.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_config_options, add_device_option
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of a pretraining')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file or URL')
    parser.add_argument('-o', '--out', required=True, help='picture to write (.png, .svg, .pdf)')
    parser.add_argument('--images', nargs='+', help='image files; default: images of the training set, evenly spaced')
    parser.add_argument('--number', type=int, default=6, help='how many images of the training set (default 6)')
    parser.add_argument('--mask-ratio', type=float, help="share of hidden patches (default: the config's)")
    parser.add_argument('--seed', type=int, default=0, help='of crops, flips and masks (default 0)')
    add_device_option(parser)
    add_config_options(parser)
    return parser.parse_args()


def training_images(cfg, files: list[str] | None, number: int) -> list:
    """Samples of ``files``, or of ``number`` images of the training set, as the training pipeline makes them."""
    from mmcv.transforms import Compose
    from mmengine.registry import DATASETS, init_default_scope

    init_default_scope(cfg.default_scope)
    if files:
        pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
        return [pipeline(dict(img_path=file)) for file in files]
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    number = min(number, len(dataset))
    return [dataset[i * len(dataset) // number] for i in range(number)]


def main(args: argparse.Namespace) -> None:
    import numpy as np
    import torch
    from mmengine.dataset import default_collate
    from mmengine.runner import set_random_seed

    from mmspike.analysis import plots
    from mmspike.config import data, launch, precision
    from mmspike.config.loading import build_model
    from mmspike.models.pretraining import SpikeMAE

    for file in args.images or ():
        if not Path(file).is_file():
            raise UserError(f'--images {file} does not exist')
    precision.set_tf32(args.tf32)
    cfg = launch.load_config(args)
    if args.mask_ratio is not None:
        cfg.model.mask_ratio = args.mask_ratio
    set_random_seed(args.seed)
    with data.data_faults_explained(cfg, () if args.images else ('train_dataloader',), ()):
        samples = training_images(cfg, args.images, args.number)
        model = build_model(cfg, args.checkpoint, args.device)
    if not isinstance(model, SpikeMAE):
        raise UserError(f'{args.config}: the model is a {type(model).__name__}, expected mmspike.SpikeMAE')
    set_random_seed(args.seed)  # building the model draws weights
    preprocessor = model.data_preprocessor
    images = preprocessor(default_collate(samples))['inputs']
    pictures = model.paint(images)

    def pixels(x: torch.Tensor) -> np.ndarray:
        """uint8 RGB [B, H, W, 3] of preprocessed images."""
        x = x * preprocessor.std + preprocessor.mean if preprocessor._enable_normalize else x
        x = x.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        return x if preprocessor._channel_conversion else x[..., ::-1]

    visible = pictures['visible']
    columns = [pixels(x) for x in (images, pictures['masked'], pictures['pasted'], pictures['painted'])]
    title = f'{1 - visible.float().mean().item():.0%} of {visible.shape[1]} patches hidden'
    plots.plot_reconstructions(list(zip(*columns, strict=True)), title, args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run(parse_args, main)
