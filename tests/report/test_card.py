"""A model card's metrics: those of the test of the shipped file, and of no other."""

import dataclasses

import pytest
from conftest import ROOT, read_json

from cellseg_mm import weights
from cellseg_mm.report.card import fill_card
from cellseg_mm.report.run import read_run
from cellseg_mm.utils import UserError, check_digest
from work_dirs import SCORE_THR, write_config, write_test, write_training

NAME = 'nuclei-lite0'


@pytest.fixture
def shipped(tiny_checkpoint, run_here, tmp_path, monkeypatch):
    """The file of a model."""
    path = tmp_path / f'{NAME}.safetensors'
    run_here('deploy', tiny_checkpoint, '--half', '--out', path)
    model = dataclasses.replace(weights.MODELS[NAME], digest=check_digest(path))
    monkeypatch.setattr(weights, 'FOLDER', tmp_path)
    monkeypatch.setattr(weights, 'MODELS', {NAME: model})
    return path


def write_test_of(folder, prepared, checkpoint):
    write_test(folder, prepared)
    write_config(next(folder.glob('*/vis_data/config.py')), prepared, load_from=str(checkpoint))
    return folder


def test_the_card_has_the_metrics_of_its_test(shipped, prepared, run_here, tmp_path):
    folder, page = write_test_of(tmp_path / 'test', prepared, shipped), tmp_path / 'models.md'
    page.write_text(f'above\n<!-- metrics {NAME} -->\nold\n<!-- end -->\nbelow <!-- end -->\n')
    for _ in range(2):  # filled anew, nothing is left of what was there
        status, _, errors = run_here('model_card', NAME, folder, '--page', page)
        assert status == 0, errors
    text = page.read_text()
    assert text.startswith(f'above\n<!-- metrics {NAME} -->\n`{NAME}.safetensors`: ') and 'old' not in text
    assert text.endswith('<!-- end -->\nbelow <!-- end -->\n') and text.count('SHA-256') == 1
    assert weights.MODELS[NAME].digest in text and f'At score {SCORE_THR:.2f}' in text
    metrics, run = read_json(folder / 'test_metrics.json'), read_run(folder, 'x')
    rows = {cells[1]: cells for line in text.splitlines() if (cells := [cell.strip() for cell in line.split('|')])[1:]}
    for metric in ('PQ', 'mPQ', 'segm_AP50_max1000', f'PQ_{run.classes[0]}'):
        assert rows[metric][2] == f'{metrics[f"cells/{metric}"]:.3f}'
    low, high = run.scored.intervals['PQ'][1:]
    assert rows['PQ'][3] == f'{low:.3f} to {high:.3f}' and rows['mPQ'][3] == ''


def test_the_test_of_another_file_is_refused(shipped, tiny_checkpoint, prepared, run_here, tmp_path):
    other = write_test_of(tmp_path / 'other', prepared, tiny_checkpoint)
    gone = write_test_of(tmp_path / 'gone', prepared, tmp_path / 'gone.pth')
    both = write_test_of(write_training(tmp_path / 'both', prepared), prepared, shipped)
    for folder, message in (
        (other, f'{tiny_checkpoint} was tested, not'),
        (gone, 'was tested, not'),
        (both, 'not the work dir of a test alone'),
    ):
        status, _, errors = run_here('model_card', NAME, folder, '--page', ROOT / 'docs/models.md')
        assert status == 2 and errors.startswith(f'error: {folder}: ') and message in errors


def test_the_page_has_a_block_for_each_test():
    text = (ROOT / 'docs/models.md').read_text('utf-8')
    for key in ('consep-lite0', 'nuclei-lite0', 'nuclei-lite0/consep'):
        assert f'<!-- metrics {key} -->\nNEW\n<!-- end -->' in fill_card(text, key, 'NEW')
    with pytest.raises(UserError, match='no block <!-- metrics x -->'):
        fill_card(text, 'x', '')
