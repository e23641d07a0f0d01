"""The notebook of the docs says what is true."""

import shutil

from conftest import ROOT, read_json


def test_its_code_runs_from_top_to_bottom(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'work_dirs/demo').mkdir(parents=True)
    shutil.copy(tiny_checkpoint, tmp_path / 'work_dirs/demo/best_epoch_3.pth')
    monkeypatch.chdir(tmp_path / 'docs')
    namespace = {}
    for cell in read_json(ROOT / 'docs/inference.ipynb')['cells']:
        if cell['cell_type'] == 'code':
            exec(''.join(cell['source']), namespace)
            assert cell['outputs'] or 'print' not in ''.join(cell['source'])  # as the reader sees it
    printed = capsys.readouterr().out
    assert f'{len(namespace["cells"])} cells from score 0.25 on' in printed and 'cells a square millimetre' in printed
    assert namespace['summary']['cells'] == len(namespace['cells'])
