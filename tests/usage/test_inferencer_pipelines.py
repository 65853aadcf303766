"""What the inferencers of mmseg and mmpretrain need from a config, in every shipped one."""

from mmengine.config import Config


def test_inferencers_find_the_loader(repo):
    """They look for a transform of exactly this name in the test pipeline, and would not find a prefixed one."""
    found = {}
    for path in sorted((repo / 'configs').glob('**/*.py')):
        if '_base_' in path.parts:
            continue
        cfg = Config.fromfile(path)
        if cfg.default_scope in ('mmseg', 'mmpretrain') and cfg.test_dataloader:  # pretraining has none
            found[path.name] = [transform['type'] for transform in cfg.test_dataloader.dataset.pipeline]
    # event recordings are no images
    found = {name: types for name, types in found.items() if any(t.endswith('LoadImageFromFile') for t in types)}
    assert len(found) > 10
    assert [name for name, types in found.items() if 'LoadImageFromFile' not in types] == []
