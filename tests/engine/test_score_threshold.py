import pytest
from conftest import ROOT
from mmengine.config import Config

from cellseg_mm.engine import score_threshold
from cellseg_mm.utils import UserError


def test_a_threshold_below_what_the_model_returns():
    cfg = Config.fromfile(ROOT / 'configs/maskrcnn_r50_fpn_cbam_report.py')
    option = r'add to --cfg-options: model\.test_cfg\.rcnn\.score_thr=0\.3$'
    with pytest.raises(UserError, match=rf'--score-thr 0\.3: .* no detection below 0\.5; {option}'):
        score_threshold.set_score_threshold(cfg, {}, 0.3)
    score_threshold.set_score_threshold(cfg, {}, 0.5)
    solo = Config(dict(model=dict(test_cfg=dict(score_thr=0.1, filter_thr=0.05)), test_evaluator=[]))
    with pytest.raises(UserError, match=r'below 0\.1; .*: model\.test_cfg\.score_thr=0\.07$'):
        score_threshold.set_score_threshold(solo, {}, 0.07)
    # this check is only for a threshold that the user gives
    score_threshold.set_score_threshold(cfg, dict(meta=dict(operating_point=dict(score_thr=0.3, epoch=1))))
    assert cfg.test_evaluator.score_thr == 0.3
    # whether or not the config names one; other metrics stay as they are
    cfg.test_evaluator = [dict(type='CellMetric'), dict(type='DumpResults')]
    score_threshold.set_score_threshold(cfg, {}, 0.6)
    assert cfg.test_evaluator == [dict(type='CellMetric', score_thr=0.6), dict(type='DumpResults')]
    for test_cfg in (dict(rcnn=dict(score_thr=0.05)), dict(rcnn=None), None):
        cfg.model.test_cfg = test_cfg
        score_threshold.set_score_threshold(cfg, {}, 0.3)
