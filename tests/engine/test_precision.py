import copy
import json
import threading

import pytest
import torch
from conftest import write_tiny_config
from mmengine.config import Config
from mmengine.runner import Runner

from cellseg_mm.engine import precision, run_config
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.precision import (
    choose_way,
    fit_precision_to_device,
    has_bf16,
    inference_precision,
    resume_precision,
    share_precision,
)
from cellseg_mm.utils import UserError

AMP = dict(type='AmpOptimWrapper', loss_scale='dynamic', optimizer=dict(type='AdamW', lr=1e-3))
BF16 = ('bfloat16', 2, 'a step takes half the time')


@pytest.fixture
def auto(monkeypatch):
    """As outside the tests, which are pinned to fp32; their threads stay."""
    monkeypatch.setattr(torch, 'set_num_threads', lambda number: None)
    monkeypatch.delenv(precision.VARIABLE)


@pytest.fixture(scope='module')
def cfg(prepared, tmp_path_factory):
    """Two steps an epoch of a small model."""
    config = write_tiny_config(tmp_path_factory.mktemp('config') / 'tiny.py', times=1, width=16)
    options = {'train_dataloader.dataset.dataset.indices': 4, 'val_dataloader.dataset.indices': 1}
    return run_config.training_config(str(config), dict(data_root=str(prepared), **options), from_scratch=True)


def settled(precision_: str = 'auto', **wrapper) -> dict:
    cfg = Config(dict(optim_wrapper=dict(AMP, **wrapper)))
    fit_precision_to_device(cfg, precision_)
    return cfg.optim_wrapper


def test_cuda_keeps_amp(monkeypatch, auto, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert settled() == AMP
    assert settled('fp32') == dict(type='OptimWrapper', optimizer=AMP['optimizer'])
    assert settled('bf16') == dict(AMP, dtype='bfloat16')
    assert not capsys.readouterr().out


def test_the_cpu_takes_what_the_trial_shows_and_says_so(monkeypatch, auto, capsys):
    monkeypatch.setattr(precision, 'choose_way', lambda cfg: BF16)
    assert settled() == dict(type='CPUAmpOptimWrapper', dtype='bfloat16', optimizer=AMP['optimizer'])
    assert capsys.readouterr().out == f'training on the CPU in bfloat16: {BF16[2]}\n'


def test_ablations_that_start_together_take_one_choice(monkeypatch, auto, tmp_path):
    """The second one asks while the first one's trial runs, which would end otherwise if it were repeated."""
    choices, began, may_go_on = [BF16, ('float32', 1, 'busy')], threading.Event(), threading.Event()

    def choose_way(cfg):
        began.set()
        assert may_go_on.wait(20)
        return choices.pop(0)

    monkeypatch.setattr(precision, 'choose_way', choose_way)
    cfgs = [Config(dict(optim_wrapper=dict(AMP))) for _ in range(2)]
    threads = [threading.Thread(target=share_precision, args=([cfg], tmp_path / 'new', True)) for cfg in cfgs]
    threads[0].start()
    assert began.wait(20)
    threads[1].start()
    threads[1].join(0.5)  # long enough to come to its own trial, were it not to wait
    may_go_on.set()
    for thread in threads:
        thread.join()
    assert [cfg.optim_wrapper.dtype for cfg in cfgs] == ['bfloat16'] * 2 and len(choices) == 1


def test_the_threads_of_a_run_are_set_and_resumed(monkeypatch, auto):
    number = []
    monkeypatch.setattr(torch, 'set_num_threads', number.append)
    monkeypatch.setattr(precision, 'choose_way', lambda cfg: BF16)
    cfg = Config(dict(optim_wrapper=dict(AMP)))
    fit_precision_to_device(cfg)
    later = Config(dict(optim_wrapper=dict(AMP)))
    resume_precision(later, dict(meta=dict(cfg=cfg.pretty_text)))
    fit_precision_to_device(later)
    assert number == [2, 2] == [cfg.num_threads, later.num_threads]


def test_what_is_asked_for_needs_no_trial(monkeypatch):
    monkeypatch.setattr(precision, 'choose_way', lambda cfg: pytest.fail('tried'))
    assert settled('bf16').dtype == 'bfloat16'
    assert settled('fp32').dtype == 'float32'
    assert settled().dtype == 'float32'  # of the environment
    monkeypatch.setenv(precision.VARIABLE, 'bf16')
    assert settled().dtype == 'bfloat16'
    monkeypatch.setenv(precision.VARIABLE, 'fp8')
    with pytest.raises(UserError, match=r'CELLSEG_MM_PRECISION=fp8: choose from auto, fp32, bf16'):
        settled()


def test_a_settled_config_stays(monkeypatch, auto, capsys):
    monkeypatch.setattr(precision, 'choose_way', lambda cfg: pytest.fail('tried'))
    assert settled(type='CPUAmpOptimWrapper', dtype='bfloat16').dtype == 'bfloat16'
    assert not capsys.readouterr().out
    with pytest.raises(UserError, match='the run to resume is in bfloat16'):
        settled('fp32', type='CPUAmpOptimWrapper', dtype='bfloat16')
    assert settled(type='OptimWrapper').type == 'OptimWrapper'


def test_a_resumed_run_keeps_its_precision(auto):
    text = "optim_wrapper = dict(type='CPUAmpOptimWrapper', dtype='bfloat16')\n"
    cfg = Config(dict(optim_wrapper=dict(AMP)))
    resume_precision(cfg, dict(meta=dict(cfg=text)))
    fit_precision_to_device(cfg)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.dtype) == ('CPUAmpOptimWrapper', 'bfloat16')
    cfg = Config(dict(optim_wrapper=dict(AMP)))
    resume_precision(cfg, dict(meta=dict(cfg="optim_wrapper = dict(type='AmpOptimWrapper')\n")))
    assert cfg.optim_wrapper == AMP


