"""Published divisions of data sets of events in what to train, validate and test on.

DSEC-Det: ``train_val_test_split.yaml`` of github.com/uzh-rpg/dsec-det. DSEC-Semantic and DDD17: the loaders of
github.com/uzh-rpg/ess (ECCV 2022), which made the first public.
"""

SPLITS = ('train', 'val', 'test')
# recordings to validate on, which lie in train/; all others of train/ are to train, all of test/ to test on
DSEC_DET_VAL = tuple(f'zurich_city_{number}_a' for number in range(16, 22))
DSEC_SEMANTIC = dict(
    train=tuple(f'zurich_city_{number:02d}_a' for number in (0, 1, 2, 4, 5, 6, 7, 8)),
    test=('zurich_city_13_a', 'zurich_city_14_c', 'zurich_city_15_a'),
)
# places of the seven folders dir* in the order of their names
DDD17 = dict(train=(0, 2, 3, 5, 6), val=(1,), test=(4,))

# recordings of GEN1 of whose labels the filter of the usual protocol leaves none, as github.com/uzh-rpg/RVT lists them
GEN1_WITHOUT_LABELS = (
    '17-04-06_09-57-37_6344500000_6404500000',
    '17-04-13_19-17-27_976500000_1036500000',
    '17-04-06_15-14-36_1159500000_1219500000',
    '17-04-11_15-13-23_122500000_182500000',
)
