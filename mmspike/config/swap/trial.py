"""Builds and runs a swapped config, and says where it breaks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from traceback import walk_tb
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from mmspike.config.loading import model_config, random_batch
from mmspike.config.names import type_name
from mmspike.engine.hooks import check_strides
from mmspike.models.checkpoints import without_pretrained
from mmspike.utils.errors import describe

from .features import SIDE
from .parse import SwapError


@contextmanager
def _quiet() -> Iterator[None]:
    """No log of a trial's initialisation, a line a parameter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _shapes(item: Any) -> str:
    if isinstance(item, Tensor):
        return str(tuple(item.shape))
    if isinstance(item, list | tuple):
        return f'[{", ".join(_shapes(i) for i in item)}]'
    return type(item).__name__


@contextmanager
def failures_located(model: nn.Module, doing: str) -> Iterator[None]:
    """If the body fails inside a module of ``model``, say in which, and with which shapes."""
    running: list[tuple[nn.Module, str]] = []

    def enter(module: nn.Module, inputs: tuple) -> None:
        running.append((module, ', '.join(map(_shapes, inputs))))

    def leave(module: nn.Module, inputs: tuple, output: Any) -> None:
        while running and running.pop()[0] is not module:
            pass

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        yield
    except Exception as error:
        names = {module: name for name, module in model.named_modules()}
        places = [(names[m], type(m).__name__, shapes) for m, shapes in running if names.get(m)]
        where = f'; innermost: {places[-1][0]} ({places[-1][1]}) with {places[-1][2]}' if len(places) > 1 else ''
        where = f'{places[0][0]} ({places[0][1]}) with input {places[0][2]}{where}' if places else type(model).__name__
        raise SwapError(f'{doing} fails in {where}: {describe(error)}') from error
    finally:
        for handle in handles:
            handle.remove()


def takes_event_frames(model: dict, cfg: Config) -> bool:
    """True if a model reads frames [T, 2, H, W] instead of images."""
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    return type_name(preprocessor).startswith('Event')


def _predict(model: nn.Module, scope: str, side: int, steps: int | None) -> None:
    with failures_located(model, f'a trial prediction of {side} px'):
        data = model.data_preprocessor(random_batch(scope, model.backbone.in_channels, (side, side), steps), False)
        if hasattr(model, 'predict'):
            try:
                model(**data, mode='predict')
            except RuntimeError as error:
                # mmdet cannot paste the mask of a box outside of the image, as iterated boxes of random weights may be; by
                # then every module has run
                if not _pastes_masks(error):
                    raise
        else:  # self-supervised models have no prediction
            model.extract_feat(data['inputs'])


def _pastes_masks(error: BaseException) -> bool:
    """It was raised where mmdet puts the masks of boxes into the image."""
    frames = [frame.f_code.co_name for frame, _ in walk_tb(error.__traceback__)]
    return '_do_paste_mask' in frames


@torch.no_grad()
def try_model(cfg: Config) -> nn.Module:
    """Build the config's model, with no weights from files, and predict a noise image.

    Raises:
        SwapError: It cannot be built or does not run, or anchors and RoI extractors assume other strides than the features'.
    """
    model_cfg = without_pretrained(model_config(cfg))
    try:
        with _quiet():
            model = MODELS.build(model_cfg)
            model.init_weights()  # Sparse R-CNN's boxes, for example, are boxes only then
    except Exception as error:
        raise SwapError(f'model ({type_name(model_cfg)}) cannot be built: {describe(error)}') from error
    model.eval()
    steps = model.backbone.T if takes_event_frames(model_cfg, cfg) else None
    failures = []
    # a pooling window may be larger than the features of a small image, and position embeddings may be made for 224 px
    for side in (SIDE, 2 * SIDE, 224):
        try:
            _predict(model, cfg.default_scope, side, steps)
            break
        except SwapError as error:
            failures.append(error)
    else:
        raise failures[0]
    if cfg.default_scope != 'mmpretrain':
        try:
            check_strides(model)
        except ValueError as error:
            raise SwapError(str(error)) from None
    return model


def try_optimizer(cfg: Config, model: nn.Module) -> None:
    """Let an optimizer constructor other than mmengine's default, which takes any model, sort the parameters of ``model``.

    Raises:
        SwapError: It does not know the new backbone.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    if 'constructor' not in wrapper:
        return
    constructor = dict(
        type=wrapper['constructor'],
        # the precision is not part of the question, and mixed precision may need a GPU
        optim_wrapper_cfg=dict(type='OptimWrapper', optimizer=deepcopy(wrapper['optimizer'])),
        paramwise_cfg=deepcopy(wrapper.get('paramwise_cfg')),
    )
    try:
        OPTIM_WRAPPER_CONSTRUCTORS.build(constructor)(model)
    except Exception as error:
        raise SwapError(f'optim_wrapper ({wrapper["constructor"]}) does not take the new model: {describe(error)}') from error
