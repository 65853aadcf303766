"""A web page: an image in, the prediction, firing rates and energy out."""

import html
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mmspike.analysis import EnergyReport
from mmspike.analysis.report import energy, number, ratio
from mmspike.models.inspection import stage_of
from mmspike.utils.optional import is_installed

from .inferencer import Inferencer, inference
from .sources import InputError

if TYPE_CHECKING:
    import gradio

RATE_COLUMNS = ('stage', 'layers', 'firing rate', 'non-zero', 'silent')
ENERGY_COLUMNS = ('part', 'MACs', 'SOPs', 'mJ', 'formula', 'twin', 'ratio')


@dataclass
class Analysis:
    """The page's results for one image.

    Attributes:
        prediction: The image with what was found, uint8 RGB [H, W, 3].
        spikes: Firing rates of all stages over the image, uint8 RGB; None of a network without neurons.
        rates: Rows of ``RATE_COLUMNS``, by stage: neuron layers, spikes per neuron and step, share of outputs that are not 0,
            layers that never fire.
        energy: Rows of ``ENERGY_COLUMNS``, by part of the network, and the sum: dense MACs of one step, accumulations that the
            observed spikes cause, energy by these, by the field's formula and of the ordinary twin, twin / this.
        summary: Markdown.
    """

    prediction: np.ndarray
    spikes: np.ndarray | None
    rates: list[list]
    energy: list[list]
    summary: str


def analyse(inferencer: Inferencer, image: str | np.ndarray, score_thr: float = 0.3) -> Analysis:
    """Prediction, firing rates and energy of one image.

    Raises:
        InputError: The image cannot be read.
    """
    frame, sample = next(inferencer.stream(image))
    report = inferencer.energy(frame.image)
    return Analysis(
        prediction=inferencer.draw(frame.image, sample, score_thr),
        spikes=_spikes(inferencer, frame.image) if report.neurons else None,
        rates=_rates(report),
        energy=_energy(report),
        summary=_summary(report),
    )


def _spikes(inferencer: Inferencer, image: np.ndarray) -> np.ndarray:
    with io.BytesIO() as file:
        inferencer.draw_spikes(image, file)
        picture: Any = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    return picture[..., ::-1]


def _rates(report: EnergyReport) -> list[list]:
    stages: dict[str, list[dict]] = {}
    for neuron in report.neurons:
        stages.setdefault(stage_of(neuron['name']), []).append(neuron)
    rows = []
    for stage, neurons in stages.items():
        weights = [n['elements'] * n['steps'] for n in neurons]
        total = max(sum(weights), 1)  # 0 in heads of regions where there are none
        rate, firing = (np.dot(weights, [n[key] for n in neurons]) / total for key in ('firing_rate', 'nonzero'))
        silent = sum(n['firing_rate'] == 0 for n in neurons)
        rows.append([stage, len(neurons), f'{rate:.4f}', f'{firing:.1%}', silent])
    return rows


def _energy(report: EnergyReport) -> list[list]:
    return [
        [
            row['name'],
            number(row['macs']),
            number(row['exact_sops']),
            energy(row['exact_energy_mj']),
            energy(row['energy_mj']),
            energy(row['twin_energy_mj']),
            ratio(row['exact_ratio']),
        ]
        for row in (*report.stages, report.total)
    ]


def _summary(report: EnergyReport) -> str:
    total, preset = report.total, report.preset
    return (
        f'**{energy(total["exact_energy_mj"])} mJ** for this image ({preset["name"]}, 45 nm: {preset["mac"]} pJ a MAC, '
        f'{preset["ac"]} pJ an accumulation); its twin with ordinary activations: {energy(total["twin_energy_mj"])} mJ, '
        f'{ratio(total["exact_ratio"])}. Floats feed {len(report.float_fed)} of {len(report.layers)} operations.'
    )


def build_page(models: dict[str, tuple[str, str | None]], device: str | None = None) -> 'gradio.Blocks':
    """The page, to be served by its ``launch()``.

    Args:
        models: Name to choose by -> config (file or name) and checkpoint, None for the weights that come with the config. A
            model is built when it is first chosen.
        device: Default: the accelerator if there is one, else 'cpu'.

    Raises:
        ImportError: Gradio is not installed.
    """
    if not is_installed('gradio'):
        raise ImportError("the web page needs gradio, which is not installed: pip install 'mmspike[webui]' (gradio>=6.31,<7)")
    import gradio

    @cache
    def load(name: str) -> Inferencer:
        return inference(*models[name], device)

    def run(image: str | None, model: str, threshold: float) -> tuple:
        try:
            if image is None:
                raise InputError('no image: upload one first')
            found = analyse(load(model), image, threshold)
        except (InputError, ImportError) as error:  # what the user can repair is shown on the page
            raise gradio.Error(html.escape(str(error))) from error
        return found.prediction, found.summary, found.spikes, found.rates, found.energy

    shown = dict(format='png', interactive=False, buttons=['download', 'fullscreen'])  # without the one that uploads
    with gradio.Blocks(title='mmspike', analytics_enabled=False) as page:
        gradio.Markdown('# mmspike\nAn image through a spiking network: what it finds, where it fires, what it costs.')
        with gradio.Row():
            with gradio.Column():
                # the file itself: it is decoded as tools/test.py decodes it
                image = gradio.Image(label='Image', type='filepath', image_mode=None, sources=['upload', 'clipboard'])
                model = gradio.Dropdown(list(models), value=next(iter(models)), label='Model')
                threshold = gradio.Slider(0, 1, 0.3, step=0.05, label='Draw instances from this score on')
                button = gradio.Button('Run', variant='primary')
            with gradio.Column():
                prediction = gradio.Image(label='Prediction', elem_id='prediction', **shown)
                summary = gradio.Markdown(elem_id='summary')
        gradio.Markdown('Spikes per neuron and step, in the last neuron layer of each stage')
        spikes = gradio.Image(show_label=False, elem_id='spikes', **shown)
        with gradio.Row():
            rates = gradio.Dataframe(
                headers=list(RATE_COLUMNS), label='Firing rates: spikes per neuron and step', interactive=False, elem_id='rates'
            )
            costs = gradio.Dataframe(
                headers=list(ENERGY_COLUMNS),
                label='Energy, mJ: counted, by the formula, of the twin with ordinary activations',
                interactive=False,
                elem_id='energy',
            )
        button.click(run, [image, model, threshold], [prediction, summary, spikes, rates, costs])
    return page


def model_names(pairs: list[tuple[str, str | None]]) -> dict[str, tuple[str, str | None]]:
    """A name for each (config, checkpoint): that of the config, with the checkpoint's where configs repeat."""
    stems = [Path(config).stem for config, _ in pairs]
    names = {}
    for stem, (config, checkpoint) in zip(stems, pairs, strict=True):
        name = stem if stems.count(stem) == 1 or checkpoint is None else f'{stem} ({checkpoint})'
        names[name] = (config, checkpoint)
    return names
