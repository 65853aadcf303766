"""The JSON logs of mmengine's runs: read them, take curves out of them, draw them."""

import json
from fnmatch import fnmatchcase
from pathlib import Path

from .plots import COLOURS, _figure


def log_files(work_dir: str | Path) -> list[Path]:
    """The logs under a work directory, one per start of the run, oldest first."""
    return sorted(Path(work_dir).glob('*/vis_data/scalars.json'))


def read_log(path: str | Path) -> list[dict]:
    """The lines of a log, or of all logs of a work directory: training lines have 'lr', the others are evaluations.

    A last line that a killed run left half written is left out.

    Raises:
        FileNotFoundError: There is no log.
        ValueError: The file is none.
    """
    path = Path(path)
    if path.is_dir():
        files = log_files(path)
        if not files:
            raise FileNotFoundError(f'no log in {path}: expected {path}/*/vis_data/scalars.json, as a training writes it')
        return [line for file in files for line in read_log(file)]
    lines = path.read_text(encoding='utf-8').splitlines()
    log = []
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            if number == len(lines) > 1:
                break
            raise ValueError(f'{path} is no log of mmengine: line {number} is no JSON ({error})') from error
        if not isinstance(line, dict):
            raise ValueError(f'{path} is no log of mmengine: line {number} is no object')
        log.append(line)
    return log


def keys(log: list[dict]) -> list[str]:
    """Names of all scalars in a log, in order of appearance."""
    return list(dict.fromkeys(key for line in log for key in line if key not in ('step', 'iter', 'epoch')))


def curve(log: list[dict], key: str) -> dict[float, float]:
    """Step -> value of a scalar. What a resumed run repeats counts as it was the last time.

    Steps are iterations in training; evaluations count epochs in epoch-based runs (see :func:`step_name`). An evaluation
    outside a training has no step: it stands at 0.
    """
    return dict(sorted((line.get('step', 0), line[key]) for line in _last_by_step(log, key)))


def _last_by_step(log: list[dict], key: str) -> list[dict]:
    return list({line.get('step', 0): line for line in log if isinstance(line.get(key), int | float)}.values())


def step_name(log: list[dict], key: str) -> str:
    """The unit of the steps of ``key``: 'iteration' or 'epoch'."""
    evaluated = not any('lr' in line or key.startswith(RATES) for line in log if key in line)
    return 'epoch' if evaluated and any('epoch' in line for line in log) else 'iteration'


RATES = ('firing_rate/', 'dead/', 'saturated/')  # what FiringRateHook writes, between training lines


def plot_logs(logs: dict[str, list[dict]], patterns: list[str], path: str | Path, title: str | None = None) -> None:
    """A panel per pattern, a line per log and scalar that matches it.

    Args:
        logs: Label -> log.
        patterns: Names of scalars, or patterns such as 'firing_rate/backbone.*'.

    Raises:
        ValueError: Nothing matches a pattern.
    """
    figure, axes = _figure(7, 3.2 * len(patterns), len(patterns))
    for ax, pattern in zip(axes[:, 0], patterns, strict=True):
        lines = [
            (label, log, key) for label, log in logs.items() for key in keys(log) if key == pattern or fnmatchcase(key, pattern)
        ]
        if not lines:
            known = sorted({key for log in logs.values() for key in keys(log) if not key.startswith(RATES)})
            raise ValueError(f'no scalar {pattern!r} in the logs: they have {", ".join(known)}, and what FiringRateHook wrote')
        for i, (label, log, key) in enumerate(lines):
            points = curve(log, key)
            name = ' '.join([label] * (len(logs) > 1) + [key] * (key != pattern)) or key
            style = dict(color=COLOURS[i % len(COLOURS)], linewidth=1, marker='.' if len(points) < 30 else None)
            ax.plot(list(points), list(points.values()), label=name, **style)
        ax.set(xlabel=' / '.join(sorted({step_name(log, key) for _, log, key in lines})), ylabel=pattern)
        ax.grid(alpha=0.3)
        if len(lines) > 1 or pattern != lines[0][2]:
            ax.legend(fontsize=7, ncols=1 + len(lines) // 12)
    if title:
        figure.suptitle(title)
    figure.savefig(path)


def train_times(log: list[dict]) -> dict[int | None, list[float]]:
    """Epoch (None in iteration-based runs) -> seconds an iteration, one value per training line; the very first is left out."""
    times: dict[int | None, list[float]] = {}
    for line in [line for line in log if 'lr' in line and 'time' in line][1:]:
        times.setdefault(line.get('epoch'), []).append(line['time'])
    return times
