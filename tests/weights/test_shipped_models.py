"""The shipped models: the files in the package, and stand-ins of random weights for their use."""

import dataclasses
import hashlib
import json
import re

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import ROOT, read_json
from tiny_detector import POINT, draw

from cellseg_mm import CellInferencer, weights
from cellseg_mm.utils import UserError

NAMES = ['consep-lite0', 'nuclei-lite0']
OTHER_THR = 0.4


@pytest.fixture
def shipped(tiny_checkpoint, run_here, tmp_path, monkeypatch):
    """The folder of two models; the second differs in its score threshold."""
    folder = tmp_path / 'weights'
    paths = [folder / f'{name}.safetensors' for name in NAMES]
    status, printed, _ = run_here('deploy', tiny_checkpoint, '--half', '--out', paths[0])
    digests = [hashlib.sha256(paths[0].read_bytes()).hexdigest()]
    assert status == 0 and re.search(r'^SHA-256 (\w{64})$', printed, re.MULTILINE)[1] == digests[0]
    with safetensors.safe_open(paths[0], framework='pt') as file:
        notes = dict(file.metadata(), operating_point=json.dumps(dict(score_thr=OTHER_THR, epoch=1)))
    paths[1].write_bytes(safetensors.torch.save(safetensors.torch.load_file(paths[0]), notes))
    digests.append(hashlib.sha256(paths[1].read_bytes()).hexdigest())
    models = {
        name: dataclasses.replace(weights.MODELS[name], digest=digest)
        for name, digest in zip(NAMES, digests, strict=True)
    }
    monkeypatch.setattr(weights, 'FOLDER', folder)
    monkeypatch.setattr(weights, 'MODELS', models)
    return folder


@pytest.fixture
def image(tmp_path):
    (tmp_path / 'images').mkdir()
    path = tmp_path / 'images/tissue.png'
    cv2.imwrite(str(path), draw(1, 96, 96)[..., ::-1])
    return path


@pytest.mark.parametrize('name', weights.shipped_models())
def test_shipped_files_are_small_whole_and_name_no_machine(name):
    path = weights.model_file(name)
    assert path.stat().st_size <= 15_000_000
    with safetensors.safe_open(path, framework='pt') as file:
        for key in file.keys():  # noqa: SIM118  (no mapping)
            dtype = file.get_tensor(key).dtype
            if dtype.is_floating_point:
                assert dtype == (torch.float32 if '.running_' in key else torch.float16), key
        text = json.dumps(file.metadata())
    assert '/work' not in text and '/home' not in text and '/tmp' not in text


@pytest.mark.parametrize('name', weights.MODELS)
def test_each_model_has_a_card_and_a_notice(name):
    assert f'## {name}' in (ROOT / 'docs/models.md').read_text('utf-8')
    notice = (ROOT / 'NOTICE').read_text('utf-8')
    assert name in notice and '\n' not in weights.MODELS[name].notice
    digest = weights.MODELS[name].digest
    assert digest is None or digest in notice


def test_the_default_and_the_other_find_what_their_files_find(shipped, image, capsys):
    for arguments, name, score_thr in (((), NAMES[0], POINT['score_thr']), ((NAMES[1],), NAMES[1], OTHER_THR)):
        expected = CellInferencer(shipped / f'{name}.safetensors', channel_order='rgb')(image)
        assert not capsys.readouterr().out and len(expected)
        detector = CellInferencer(*arguments, channel_order='rgb')
        assert capsys.readouterr().out == f'model {name}: {weights.MODELS[name].notice}\n'
        assert detector.score_thr == score_thr
        assert np.array_equal(detector(image).instance_map(), expected.instance_map())
    assert 'for research only' in weights.MODELS['consep-lite0'].notice


