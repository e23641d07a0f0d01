import pickle

from cellseg_mm.utils import Recent


def test_the_last_few_are_kept():
    calls = []

    def double(value: int) -> list:
        calls.append(value)
        return [2 * value]

    recent = Recent(double, 2)
    first = recent(1)
    assert recent(1) is first and recent(2) == [4]
    assert recent(1) is first  # and is newer than 2 now
    recent(3)
    assert recent(1) is first
    recent(2)
    assert calls == [1, 2, 3, 2]


def test_none_are_kept():
    recent = Recent(lambda value: [value], 0)
    assert recent(1) == recent(1) and recent(1) is not recent(1)


def test_it_is_pickled_empty():
    recent = Recent(str, 3)
    recent(1)
    copy = pickle.loads(pickle.dumps(recent))
    assert copy(1) == '1' and not pickle.loads(pickle.dumps(recent))._kept
