"""The notebook of the docs says what is true."""

from conftest import ROOT, read_json


def test_its_code_runs_from_top_to_bottom(monkeypatch, capsys):
    monkeypatch.chdir(ROOT / 'docs')
    namespace = {}
    for cell in read_json(ROOT / 'docs/inference.ipynb')['cells']:
        if cell['cell_type'] == 'code':
            exec(''.join(cell['source']), namespace)
            assert cell['outputs'] or 'print' not in ''.join(cell['source'])  # as the reader sees it
    printed = capsys.readouterr().out
    found = f'{len(namespace["cells"])} cells from score {namespace["detector"].score_thr:.2f} up'
    assert found in printed and 'cells per square millimetre' in printed
    assert namespace['summary']['cells'] == len(namespace['cells']) > 0