def test_predict_takes_a_model_a_checkpoint_or_neither(shipped, image, tiny_checkpoint, run_here, tmp_path):
    found, options = [], ['--formats', 'coco', '--channel-order', 'rgb']
    for number, arguments in enumerate(
        (
            [image, '--out', tmp_path / '0'],
            ['--out', tmp_path / '1', image.parent, '--model', NAMES[1]],
            [shipped / f'{NAMES[0]}.safetensors', image, '--out', tmp_path / '2'],
            [tiny_checkpoint, '--out', tmp_path / '3', image],
            [NAMES[1], image, '--out', tmp_path / '4'],
        )
    ):
        status, printed, errors = run_here('predict', *arguments, *options)
        assert status == 0, errors
        assert (
            re.findall(r'^model (\S+): ', printed, re.MULTILINE) == [[NAMES[0]], [NAMES[1]], [], [], [NAMES[1]]][number]
        )
        found.append(
            [entry['segmentation'] for entry in read_json(tmp_path / f'{number}/tissue_coco.json')['annotations']]
        )
    assert found[0] == found[2] and found[1] == found[4] and len(found[0]) > len(found[1]) > 0 and found[3]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            'x.png --model big',
            r'big: no shipped model has this name; choose from consep-lite0, nuclei-lite0, or give',
        ),
        ('a.pth x.png --model nuclei-lite0', r'--model nuclei-lite0: the checkpoint a\.pth is given too; choose one'),
        ('a.safetensors', r'a\.safetensors: a checkpoint without an image'),
        ('absent.pth x.png', r'absent\.pth: no such checkpoint'),
    ],
)
def test_mistakes_with_models_are_one_line(shipped, run_here, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x.png').touch()
    status, _, errors = run_here('predict', *arguments.split(), '--out', tmp_path / 'out')
    assert status == 2 and re.fullmatch(f'error: .*{message}.*\n', errors)


def test_export_takes_a_model_by_name(shipped, run_here, tmp_path):
    status, printed, errors = run_here('deploy', NAMES[1], '--half', '--out', tmp_path / 'x.safetensors')
    assert status == 0 and f'"score_thr": {OTHER_THR}' in printed, errors


@pytest.mark.parametrize(
    ('checkpoint', 'expected'),
    [('big', True), ('consep-lite0', True), ('big.pth', False), ('some/big', False), ('there', False)],
)
def test_names_of_models_are_not_paths(tmp_path, monkeypatch, checkpoint, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'there').touch()
    assert weights.is_model_name(checkpoint) == expected


def test_a_file_that_is_missing_or_changed_is_refused(shipped):
    path = shipped / 'consep-lite0.safetensors'
    path.with_name(f'{path.name}.sha256').unlink()  # the package has none
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'consep-lite0\.safetensors: changed since it was shipped'):
        CellInferencer()
    path.unlink()
    with pytest.raises(UserError, match=r'consep-lite0\.safetensors: missing from the installed package'):
        CellInferencer()


def test_a_model_without_a_file_is_not_part_of_this_version(monkeypatch):
    bare = {name: dataclasses.replace(model, digest=None) for name, model in weights.MODELS.items()}
    monkeypatch.setattr(weights, 'MODELS', bare)
    assert weights.shipped_models() == []
    with pytest.raises(UserError, match=r'consep-lite0: this model is not part of this version yet; give a checkpoint'):
        CellInferencer()
    bare['nuclei-lite0'] = dataclasses.replace(bare['nuclei-lite0'], digest='0')
    with pytest.raises(
        UserError, match=r'not part of this version yet; choose from nuclei-lite0, or give a checkpoint'
    ):
        CellInferencer()
    bare['consep-lite0'] = dataclasses.replace(bare['consep-lite0'], digest='0')
    assert weights.shipped_models()[0] == weights.DEFAULT


def test_the_pixel_size_of_a_shipped_models_training_is_known_by_its_file(tmp_path):
    known = {name: weights.shipped_pixel_size(weights.model_file(name)) for name in weights.shipped_models()}
    assert known == {'consep-lite0': 0.25, 'consep-lite0-wide': 0.25, 'nuclei-lite0': None}
    assert weights.shipped_pixel_size(tmp_path / 'consep-lite0.safetensors') is None  # another file of that name


def test_the_package_takes_the_files_along():
    assert '"cellseg_mm.weights" = ["*.safetensors"]' in (ROOT / 'pyproject.toml').read_text('utf-8')
