"""Logs and comparisons, from small files of the kinds that trainings and tools write."""

import csv
import json

import pytest

from mmspike.analysis.comparison import columns, plot_comparison, read_run, to_markdown, write_csv
from mmspike.analysis.logs import curve, keys, plot_logs, read_log, step_name, train_times


def write_lines(path, lines, end='\n'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(json.dumps(line) for line in lines) + end)
    return path


def train(step, **values):
    return dict(lr=0.1, time=1.0, loss=1 / step, epoch=(step + 1) // 2, iter=step, step=step) | values


@pytest.fixture
def work(tmp_path):
    """An epoch-based run that was resumed in its second epoch."""
    first = [train(1, time=9.0), {'firing_rate/a.n1': 0.5, 'step': 1}, train(2), {'accuracy/top1': 50.0, 'step': 1}, train(3)]
    second = [train(3, loss=7.0, time=2.0), train(4, time=4.0), {'accuracy/top1': 40.0, 'step': 2}]
    write_lines(tmp_path / 'work' / '20260101_000000' / 'vis_data' / 'scalars.json', first)
    write_lines(tmp_path / 'work' / '20260102_000000' / 'vis_data' / 'scalars.json', second)
    return tmp_path / 'work'


def energy(path, mj=2.0, preset='fp32', **info):
    total = dict(energy_mj=mj, exact_energy_mj=mj / 2, twin_energy_mj=8 * mj)
    path.write_text(json.dumps(dict(format=1, layers=[], total=total, preset=dict(name=preset), info=info)))
    return path


def test_read_log_and_curves(work):
    log = read_log(work)
    assert len(log) == 8 and keys(log) == ['lr', 'time', 'loss', 'firing_rate/a.n1', 'accuracy/top1']
    assert curve(log, 'accuracy/top1') == {1: 50.0, 2: 40.0}
    assert curve(log, 'loss') == {1: 1.0, 2: 0.5, 3: 7.0, 4: 0.25}  # step 3 as the resumed run had it
    assert [step_name(log, key) for key in ('loss', 'accuracy/top1', 'firing_rate/a.n1')] == ['iteration', 'epoch', 'iteration']
    assert step_name([dict(lr=1, loss=2, step=1), dict(mIoU=1.0, step=1)], 'mIoU') == 'iteration'
    assert train_times(log) == {1: [1.0], 2: [1.0, 2.0, 4.0]}


def test_broken_logs(work, tmp_path):
    cut = write_lines(tmp_path / 'cut.json', [train(1), train(2)], end='\n{"lr": 0.')
    assert len(read_log(cut)) == 2
    cut.write_text('{"lr": \n{"lr": 1}\n')
    with pytest.raises(ValueError, match='cut.json is no log of mmengine: line 1'):
        read_log(cut)
    with pytest.raises(FileNotFoundError, match='no log in'):
        read_log(tmp_path / 'work' / '20260101_000000')


def test_plot_logs(work, tmp_path):
    log = read_log(work)
    plot_logs(dict(a=log, b=log[:4]), ['loss', 'firing_rate/*'], tmp_path / 'x.png', 'Title')
    assert (tmp_path / 'x.png').stat().st_size > 5000
    with pytest.raises(ValueError, match="no scalar 'mIoU' in the logs: they have accuracy/top1, loss"):
        plot_logs(dict(a=log), ['mIoU'], tmp_path / 'y.png')


def test_what_is_missing_is_missing(work, tmp_path):
    (work / 'energy.json').write_text(energy(tmp_path / 'e.json', params=1234).read_text())
    (work / 'other.json').write_text('{"classes": ["a"]}')  # is no business of ours
    speed = tmp_path / 'speed.json'
    speed.write_text(json.dumps(dict(images_per_second=12.5, device='a CPU, 1 thread', params=99)))
    told = energy(tmp_path / 'told.json', metric=dict(name='mask AP', value=31.5))
    runs = [read_run(f'{work}'), read_run(f'fast={work}/20260102_000000/vis_data/scalars.json,{speed}'), read_run(f'{told}')]
    assert columns(runs) == {
        'run': ['work', 'fast', 'told'],
        'accuracy/top1, best': [50.0, 40.0, None],
        'accuracy/top1, last': [40.0, 40.0, None],
        'mask AP, best': [None, None, 31.5],
        'mask AP, last': [None, None, 31.5],
        'parameters': [1234, 99, None],
        'energy, mJ': [2.0, None, 2.0],
        'exact energy, mJ': [1.0, None, 1.0],
        'ordinary twin, mJ': [16.0, None, 16.0],
        'costs': ['fp32', None, 'fp32'],
        'images/s': [None, 12.5, None],
        'on': [None, 'a CPU, 1 thread', None],
        'training, s/iteration': [2.0, 4.0, None],
    }
    table = columns(runs, ['loss', 'nothing'])
    assert table['loss, last'] == [0.25, 0.25, None] and table['nothing, best'] == [None] * 3


def test_tables_and_plot(work, tmp_path):
    runs = [read_run(f'a={energy(tmp_path / "a.json", params=3000)}'), read_run(f'b={work}')]
    table = columns(runs)
    head, line, a, b = to_markdown(table).splitlines()
    assert head.startswith('| run | accuracy/top1, best |') and set(line) <= set('| -') and len(head) == len(a) == len(b)
    assert a.startswith('| a   | -   ') and '| 3,000 ' in a and b.startswith('| b   | 50  ')
    write_csv(table, tmp_path / 'x.csv')
    with open(tmp_path / 'x.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert rows[0]['energy, mJ'] == '2.0' and rows[1]['energy, mJ'] == '' and rows[1]['accuracy/top1, best'] == '50.0'
    plot_comparison(runs, table, tmp_path / 'x.png')
    assert (tmp_path / 'x.png').stat().st_size > 5000
    (tmp_path / 'empty').mkdir()
    nothing = [read_run(f'{tmp_path / "empty"}')]
    with pytest.raises(ValueError, match='nothing to draw'):
        plot_comparison(nothing, columns(nothing), tmp_path / 'y.png')
    runs.append(read_run(f'c={energy(tmp_path / "c.json", preset="int8")}'))
    with pytest.raises(ValueError, match=r"different costs do not compare, got \['fp32', 'int8'\]"):
        plot_comparison(runs, columns(runs), tmp_path / 'y.png')


def test_speeds_of_other_tools(tmp_path):
    mmseg, ours = tmp_path / 'fps.json', tmp_path / 'benchmark.json'
    mmseg.write_text(json.dumps(dict(config='x', unit='img / s', average_fps=3.5)))
    assert read_run(str(mmseg)).speed == dict(images_per_second=3.5)
    entry = dict(case=dict(kind='forward'), results=dict(ours=dict(images_per_second=7.0), relu=dict(images_per_second=9.0)))
    content = dict(machine='a CPU, 2 cores; Python', threads=1, results=[entry, dict(case=dict(kind='train'), results={})])
    ours.write_text(json.dumps(content))
    assert read_run(str(ours)).speed == dict(images_per_second=7.0, device='a CPU, 2 cores, 1 threads')
    ours.write_text(json.dumps(content | dict(results=[entry, entry])))
    with pytest.raises(ValueError, match='2 measurements of a forward pass, expected one'):
        read_run(str(ours))


def test_faults_of_runs(work, tmp_path):
    two = energy(tmp_path / 'one.json'), energy(tmp_path / 'two.json')
    with pytest.raises(ValueError, match='run x has two files of energy.*one.json and .*two.json: name the one you mean'):
        read_run(f'x={two[0]},{two[1]}')
    with pytest.raises(FileNotFoundError, match='nowhere of run x does not exist'):
        read_run('x=nowhere')
    (tmp_path / 'list.json').write_text('["a"]')
    with pytest.raises(ValueError, match='list.json is no log'):
        read_run(str(tmp_path / 'list.json'))
