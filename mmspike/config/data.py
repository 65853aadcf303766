"""Errors that data cause, explained: which file, value or annotation, and what to do."""

import logging
import os
import os.path as osp
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.logging import print_log

from mmspike.config.data_check import check_data
from mmspike.config.data_paths import EVALUATORS, LOADERS, check_data_exists, config_datasets, data_paths
from mmspike.config.memory_faults import memory_advice
from mmspike.config.names import type_name
from mmspike.utils.errors import UserError

# modules whose code reads and scores data: an error that was raised in them is one of data
READING = (
    'torch.utils.data.', 'mmengine.dataset.', 'mmengine.fileio.', 'mmdet.datasets.', 'mmseg.datasets.', 'mmpretrain.datasets.',
    'mmspike.datasets.', 'mmcv.transforms.', 'mmcv.image.', 'pycocotools.', 'faster_coco_eval.', 'mmdet.evaluation.',
)  # fmt: skip
# what a loss says of a label that is not a class
LABEL_OUT_OF_RANGE = re.compile(
    r'Target -?\d+ is out of bounds|Class Index must be|index -?\d+ is out of bounds|Class values must be'
)
UNFIT_SIZES = re.compile(r'Sizes of tensors must match|must match the size of tensor b')
SECONDS = 120.0  # for looking at the files after a failure
WORKER = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (is killed by signal: (?P<signal>[\w ]+)|exited unexpectedly)'
)


def _modules(error: BaseException) -> list[str]:
    """Names of the modules that an error came through, the one that raised it last."""
    names = []
    traceback = error.__traceback__
    while traceback is not None:
        names.append(str(traceback.tb_frame.f_globals.get('__name__')))
        traceback = traceback.tb_next
    return names


def is_reading_error(error: BaseException, paths: Sequence[str]) -> bool:
    """True if an error comes from reading or scoring data.

    Numbers that are not finite and errors of the system on other paths than those of the data are none,
    wherever they were raised, and neither are types and keys of a config that do not exist.
    """
    if isinstance(error, FloatingPointError):
        return False
    if isinstance(error, OSError):
        name = osp.abspath(str(error.filename)) if error.filename else ''
        if not any(name == path or name.startswith(path + os.sep) for path in map(osp.abspath, paths)):
            return False
    modules = _modules(error)
    built = not modules or modules[-1].startswith('mmengine.registry')
    return not built and any(f'{module}.'.startswith(READING) for module in modules)


def _worker_advice(error: Exception) -> str | None:
    """Advice on a data loader's process that died; None for any other error."""
    found = WORKER.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    advice = {
        'Killed': 'The system kills processes when memory is short: take fewer '
        '(--cfg-options train_dataloader.num_workers=1), or smaller batches or images. ',
        'Bus error': 'The shared memory is full: in a container enlarge /dev/shm (docker run --shm-size=8g), or take fewer '
        'workers (--cfg-options train_dataloader.num_workers=1). ',
    }.get(
        (found['signal'] or '').strip(),
        'Where it happens shows a run without workers: --cfg-options train_dataloader.num_workers=0 '
        'train_dataloader.persistent_workers=False. ',
    )
    return f'A worker of a data loader died: {error}\n  {advice}Training goes on from the last checkpoint with --resume'


def told_in_worker(error: UserError) -> str | None:
    """The message of an error that a process of a data loader raised, without that process' traceback; None for another."""
    name = type(error).__name__
    said = str(error)
    if not said.startswith(f'Caught {name} in DataLoader worker process'):
        return None
    return said.rpartition(f'{name}: ')[2].strip()


def unfit_sizes(cfg: Config, error: Exception) -> str | None:
    """The explanation of features whose sizes a neck cannot bring together; None for any other error."""
    if not isinstance(error, RuntimeError) or not UNFIT_SIZES.search(str(error)) or not cfg.get('model'):
        return None
    if not any('.necks.' in f'{name}.' for name in _modules(error)):
        return None
    neck = cfg.model.get('neck') or {}
    name = type_name(neck) if isinstance(neck, dict) else 'the neck'
    option = 'size_divisor' if cfg.get('default_scope') == 'mmseg' else 'pad_size_divisor'
    return (
        f'{name} enlarges features and finds others of another size: heights and widths of the images have to be multiples of '
        f"the features' strides. Set model.data_preprocessor.{option}=32, or put dict(type='Pad', size_divisor=32) into the "
        f'pipelines behind Resize\n  (The error was RuntimeError: {error})'
    )


def empty_files(directories: Sequence[str]) -> list[str]:
    """The files of 0 bytes under ``directories``, sorted."""
    walked = (osp.join(folder, name) for top in directories for folder, _, names in os.walk(top) for name in names)
    return sorted({path for path in walked if osp.isfile(path) and osp.getsize(path) == 0})


def explanation(cfg: Config, error: Exception, loaders: Sequence[str], evaluators: Sequence[str]) -> str | None:
    """The explanation of an error by the data or a lack of memory, in words; None if there is none."""
    if advice := _worker_advice(error) or memory_advice(cfg, error, loaders) or unfit_sizes(cfg, error):
        return advice
    paths = [path for dataset in config_datasets(cfg, tuple(loaders)) for path in data_paths(dataset)]
    labels = LABEL_OUT_OF_RANGE.search(str(error)) is not None and any('.losses.' in name for name in _modules(error))
    if not labels and not is_reading_error(error, paths):
        return None
    said = f'(The error was {type(error).__name__}: {error})'
    if 'buf.empty()' in str(error) and (empty := empty_files(paths)):
        more = '…' if len(empty) > 5 else ''
        names = ', '.join(empty[:5]) + more
        return f'{len(empty)} image files are empty (0 bytes): {names}. Replace them, or take them out\n  {said}'
    report = check_data(cfg, loaders, evaluators, SECONDS, every=True)
    if report.errors:
        return '\n  '.join(['The data do not fit the config:', *map(str, report.errors[:10]), said])
    if found := re.search(r'stack expects each tensor to be equal size, but got (\[.*?\]).* and (\[.*?\])', str(error)):
        return (
            f'Pictures of one batch have different sizes, {found[1]} and {found[2]} (channels, height, width). Put a '
            "dict(type='Resize', scale=…) with both sides, or a crop, into the pipeline behind LoadImageFromFile, or set "
            f'batch_size=1\n  {said}'
        )
    return None


@contextmanager
def data_faults_explained(
    cfg: Config, loaders: Sequence[str] = LOADERS, evaluators: Sequence[str] = EVALUATORS
) -> Iterator[None]:
    """Check that a config's data are there; if the body then fails on them, say which file, annotation or label it is.

    Only errors that were raised while data are read or scored are explained, and those of a loss about a label that is not
    a class. The data are then looked at once more, as :func:`mmspike.config.data_check.check_data` does it, and every file. Of
    memory that runs out, here or on a GPU, it is said what needs less of it. All other errors pass as they are.

    Raises:
        UserError: The explanation, with the error as its cause.
    """
    check_data_exists(cfg, tuple(loaders), tuple(evaluators))
    try:
        yield
    except UserError as error:
        if text := told_in_worker(error):
            raise UserError(text) from error
        raise
    except Exception as error:
        try:
            text = explanation(cfg, error, loaders, evaluators)
        except Exception as second:  # the first error is what the user has to see, whatever the data look like
            print_log(f'The data were not looked at ({type(second).__name__}: {second})', 'current', logging.WARNING)
            text = None
        if text is None:
            raise
        raise UserError(text) from error
