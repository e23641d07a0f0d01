import numpy as np
import pytest

from cellseg_mm.datasets.splits import group_names, patient_of, read_splits, stratified_split
from cellseg_mm.utils import UserError


@pytest.fixture
def counts():
    rng = np.random.default_rng(3)
    return rng.poisson([60, 70, 3, 3], (209, 4)) * rng.integers(0, 2, (209, 4))


def test_size_and_stability(counts):
    split = stratified_split(counts, 0.2, seed=0)
    assert split.sum() == 42
    assert np.array_equal(split, stratified_split(counts, 0.2, seed=0))
    assert not np.array_equal(split, stratified_split(counts, 0.2, seed=1))


def test_every_class_gets_its_share(counts):
    share = counts[stratified_split(counts, 0.2, seed=0)].sum(axis=0) / counts.sum(axis=0)
    assert np.abs(share - 0.2).max() < 0.02
    plain = np.random.default_rng(0).permutation(209)[:42]
    assert np.abs(counts[plain].sum(axis=0) / counts.sum(axis=0) - 0.2).max() > 0.02  # a plain draw does not do it


def test_a_class_in_one_image_is_trained_on():
    counts = np.tile([10, 0], (20, 1))
    counts[7, 1] = 5
    assert all(not stratified_split(counts, 0.2, seed)[7] for seed in range(5))


@pytest.mark.parametrize('fraction', [0.001, 0.999])
def test_no_side_is_empty(fraction):
    assert 0 < stratified_split(np.ones((3, 1), int), fraction, 0).sum() < 3


def test_images_without_any_cell():
    assert stratified_split(np.zeros((10, 4), int), 0.3, 0).sum() == 3


@pytest.mark.parametrize(
    'name, patient',
    [
        ('TCGA-5P-A9K0-01Z-00-DX1_3', 'TCGA-5P-A9K0'),
        ('tcga-5p-a9k0-01Z-00-DX2', 'TCGA-5P-A9K0'),
        ('slide7_x512_y0', 'slide7'),
        ('slide7-3', 'slide7'),
        ('slide7_1024_0', 'slide7'),
        ('slide7 [x=0,y=512,w=256,h=256]', 'slide7'),
        ('patient_a', 'patient_a'),
        ('12', '12'),
        ('_7', '_7'),
    ],
)
def test_the_patient_in_a_name(name, patient):
    assert patient_of(name) == patient


def test_groups_by_a_rule_of_ones_own():
    assert group_names(['a-x-1', 'a-y-2'], r'^\w+-(\w)') == ['x', 'y'] and group_names(['ab', 'ac'], '^a') == ['a', 'a']
    for rule in (r'(\d+)?-', r'\d*'):  # which would leave every image without a number alone, without a word
        with pytest.raises(UserError, match='finds no group in the name a-1'):
            group_names(['7-1', 'a-1'], rule)
    with pytest.raises(UserError, match='does not match the name b'):
        group_names(['a', 'b'], 'a')
    with pytest.raises(UserError, match=r'\(a: not a regular expression'):
        group_names(['a', 'b'], '(a')


def test_groups_stay_whole_and_classes_even(counts):
    groups = [str(group) for group in np.random.default_rng(0).integers(0, 46, len(counts)) ** 2]  # MoNuSAC's patients
    split = stratified_split(counts, 0.2, 0, groups)
    assert not set(np.array(groups)[split]) & set(np.array(groups)[~split])
    assert abs(split.sum() - 42) <= 3
    assert np.abs(counts[split].sum(axis=0) / counts.sum(axis=0) - 0.2).max() < 0.05


def test_groups_of_very_different_size():
    """The largest of them cannot be halved; a single one cannot be split."""
    groups = ['a'] * 8 + ['b', 'c']
    assert stratified_split(np.ones((10, 1), int), 0.2, 0, groups).tolist() == [False] * 8 + [True] * 2
    with pytest.raises(UserError, match='all 3 training images belong to the group a'):
        stratified_split(np.ones((3, 1), int), 0.5, 0, ['a'] * 3)


def test_a_table_names_the_splits(tmp_path):
    path = tmp_path / 'splits.csv'
    path.write_text('\ufeffname,split,source\n"a, b",train,x\nc,test,\n', encoding='utf-8')  # as spreadsheets write it
    assert read_splits(path) == {'a, b': 'train', 'c': 'test'}
    path.write_text('Name, Split\n\na, train\nb ,val\n')
    assert read_splits(path) == {'a': 'train', 'b': 'val'}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (
            b'image,split\na,train\n',
            r'has no column name; its first row must name the columns name and split, separated by commas',
        ),
        (b'name;split\na;train\n', r'has no column name; .*, separated by commas'),
        (b'', r'has no column name'),
        (b'name,split\na,train\nb,Test\n', r"b: the split is 'Test'; choose from train, val, test"),
        (b'name,split\na\n', r'row 2 has 1 fields, the header 2'),
        (b'name,split\na,train\na,test\n', r'the image a has two rows'),
        (b'name,split\n\xff,train\n', r'is not a CSV file'),
    ],
)
def test_a_table_that_is_not_one_is_named(tmp_path, content, message):
    path = tmp_path / 'splits.csv'
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf'splits\.csv: {message}'):
        read_splits(path)
