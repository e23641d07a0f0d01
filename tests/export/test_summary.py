import pytest
from conftest import read_csv, read_json

from cellseg_mm.export import summarise_counts, write_summary


def test_densities_and_fractions_follow_from_counts_and_area():
    summary = summarise_counts([3, 1], ['a', 'b'], megapixels=2.0, mm2=0.5)
    assert summary == dict(
        megapixels=2.0,
        mm2=0.5,
        cells=4,
        cells_per_megapixel=2.0,
        cells_per_mm2=8.0,
        classes=dict(
            a=dict(cells=3, cells_per_megapixel=1.5, cells_per_mm2=6.0, fraction=0.75),
            b=dict(cells=1, cells_per_megapixel=0.5, cells_per_mm2=2.0, fraction=0.25),
        ),
    )


def test_an_image_without_cells_or_pixel_size_has_no_fractions_and_no_square_millimetres():
    summary = summarise_counts([0], ['a'], megapixels=2.0, mm2=None)
    assert summary['cells_per_megapixel'] == 0 and summary['cells_per_mm2'] is None
    assert summary['classes']['a']['fraction'] is None


@pytest.mark.parametrize(('mm2', 'overall_density'), [(0.5, '5.0'), (None, '')])
def test_the_overall_summary_pools_cells_and_areas(tmp_path, mm2, overall_density):
    summaries = {
        'one.tif': summarise_counts([3, 1], ['a', 'b'], 2.0, 0.5),
        'two, cut.tif': summarise_counts([0, 1], ['a', 'b'], 6.0, mm2),
    }
    overall = write_summary(summaries, tmp_path)
    assert read_json(tmp_path / 'summary.json') == dict(files=summaries, overall=overall)
    assert overall['classes']['b'] | dict(cells_per_mm2=0) == dict(
        cells=2, cells_per_megapixel=0.25, cells_per_mm2=0, fraction=0.4
    )
    rows = read_csv(tmp_path / 'summary.csv')
    assert [row['file'] for row in rows] == ['one.tif', 'two, cut.tif', 'overall']
    assert [row['a_cells'] for row in rows] == ['3', '0', '3']
    assert [row['b_fraction'] for row in rows] == ['0.25', '1.0', '0.4']
    assert rows[2]['cells_per_mm2'] == overall_density
