import numpy as np

from mmspike.datasets.events import open_events
from mmspike.datasets.events.summary import summarise

from .recordings import dat_bytes


def test_numbers_of_a_recording(tmp_path, run_tool):
    t = np.array([0, 100, 400, 300, 2_000_000])
    x, y, p = np.array([3, 3, 9, 3, 1]), np.array([5, 5, 0, 5, 2]), np.array([1, 0, 1, 1, 1])
    (tmp_path / 'a.dat').write_bytes(dat_bytes(t, x, y, p))
    with open_events(tmp_path / 'a.dat') as stream:
        summary = summarise(stream)
    assert (summary.count, summary.span, summary.late, summary.on) == (5, (0, 2_000_000), 1, 0.8)
    assert (summary.sensor_size, summary.extent, summary.busiest) == ((34, 34), (6, 10), (5, 3, 3))
    assert '2.5e-06 million a second' in str(summary) and '1 out of order' in str(summary)
    out = run_tool('events.py', tmp_path / 'a.dat', '-o', tmp_path / 'a.png', '--interval', 0, 500)
    assert str(summary) in out.stdout and (tmp_path / 'a.png').stat().st_size > 1000
    out = run_tool('events.py', tmp_path / 'a.dat', '-o', tmp_path / 'b.png', '--interval', 500, 600)
    assert out.returncode == 1 and 'has no events from 500 to 600 us' in out.stderr and 'Traceback' not in out.stderr
