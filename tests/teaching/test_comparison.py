import numpy as np

from cellseg_mm.teaching import compare_classes

LABELS = np.arange(400) % 2
BLOCKS = np.arange(400) // 50


def with_errors(share, seed=0):
    wrong = np.random.default_rng(seed).random(400) < share
    return np.where(wrong, 1 - LABELS, LABELS)


def test_an_improvement_is_told_with_its_interval():
    found = compare_classes(LABELS, with_errors(0.4), with_errors(0.1, 1), BLOCKS, 2)
    assert found.low > 0.1 and found.low < found.after - found.before < found.high
    assert found.in_words().startswith('It helped: ')
    assert found.confusion.sum() == 400 and found.confusion.trace() == round(400 * found.after)


def test_no_difference_is_not_enough_to_tell():
    found = compare_classes(LABELS, with_errors(0.2), with_errors(0.2, 1), BLOCKS, 2)
    assert found.low < 0 < found.high and found.in_words().startswith('Not enough to tell')


def test_harm_is_said():
    assert compare_classes(LABELS, LABELS, with_errors(0.3), BLOCKS, 2).in_words().startswith('It did harm')


def test_few_pieces_of_tissue_give_no_interval():
    found = compare_classes(LABELS, with_errors(0.4), LABELS, BLOCKS // 4, 2)
    assert found.low is None and 'Not enough to tell' in found.in_words()


def test_unknown_classes_before():
    found = compare_classes(LABELS, None, with_errors(0.1), BLOCKS, 2)
    assert found.before is None and found.low < 0.9 < found.high and 'expect' in found.in_words()
