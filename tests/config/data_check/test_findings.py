"""Samples, tallies and the table of a check."""

from mmspike.config.data_check.findings import Clock, Report, Tally


def test_a_sample_is_evenly_spaced_and_always_the_same():
    items = list(range(1000))
    sample = Clock(60).sample(items, 10)
    order = list(sample)
    assert sorted(order) == list(range(50, 1000, 100))
    # the first ones are spread, too: what is cut off when the time is up
    assert order[:4] == [50, 850, 450, 250] and list(Clock(60).sample(items, 10)) == order
    assert sample.share('pictures') == '10 of 1000 pictures' and not sample.complete
    assert sorted(Clock(60).sample(items, 2000)) == items
    assert len(list(Clock(60, every=True).sample(items, 10))) == 1000
    assert list(Clock(60).sample([])) == []


def test_when_the_time_is_up_four_are_looked_at():
    sample = Clock(-1).sample(range(1000))
    assert len(list(sample)) == 4 and sample.share('labels') == '4 of 1000 labels'


def test_reading_a_file_whole_takes_no_time_of_the_others():
    clock = Clock(60)
    end = clock.end
    with clock.stopped():
        pass
    assert clock.end > end


def test_faults_of_a_kind_are_counted():
    tally = Tally()
    for name in 'abc':
        tally.add('size', f'{name} is small')
    tally.add('broken', 'd is broken')
    assert tally.texts('files') == ['a is small (and 2 files more)', 'd is broken']


def test_the_report_shows_errors_first_and_not_too_many():
    report = Report()
    report.doubt('val', 'odd')
    for i in range(25):
        report.stop(f'file{i}', 'broken')
        report.stop(f'file{i}', 'broken')
    report.row('train', 'CocoDataset', '3 images', '3 of 3')
    text = str(report)
    assert len(report.errors) == 25 and text.index('error: file0: broken') < text.index('doubt: val: odd')
    assert '… and 5 more of these' in text and 'train CocoDataset 3 images 3 of 3' in text