def test_rows_of_an_ablation_share_one(monkeypatch, auto, tmp_path):
    def rows() -> list:
        return [Config(dict(optim_wrapper=dict(AMP))) for _ in range(2)]

    tried = []
    monkeypatch.setattr(precision, 'choose_way', lambda cfg: tried.append(cfg) or BF16)
    first = rows()
    share_precision(first, tmp_path, choose=False)
    assert [cfg.optim_wrapper for cfg in first] == [AMP, AMP] and not tried
    share_precision(first, tmp_path, choose=True)
    later = rows()
    share_precision(later, tmp_path, choose=True)
    assert len(tried) == 1
    assert {(cfg.optim_wrapper.dtype, cfg.num_threads) for cfg in first + later} == {('bfloat16', 2)}
    assert json.loads((tmp_path / 'precision.json').read_text())['dtype'] == 'bfloat16'


@pytest.mark.parametrize(
    'capabilities, expected',
    [({}, False), (dict(avx512_bf16=False), False), (dict(avx512_bf16=True), True), (dict(amx_bf16=True), True)],
)
def test_processors(capabilities, expected):
    assert has_bf16(capabilities) == expected


@pytest.mark.parametrize(
    'seconds, losses, expected',
    [
        ((1.0, 0.5), (3.0, 3.01), 'bfloat16'),
        ((1.0, 0.99), (3.0, 3.0), 'float32'),  # not worth it
        ((1.0, 0.5), (3.0, 3.5), 'float32'),  # wrong
        ((1.0, 0.5), (3.0, float('nan')), 'float32'),
    ],
)
def test_the_faster_right_one_is_chosen(cfg, monkeypatch, seconds, losses, expected):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    measured = iter(zip(seconds, losses, strict=True))
    monkeypatch.setattr(precision, 'has_bf16', lambda: True)
    monkeypatch.setattr(precision, '_time_steps', lambda *args: next(measured))
    dtype, threads, reason = choose_way(cfg)
    assert (dtype, threads) == (expected, None) and 'in fp32' in reason and 'losses differ by' in reason


def test_processors_without_bf16_are_not_tried(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setattr(precision, 'has_bf16', lambda: False)
    assert choose_way(None) == ('float32', None, 'this processor has no instructions for bf16')


@pytest.mark.parametrize('alone, expected', [(0.3, 1), (0.9, 4)])
def test_one_thread_where_all_are_no_faster(cfg, monkeypatch, alone, expected):
    def time_steps(model: object, batch: dict, dtype: torch.dtype, threads: int) -> tuple:
        return alone if threads == 1 else 0.5, 3.0

    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 4)
    monkeypatch.setattr(precision, 'has_bf16', lambda: False)
    monkeypatch.setattr(precision, '_time_steps', time_steps)
    assert choose_way(cfg)[:2] == ('float32', expected)


def test_the_trial_leaves_random_numbers_alone(cfg, monkeypatch):
    monkeypatch.setattr(precision, 'has_bf16', lambda: True)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    content = copy.deepcopy(cfg.to_dict())
    choose_way(cfg)
    assert torch.equal(torch.rand(1), expected)
    assert cfg.to_dict() == content


def test_inference(monkeypatch, auto):
    class Detector(torch.nn.Conv2d):
        def extract_feat(self, x: torch.Tensor) -> torch.Tensor:
            return self(x)

    model = Detector(3, 4, 1)
    x = torch.randn(1, 3, 2, 2)
    for has, given, expected in ((True, 'auto', True), (False, 'auto', False), (True, 'fp32', False)):
        monkeypatch.setattr(precision, 'has_bf16', lambda has=has: has)
        with torch.no_grad(), inference_precision(model, given):
            rounded = model.extract_feat(x)
        assert torch.equal(rounded, rounded.bfloat16().float()) == expected


def train(cfg: Config, work_dir: object, epochs: int, resume: bool = False) -> dict:
    cfg = copy.deepcopy(cfg)
    cfg.work_dir, cfg.train_cfg.max_epochs, cfg.train_cfg.val_begin = str(work_dir), epochs, 9
    cfg.resume, cfg.load_from = resume, str(work_dir / 'epoch_1.pth') if resume else None
    cfg.param_scheduler = []
    fit_precision_to_device(cfg, 'bf16')
    Runner.from_cfg(cfg).train()
    return read_checkpoint(str(work_dir / f'epoch_{epochs}.pth'))


def test_a_resumed_run_equals_an_undisturbed_one_bit_by_bit(cfg, tmp_path):
    whole = train(cfg, tmp_path / 'whole', 2)
    train(cfg, tmp_path / 'parts', 1)
    resumed = train(cfg, tmp_path / 'parts', 2, resume=True)
    assert 'CPUAmpOptimWrapper' in whole['meta']['cfg']
    for name, value in whole['state_dict'].items():
        assert torch.equal(value, resumed['state_dict'][name]), name
    moments = [checkpoint['optimizer']['state'] for checkpoint in (whole, resumed)]
    assert all(torch.equal(moments[0][key]['exp_avg'], moments[1][key]['exp_avg']) for key in moments[0])
