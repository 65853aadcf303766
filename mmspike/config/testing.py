"""Settings of a test by host, for tools/test.py: drawing, test-time augmentation, output files."""

import os.path as osp
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from numbers import Real
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from torch import nn

from mmspike.config.data_paths import config_datasets
from mmspike.config.launch import build_runner
from mmspike.config.output_names import OutputNames, name_pictures
from mmspike.engine.label_images import LabelImages
from mmspike.models.backbones.base import InputShapeError
from mmspike.utils.errors import UserError
from mmspike.utils.files import check_folder, check_writable


def _metrics(cfg: Config) -> list[dict]:
    evaluator = cfg.test_evaluator
    return list(evaluator) if isinstance(evaluator, list | tuple) else [evaluator]


def draw_predictions(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    """Switch the config's visualization hook on.

    Raises:
        UserError: The config has no visualization hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError(
            '--show and --show-dir need a visualization hook in default_hooks, for example '
            "visualization=dict(type='DetVisualizationHook') with mmdet, 'SegVisualizationHook' with mmseg, "
            "'VisualizationHook' with mmpretrain, 'mmspike.EventVisualizationHook' there for event cameras"
        )
    if show_dir:
        check_folder(show_dir, '--show-dir')
    hook.update(show=show, wait_time=wait_time)
    folder = show_dir and osp.abspath(show_dir)  # mmdet puts a relative one into the folder of its log
    scope = cfg.get('default_scope')
    if scope == 'mmpretrain':
        hook.update(enable=True, out_dir=folder, interval=1)  # of every picture, as the other hosts
        return
    hook.draw = True
    if folder and scope == 'mmdet':
        hook.test_out_dir = folder


def keep_folders(runner: Runner, show_dir: str) -> None:
    """Let the pictures in ``show_dir`` have the names and folders of their images: the hosts drop the folders."""
    names, visualizer = OutputNames(runner.cfg, 'test_dataloader'), runner.visualizer
    method = 'visualize_cls' if runner.cfg.get('default_scope') == 'mmpretrain' else 'add_datasample'
    setattr(visualizer, method, name_pictures(getattr(visualizer, method), names, osp.abspath(show_dir)))


def name_images(runner: Runner) -> None:
    """Let an image that the network cannot take, such as one that is too small, be named by its path when the test meets it."""
    model, test_step = runner.model, runner.model.test_step

    def named(data: Any) -> Any:
        try:
            return test_step(data)
        except InputShapeError as error:
            samples = data['data_samples']
            paths = [sample.img_path for sample in samples if 'img_path' in sample]
            more = f' and {len(paths) - 3} more of its batch' if len(paths) > 3 else ''
            raise InputShapeError(f'{", ".join(paths[:3])}{more}: {error}' if paths else str(error)) from error

    model.test_step = named


def enable_tta(cfg: Config) -> None:
    """Wrap the model in ``tta_model`` and let the test datasets run ``tta_pipeline``.

    Without these in the config, mmdet and mmpretrain get a horizontal flip, as from their own tools. mmdet merges the boxes
    of the views and refuses masks: a two-stage detector is then tested without its mask head.

    Raises:
        UserError: mmseg's ``tta_model`` or ``tta_pipeline`` is missing.
    """
    datasets = list(config_datasets(cfg, ('test_dataloader',)))
    pipeline = datasets[0]['pipeline']
    scope = cfg.get('default_scope')
    defaults: Any = {
        'mmdet': dict(
            tta_model=dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
            pack=dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction'),
            ),
        ),
        'mmpretrain': dict(tta_model=dict(type='AverageClsScoreTTA'), pack=pipeline[-1]),
    }.get(scope)
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
    if missing and defaults is None:
        raise UserError(f'--tta: the config has no {" and no ".join(missing)}, and {scope} has no default for it')
    if 'tta_model' in missing:
        cfg.tta_model = defaults['tta_model']
    if 'tta_pipeline' in missing:
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        cfg.tta_pipeline = [
            *deepcopy(list(pipeline[:-1])),
            dict(type='TestTimeAug', transforms=[flips, [defaults['pack']]]),
        ]
    if cfg.model.get('roi_head', {}).get('mask_head') is not None:
        print('--tta: mmdet merges boxes only, so masks are neither predicted nor scored')
        cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None)
        for metric in _metrics(cfg):
            if 'segm' in metric.get('metric', ()):
                metric['metric'] = ['bbox']
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in datasets:
        dataset['pipeline'] = deepcopy(cfg.tta_pipeline)


def check_out(cfg: Config, out: str) -> None:
    """Check ``out`` before the test runs.

    Raises:
        UserError: ``out`` is not a pickle file with mmdet or mmpretrain, or one with mmseg.
    """
    is_pickle = out.endswith(('.pkl', '.pickle'))
    if cfg.get('default_scope') != 'mmseg':
        if not is_pickle:
            raise UserError(f'--out {out}: expected a file name that ends in .pkl or .pickle')
        check_writable(out, '--out')
        return
    if is_pickle:
        raise UserError(f'--out {out}: of mmseg it gets a label image for each input, expected a directory')
    check_folder(out, '--out')


def dump_predictions(runner: Runner, out: str) -> None:
    """Let the test of mmdet or mmpretrain write its predictions to the pickle file ``out``, that of mmseg into a folder."""
    scope = runner.cfg.get('default_scope')
    if scope == 'mmdet':
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=out))
    elif scope == 'mmpretrain':
        from mmengine.evaluator import DumpResults

        runner.test_evaluator.metrics.append(DumpResults(out_file_path=out))
    elif scope == 'mmseg':
        runner.test_evaluator.metrics.append(LabelImages(out, OutputNames(runner.cfg, 'test_dataloader').labels))


def metrics_of(cfg: Config, networks: Mapping[str, nn.Module]) -> dict[str, dict[str, float]]:
    """Name -> what the config's test evaluator says of a network, for several on the same test set.

    Args:
        cfg: Config, with a host's own runner.
        networks: Models that predict as the config's does, on the CPU.
    """
    cfg = Config(cfg.to_dict())
    cfg.launcher, cfg.load_from, cfg.resume, cfg.log_level = 'none', None, False, 'WARNING'
    for name in ('runner_type', 'strategy'):
        cfg.pop(name, None)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        runner = build_runner(cfg)
        for name, network in networks.items():
            runner.model = network  # which moves the data to where it is
            # mmseg's figures are numpy's
            results[name] = {key: float(value) for key, value in runner.test().items() if isinstance(value, Real)}
    return results


#: what the hosts call the figure that a model is judged by
JUDGED_BY = ('top1', 'mIoU', 'mAP', 'PQ')


def points_lost(scope: str | None, before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """How much of top-1, mIoU, AP or PQ was lost, in points, which are hundredths; of several metrics the largest loss.

    Args:
        scope: The config's ``default_scope``: mmdet has 0 to 1, the others 0 to 100.
        before, after: From :func:`metrics_of`.

    Returns:
        None if there is none of these metrics.

    Example:
        >>> points_lost('mmdet', {'bbox_mAP': 0.35, 'bbox_mAP_50': 0.5}, {'bbox_mAP': 0.34, 'bbox_mAP_50': 0.4})
        1.0
    """
    lost = [before[key] - after[key] for key in before if key.endswith(JUDGED_BY) and key in after]
    return None if not lost else round(max(lost) * (100 if scope == 'mmdet' else 1), 6)
