"""Several runs side by side: accuracy, parameters, energy, speed, from the files that trainings and tools write."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

from .logs import curve, log_files, read_log, train_times
from .plots import COLOURS, _figure
from .report import load_report

#: metrics that are shown if nothing is asked for, those of them that a run has
METRICS = ('coco/segm_mAP', 'coco/bbox_mAP', 'mIoU', 'accuracy/top1', 'accuracy/top5')
MISSING = '-'


@dataclass
class Run:
    """The known values of one run. Unknown ones are None or empty."""

    name: str
    log: list[dict] = field(default_factory=list)
    energy: dict | None = None
    speed: dict | None = None
    sources: dict[str, Path] = field(default_factory=dict)

    def metric(self, key: str) -> dict[float, float]:
        """Step -> value. A metric that get_energy.py was told stands at step 0."""
        points = curve(self.log, key)
        told = (self.energy or {}).get('info', {}).get('metric') or {}
        return {0: told['value']} if not points and told.get('name') == key else points

    @property
    def params(self) -> int | None:
        for source in (self.speed, (self.energy or {}).get('info')):
            if source and source.get('params') is not None:
                return source['params']
        return None

    def add(self, path: Path, optional: bool = False) -> None:
        """Read one file: a log, an energy report or a speed, told apart by what is in it.

        Args:
            optional: Leave out a file that is none of these.

        Raises:
            ValueError: It is none of these, or the run has one of its kind already.
        """
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except json.JSONDecodeError:  # a line per step
            content = None
        fields = content if isinstance(content, dict) else {}
        if 'layers' in fields:
            self._set('energy', path, load_report(path))
        elif speed := _speed(fields, path):
            self._set('speed', path, speed)
        elif content is None or any(isinstance(value, int | float) for value in fields.values()):
            if not optional:
                self.log += read_log(path)
        elif not optional:
            raise ValueError(f'{path} is no log, no JSON of get_energy.py and none of a benchmark')

    def _set(self, kind: str, path: Path, value: dict) -> None:
        if kind in self.sources:
            raise ValueError(f'run {self.name} has two files of {kind}, {self.sources[kind]} and {path}: name the one you mean')
        self.sources[kind] = path
        setattr(self, kind, value)


def _speed(fields: dict, path: Path) -> dict | None:
    """Images per second, and on what: JSON of analysis_tools/benchmark.py, of mmseg's benchmark or of tools/benchmark.py."""
    if 'images_per_second' in fields:
        return fields
    if 'average_fps' in fields:
        return dict(images_per_second=fields['average_fps'])
    if 'machine' in fields and 'results' in fields:
        forward = [entry for entry in fields['results'] if entry['case']['kind'] == 'forward']
        if len(forward) != 1:
            raise ValueError(f'{path} has {len(forward)} measurements of a forward pass, expected one: a file for each network')
        return dict(
            images_per_second=forward[0]['results']['ours']['images_per_second'],
            device=f'{fields["machine"].split(";")[0]}, {fields["threads"]} threads',
        )
    return None


def read_run(text: str) -> Run:
    """A run from ``[NAME=]PATH[,PATH…]``: work directories with their logs and JSON files, or files.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A file is of no known kind, or there are two of one kind.
    """
    name, equals, paths = text.partition('=')
    if Path(text).exists() or not equals:
        name, paths = '', text
    found = [Path(text)] if Path(text).exists() else [Path(path) for path in paths.split(',')]
    run = Run(name or found[0].resolve().with_suffix('').name)
    for path in found:
        if path.is_dir():
            for file in sorted(path.glob('*.json')):
                run.add(file, optional=True)
            if log_files(path):
                run.log += read_log(path)
        elif path.is_file():
            run.add(path)
        else:
            raise FileNotFoundError(f'{path} of run {run.name} does not exist')
    return run


