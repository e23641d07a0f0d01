import pytest

from cellseg_mm.export.output_files import mark_folder
from cellseg_mm.inference.ledger import Ledger
from cellseg_mm.utils import UserError

SETTINGS = dict(score_thr=0.5, tiled=None)


def finish(folder, formats, settings=SETTINGS):
    """Outputs of an image named a, and their record."""
    ledger = Ledger(folder, formats)
    for ending in ('.csv', '_overlay.png'):
        (folder / f'a{ending}').touch()
    ledger.record('a', dict(summary=dict(cells=3), settings=settings, formats=formats))
    return ledger


def test_finished_is_what_has_the_same_settings_and_all_outputs(tmp_path):
    ledger = finish(tmp_path, ['csv', 'overlay'])
    assert ledger.finished('a', SETTINGS) == dict(cells=3)
    assert Ledger(tmp_path, ['csv']).finished('a', SETTINGS) == dict(cells=3)  # fewer are there, too
    assert ledger.finished('a', dict(SETTINGS, score_thr=0.4)) is None
    assert Ledger(tmp_path, ['csv', 'labels']).finished('a', SETTINGS) is None
    assert ledger.finished('b', SETTINGS) is None
    (tmp_path / 'a.csv').unlink()
    assert ledger.finished('a', SETTINGS) is None


@pytest.mark.parametrize('is_same', [True, False])
def test_other_formats_stay_where_the_settings_are_the_same(tmp_path, is_same):
    finish(tmp_path, ['csv', 'overlay'])
    ledger = Ledger(tmp_path, ['csv'])
    settings = SETTINGS if is_same else dict(SETTINGS, score_thr=0.4)
    assert ledger.clear('a', settings) == (['overlay'] if is_same else [])
    assert (tmp_path / 'a_overlay.png').exists() == is_same
    assert (tmp_path / 'a.csv').exists()  # written over next
    assert ledger.finished('a', SETTINGS) is None


def test_a_folder_among_the_outputs_is_removed_with_its_content(tmp_path):
    (tmp_path / 'a_slide/cells').mkdir(parents=True)
    mark_folder(tmp_path / 'a_slide')
    (tmp_path / 'a_slide.html').touch()
    ledger = finish(tmp_path, ['csv', 'slide'])
    assert ledger.finished('a', SETTINGS) == dict(cells=3)
    assert Ledger(tmp_path, ['csv']).clear('a', dict(SETTINGS, score_thr=0.4)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.csv', 'a_overlay.png']


def test_a_folder_of_the_user_stays(tmp_path):
    (tmp_path / 'a_slide').mkdir()
    (tmp_path / 'a_slide/notes.txt').touch()
    finish(tmp_path, ['csv', 'slide'])
    with pytest.raises(UserError, match='a_slide: a folder that cellseg_mm did not write'):
        Ledger(tmp_path, ['csv']).clear('a', dict(SETTINGS, score_thr=0.4))
    assert (tmp_path / 'a_slide/notes.txt').exists()
