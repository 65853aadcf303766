"""tools/dev/runtimes.py installs runtimes and is run by hand; here its page has a line for every runtime that it names."""

import re
import runpy

import numpy as np


def test_page_has_a_line_for_every_way(repo):
    tool = runpy.run_path(str(repo / 'tools' / 'dev' / 'runtimes.py'))
    readers = runpy.run_path(str(repo / 'tools' / 'dev' / 'runtime_readers.py'))
    page = (repo / 'docs' / 'runtimes.md').read_text(encoding='utf-8')
    for kind in ('ONNX', 'NIR'):
        table = re.search(rf'<!-- {kind}, by tools/dev/runtimes.py -->\n(.*?)<!-- end -->', page, re.DOTALL)[1]
        lines = [[cell.strip() for cell in line.strip('|').split('|')[:3]] for line in table.splitlines()[2:]]
        assert lines == [[row.name, row.packages[0].split('==')[1], row.settings] for row in tool[kind]]
        assert all(callable(readers[row.reader]) for row in tool[kind])


def test_some_rows_are_written(repo):
    tool = runpy.run_path(str(repo / 'tools' / 'dev' / 'runtimes.py'))
    page = (repo / 'docs' / 'runtimes.md').read_text(encoding='utf-8')
    table = page[page.index('<!-- ONNX') :].splitlines()[1:]
    rows = {tool['key_of'](line): line for line in table[2 : 2 + len(tool['ONNX'])]}
    assert tool['write_rows'](page, 'ONNX', [*table[:2], rows['tract', '']]) == page
    changed = rows['tract', ''].replace('same', '1.00% differ')
    assert tool['write_rows'](page, 'ONNX', [*table[:2], changed]) == page.replace(rows['tract', ''], changed) != page


def test_verdicts(repo, tmp_path):
    """A reader that flips spikes, one that gives nothing right, one that refuses, and one that dies."""
    tool = runpy.run_path(str(repo / 'tools' / 'dev' / 'runtimes.py'))
    readers = runpy.run_path(str(repo / 'tools' / 'dev' / 'runtime_readers.py'))
    spikes = np.arange(8.0, dtype=np.float32)
    file = tmp_path / 'a.onnx'
    np.save(f'{file}.npy', spikes)
    case = tool['Case']('', file, [spikes], True, 1.0)
    assert tool['verdict'](case, -11) == ('stopped (-11)', None)

    def verdict(network):
        readers['read'](lambda path, x: lambda: [x[:1], network(x)], str(file))  # an output of the network, then a neuron's
        return tool['verdict'](case, 0)[0]

    assert verdict(lambda x: x) == 'same'
    assert verdict(lambda x: x + (x == 3)) == '12.50% differ'
    assert verdict(lambda x: x * np.nan) == '100.00% differ'
    assert verdict(lambda x: x[1:]) == 'other outputs'
    assert verdict(lambda x: x @ x[1:]) == 'refused (ValueError)'


def test_arguments(run_tool):
    done = run_tool('dev/runtimes.py', '--only', 'torch')
    assert done.returncode == 2 and 'the runtimes are mnn, norse, onnxruntime' in done.stderr
