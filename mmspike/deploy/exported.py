"""An ONNX file in an engine as a model of configs, so that the host's own tools test and serve it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor

from mmspike.config.loading import model_config
from mmspike.models.backbones.base import InputShapeError
from mmspike.registry import MODELS
from mmspike.utils.errors import UserError

from .engines import open_session
from .runner import Runner, read_description


@MODELS.register_module()
class Exported(BaseModel):
    """Predictions of a file that ``deploy.py --onnx`` wrote: the host prepares and keeps them, numbers come from the engine.

    Args:
        file: ONNX file of a whole model.
        engine: 'onnxruntime' or 'openvino', with settings that keep the spikes, see :func:`.engines.open_session`.
        data_preprocessor: That of the model that was exported.

    Attributes:
        about: See :class:`mmspike.deploy.runner.Runner`.
        num_classes: Of a segmentor, else None.

    Raises:
        UserError: There is no such file, it holds no whole model, or the engine is missing or cannot run it.
    """

    def __init__(self, file: str, engine: str = 'onnxruntime', data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        self.about = description(file)
        self.runner = Runner(file, lambda path: open_session(path, engine))
        self.num_classes = self.about.get('num_classes')
        self.dataset_meta = dict(classes=self.about['classes']) if self.about['classes'] else {}

    def __deepcopy__(self, memo: dict) -> 'Exported':
        """Itself: hooks of configs that copy the model, such as EMAHook, find nothing in it that changes."""
        return self

    def forward(self, inputs: Tensor, data_samples: list[BaseDataElement] | None = None, mode: str = 'tensor') -> Any:
        """Data samples with predictions, for ``mode='predict'``."""
        if mode != 'predict' or data_samples is None:
            raise ValueError(f'an exported file predicts for data samples, got mode={mode!r}, data_samples={data_samples}')
        images = [self._place(sample) for sample in data_samples]
        try:
            results = self.runner.predict(inputs.cpu().numpy(), images)
        except UserError:
            raise
        except ValueError as error:
            raise InputShapeError(str(error)) from error
        for sample, result in zip(data_samples, results, strict=True):
            self._fill(sample, result)
        return data_samples

    def _place(self, sample: BaseDataElement) -> dict:
        meta = sample.metainfo
        if self.about['task'] == 'classification':
            return {}
        if meta.get('flip'):
            raise UserError('test-time augmentation needs the network itself: an exported file does not flip predictions back')
        place = dict(shape=meta['img_shape'][:2], original=meta['ori_shape'][:2], scale=meta.get('scale_factor', (1.0, 1.0)))
        padding = meta.get('img_padding_size', meta.get('padding_size'))
        return place if padding is None else place | dict(padding=padding)

    def _fill(self, sample: Any, result: dict) -> None:
        arrays = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in result.items() if isinstance(v, np.ndarray)}
        if self.about['task'] == 'classification':
            sample.set_pred_score(arrays['scores']).set_pred_label(result['label'])
        elif self.about['task'] == 'segmentation':
            sample.set_data(
                dict(seg_logits=PixelData(data=arrays['logits']), pred_sem_seg=PixelData(data=arrays['labels'][None]))
            )
        else:
            sample.pred_instances = InstanceData(**arrays)


def description(file: str | Path) -> dict:
    """The description that an exported file has of itself.

    Raises:
        UserError: There is no such file, or it holds no whole model.
    """
    if not Path(file).is_file():
        raise UserError(f'{file}: there is no such file')
    try:
        return read_description(file)
    except ValueError as error:
        raise UserError(str(error)) from error


def exported_config(cfg: Config, file: str | Path, engine: str) -> ConfigDict:
    """The model of a config with an exported file in its place."""
    preprocessor = model_config(cfg).get('data_preprocessor')
    if preprocessor is not None and 'type' not in preprocessor:  # classifiers of mmpretrain go without
        preprocessor = ConfigDict(type='mmpretrain.ClsDataPreprocessor', **preprocessor)
    return ConfigDict(type='mmspike.Exported', file=str(file), engine=engine, data_preprocessor=preprocessor)
