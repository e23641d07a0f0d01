"""The example of docs/own_detector.md, as it stands there."""

import re
import sys

import cv2
import pytest
from conftest import ROOT, read_json
from mmdet.registry import MODELS
from test_zoo import run
from tiny_detector import draw

PAGE = (ROOT / 'docs/own_detector.md').read_text('utf-8')
# a few steps on small images
OPTIONS = ['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0']
OPTIONS += ['train_dataloader.persistent_workers=False', 'val_dataloader.persistent_workers=False']


def blocks():
    """The files of the page: their first line names them."""
    return dict(re.findall(r'^```python\n# ([\w/]+\.py).*?\n(.*?)^```', PAGE, re.DOTALL | re.MULTILINE))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The module and the config of the page."""
    files = blocks()
    assert set(files) == {'my_backbone.py', 'configs/NAME.py'}
    (tmp_path / 'my_backbone.py').write_text(files['my_backbone.py'])
    config = files['configs/NAME.py'].replace("'./_base_", f"'{ROOT.as_posix()}/configs/_base_")
    (tmp_path / 'NAME.py').write_text(config + SMALL)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    MODELS._module_dict.pop('MyBackbone', None)
    sys.modules.pop('my_backbone', None)


SMALL = """
resize = dict(type='Resize', scale=(128, 128), keep_ratio=True)
train_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [resize if step['type'] == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
"""


def test_the_example_runs(folder, prepared, run_here, one_line_error):
    config, work_dir, image = folder / 'NAME.py', folder / 'run', folder / 'image.png'
    data = f'data_root={prepared}'
    run(run_here, 'train', config, '--from-scratch', '--work-dir', work_dir, '--cfg-options', data, *OPTIONS)
    (checkpoint,) = work_dir.glob('best_*.pth')
    run(run_here, 'test', config, checkpoint, '--work-dir', work_dir, '--cfg-options', data)
    assert 'cells/PQ' in read_json(work_dir / 'test_metrics.json')
    cv2.imwrite(str(image), draw(0, 100, 120)[..., ::-1])
    arguments = [checkpoint, image, '--score-thr', 0, '--formats', 'coco', '--out', folder / 'out']
    run(run_here, 'predict', *arguments, '--config', config)
    assert read_json(folder / 'out/image_coco.json')['annotations']
    run(run_here, 'report', work_dir)

    MODELS._module_dict.pop('MyBackbone')  # as in a process that has not imported it
    assert 'needs my_backbone (custom_imports)' in one_line_error('predict', *arguments)


def test_the_detector_of_the_first_lines_trains(prepared, tmp_path):
    """It loads, takes the data's classes and builds."""
    from cellseg_mm.engine import run_config
    from cellseg_mm.engine.detector import build_detector

    (text,) = re.findall(r'^    # configs/NAME\.py\n(.*?\n)\n`tools', PAGE, re.DOTALL | re.MULTILINE)
    text = re.sub(r'^    ', '', text, flags=re.MULTILINE).replace("'./_base_", f"'{ROOT.as_posix()}/configs/_base_")
    (tmp_path / 'NAME.py').write_text(text)
    cfg = run_config.training_config(str(tmp_path / 'NAME.py'), dict(data_root=str(prepared)), from_scratch=True)
    assert build_detector(cfg).bbox_head.num_classes == 4