def columns(runs: list[Run], metrics: list[str] | None = None) -> dict[str, list]:
    """Column -> a value per run; None is missing. Energies are in mJ an image, times in seconds.

    'best' is the largest value of a training's evaluations, 'last' that of its latest checkpoint. Of energies of different
    costs (``get_energy.py --preset``) the column 'costs' tells which.
    """
    if metrics is None:
        metrics = [key for key in METRICS if any(run.metric(key) for run in runs)]
        told = [r.energy['info']['metric']['name'] for r in runs if r.energy and r.energy['info'].get('metric')]
        metrics += [name for name in dict.fromkeys(told) if name not in metrics]
    table: dict[str, list] = {'run': [run.name for run in runs]}
    for key in metrics:
        points = [run.metric(key) for run in runs]
        table[f'{key}, best'] = [max(p.values()) if p else None for p in points]
        table[f'{key}, last'] = [p[max(p)] if p else None for p in points]
    table['parameters'] = [run.params for run in runs]
    total = [run.energy['total'] if run.energy else {} for run in runs]
    table['energy, mJ'] = [t.get('energy_mj') for t in total]
    table['exact energy, mJ'] = [t.get('exact_energy_mj') for t in total]
    table['ordinary twin, mJ'] = [t.get('twin_energy_mj') for t in total]
    table['costs'] = [run.energy['preset']['name'] if run.energy else None for run in runs]
    table['images/s'] = [run.speed['images_per_second'] if run.speed else None for run in runs]
    table['on'] = [(run.speed or {}).get('device') for run in runs]
    times = [[t for epoch in train_times(run.log).values() for t in epoch] for run in runs]
    table['training, s/iteration'] = [sum(t) / len(t) if t else None for t in times]
    return table


def _text(value: object) -> str:
    if value is None:
        return MISSING
    return f'{value:,}' if isinstance(value, int) else f'{value:.4g}' if isinstance(value, float) else str(value)


def to_markdown(table: dict[str, list]) -> str:
    """A Markdown table that can be read as text, too: a run per line."""
    cells = [[name, *map(_text, values)] for name, values in table.items()]
    widths = [max(map(len, column)) for column in cells]
    rows = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in zip(*cells, strict=True)]
    rows.insert(1, ['-' * width for width in widths])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def write_csv(table: dict[str, list], path: str | Path) -> None:
    """A run per line, all digits, missing values empty."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def plot_comparison(runs: list[Run], table: dict[str, list], path: str | Path) -> None:
    """The first metric over the training, then a panel of bars for each quantity that some run has; missing ones say so.

    Raises:
        ValueError: No run has anything to draw, or their energies are of different costs.
    """
    metric = next((name.removesuffix(', best') for name in table if name.endswith(', best')), None)
    panels = [f'{metric}, best', 'parameters', 'exact energy, mJ', 'images/s', 'training, s/iteration']
    panels = [name for name in panels if any(value is not None for value in table.get(name, []))]
    curves = {run.name: points for run in runs if metric and len(points := run.metric(metric)) > 1}
    first = [metric] if curves else []
    if not first + panels:
        raise ValueError('nothing to draw: no run has a metric, parameters, an energy or a speed')
    if len(costs := {name for name in table['costs'] if name}) > 1:
        raise ValueError(f'energies of different costs do not compare, got {sorted(costs)}: use one get_energy.py --preset')
    number = len(first + panels)
    figure, axes = _figure(3.4 * number, 3.6, 1, number)
    colours = {run.name: COLOURS[i % len(COLOURS)] for i, run in enumerate(runs)}
    if first:
        ax = axes[0, 0]
        for name, points in curves.items():
            ax.plot(list(points), list(points.values()), '.-', color=colours[name], label=name)
        ax.set(title=metric, xlabel='epoch or iteration, as evaluated')
        ax.legend(fontsize=7)
    for ax, name in zip(axes[0, len(first) :], panels, strict=True):
        values = table[name]
        ax.bar(range(len(runs)), [v or 0 for v in values], color=list(colours.values()))
        for i, value in enumerate(values):
            ax.text(i, value or 0, 'missing' if value is None else _text(value), ha='center', va='bottom', fontsize=7)
        ax.set(title=name)
        ax.set_xticks(range(len(runs)), [run.name for run in runs], rotation=30, ha='right', fontsize=7)
        ax.margins(y=0.15)
    figure.savefig(path)
