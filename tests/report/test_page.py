import json
import re
import shlex
import shutil
from pathlib import Path

import html5lib
import pytest
from conftest import ROOT, read_json

from cellseg_mm.evaluation import gather_evidence, make_scenes, metric_intervals
from cellseg_mm.evaluation.error_analysis import analyze_errors
from cellseg_mm.report import build_page, examples
from cellseg_mm.utils import UserError, load_config
from work_dirs import SCORE_THR, write_ablation, write_test, write_training

SVG = '{http://www.w3.org/2000/svg}'


class Page:
    """A page as a browser reads it; that it is valid HTML, and loads and runs nothing, is checked on the way."""

    def __init__(self, text):
        self.root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
        elements = list(self.root.iter())
        tags = {element.tag.rsplit('}')[-1] for element in elements}
        assert not tags & {'script', 'link', 'iframe', 'object', 'embed', 'base', 'audio', 'video', 'form'}
        ids = [element.get('id') for element in elements if element.get('id')]
        assert len(set(ids)) == len(ids)
        for element in elements:
            for name, value in element.items():
                name = str(name).rsplit('}')[-1]
                assert not name.startswith('on')
                if name in ('src', 'srcset', 'href', 'poster', 'data', 'action', 'background'):
                    assert value.startswith('data:image/') or (value[1:] in ids and value[0] == '#'), value[:80]
                assert name != 'style' or 'url(' not in value
        for style in self.root.iter('style'):
            assert 'url(' not in style.text and '@import' not in style.text
        assert all(image.get('alt') for image in self.root.iter('img'))
        self.text = self.words(self.root.find('body'))

    @staticmethod
    def words(element):
        return ' '.join(''.join(element.itertext()).split())

    def table(self, caption):
        """Rows of texts of the table of this caption or label."""
        for region in self.root.iter('div'):
            table = region.find('table')
            if table is None:
                continue
            found = table.find('caption')
            if caption in (region.get('aria-label'), self.words(found) if found is not None else None):
                return [[self.words(cell) for cell in row] for row in table.iter('tr')]
        raise AssertionError(f'no table {caption}')

    def commands(self):
        missing = next((part for part in self.root.iter('aside')), ())
        return [part.text for part in missing.iter('pre')] if len(missing) else []

    def pictures(self):
        """Panels of each picture: title, and number of outlines."""
        figures = [part for part in self.root.iter('div') if part.get('class') == 'panels']
        return [
            [(panel.find('figcaption').find('b').text, len([*panel.iter(f'{SVG}path')])) for panel in part]
            for part in figures
        ]


@pytest.fixture
def run(prepared, tmp_path):
    """A work dir that was trained and tested."""
    return write_test(write_training(tmp_path / 'run', prepared), prepared)


def test_the_metrics_are_those_of_the_test(run, prepared):
    page = Page(build_page([run]))
    header, *rows = page.table('All metrics')
    assert header == ['metric', 'run']
    metrics = read_json(run / 'test_metrics.json')
    shown = {f'cells/{name}': None if value == '-' else float(value) for name, value in rows}
    assert shown == metrics
    assert f'PQ, AJI, Dice and F1 at score {SCORE_THR:.2f}' in page.text and 'What is missing' not in page.text

    ground_truth, results = read_json(prepared / 'annotations/test.json'), read_json(run / 'predictions.json')
    classes = [entry['name'] for entry in ground_truth['categories']]
    intervals = metric_intervals(gather_evidence(ground_truth, results, SCORE_THR), classes)
    _, low, high = intervals['PQ']
    cards = [page.words(card) for card in page.root.find('.//ul[@class="cards"]')]
    assert len(cards) == 9 and cards[2].startswith(f'PQ{metrics["cells/PQ"]:.3f} {low:.3f} to {high:.3f}')
    _, *rows = page.table('Metrics by class')
    assert [row[0] for row in rows] == [*classes, 'mean']
    for name, cells, value, interval, *_ in rows[:-1]:
        expected, low, high = intervals[f'segm_AP50_max1000_{name}']
        assert expected == pytest.approx(metrics[f'cells/segm_AP50_max1000_{name}'])
        assert [value, interval] == [f'{expected:.3f}', f'{low:.3f} to {high:.3f}']
        number = [entry['name'] for entry in ground_truth['categories']].index(name) + 1
        assert int(cells) == sum(entry['category_id'] == number for entry in ground_truth['annotations'])

    report = analyze_errors(ground_truth, results, make_scenes(ground_truth, results), SCORE_THR)
    (_, *columns), *rows = page.table('Confusion matrix')
    assert columns == [*classes, 'missed'] and [row[0] for row in rows] == [*classes, 'spurious']
    expected = report['confusion_matrix']
    shares = [[round(100 * count / max(sum(row), 1)) for count in row] for row in expected]
    texts = [
        [f'{count}{share} %' if count else '0' for count, share in zip(*row, strict=True)]
        for row in zip(expected, shares, strict=True)
    ]
    texts[-1][-1] = ''
    assert [row[1:] for row in rows] == texts and expected[0][0] > 0
    _, *rows = page.table('Kinds of errors')
    assert rows[-1][:3] == ['all', str(report['total']['ground_truth']), str(report['total']['predicted'])]


def test_pictures_show_all_cells_and_what_was_missed(run, prepared):
    page = Page(build_page([run]))
    ground_truth = read_json(prepared / 'annotations/test.json')
    names = [code.text for code in page.root.iter('code')]
    cells = {image['file_name']: 0 for image in ground_truth['images']}
    ids = {image['id']: image['file_name'] for image in ground_truth['images']}
    for entry in ground_truth['annotations']:
        cells[ids[entry['image_id']]] += 1
    shown = [name for name in names if name in cells]
    assert sorted(shown) == sorted(cells)  # there are no more than nine
    for name, (actual, predicted) in zip(shown, page.pictures(), strict=True):
        assert actual == ('ground truth', cells[name])
        assert predicted[0] == 'predicted' and predicted[1] >= cells[name]  # each is found or missed


def test_names_are_text(prepared, tmp_path):
    """Of classes, images and folders."""
    data = tmp_path / 'cells'
    shutil.copytree(prepared, data)
    content = read_json(data / 'annotations/test.json')
    content['categories'][0]['name'] = '<b>x'
    content['categories'][1]['name'] = r'$\frac$&"'
    image = content['images'][0]
    (data / 'images' / image['file_name']).rename(data / 'images/<img src=x onerror=alert(1)>.png')
    image['file_name'] = '<img src=x onerror=alert(1)>.png'
    (data / 'annotations/test.json').write_text(json.dumps(content))
    run = write_test(write_training(tmp_path / "a '<i>&run", data), data)
    text = build_page([run])
    page = Page(text)
    assert '<b>x' not in text and '<img src=x' not in text and '<i>' not in text
    assert page.table('Metrics by class')[1][0] == '<b>x' and page.table('Kinds of errors')[2][0] == r'$\frac$&"'
    assert any(code.text == image['file_name'] for code in page.root.iter('code'))
    assert page.root.find('.//h1').text == "a '<i>&run"


def test_only_trained(prepared, tmp_path):
    run = write_training(tmp_path / 'a run', prepared)
    page = Page(build_page([run]))
    assert 'was not tested' in page.text and 'training loss 4.00 at epoch 1' in page.root.find('.//img').get('alt')
    (command,) = page.commands()
    python, tool, config, checkpoint, *options = shlex.split(command)
    assert [python, tool] == ['python', 'tools/test.py']
    assert Path(config) == run / '20260101_000000/vis_data/config.py' and Path(checkpoint) == run / 'best_epoch_2.pth'
    assert options == ['--work-dir', str(run), '--out', str(run / 'predictions.json')]
    assert 'Metrics' not in page.text.split('Config')[0].split()


def test_interrupted(prepared, tmp_path):
    run = write_training(tmp_path / 'run', prepared)
    (run / 'last_checkpoint').write_text('epoch_1.pth')
    (run / 'best_epoch_2.pth').unlink()
    page = Page(build_page([run]))
    assert 'Training is at epoch 1 of 2.' in page.text
    resume, test = page.commands()
    config = run / '20260101_000000/vis_data/config.py'
    assert resume == f'python tools/train.py {config} --resume --work-dir {run}'
    assert f'{run}/epoch_1.pth' in test


def test_only_tested_without_predictions(prepared, tmp_path):
    run = write_test(tmp_path / 'run', prepared)
    (run / 'predictions.json').unlink()
    page = Page(build_page([run]))
    assert 'No training log' in page.text and 'No predictions.json beside test_metrics.json' in page.text
    assert page.commands()[0].endswith(f'--out {run}/predictions.json')
    assert len(page.table('All metrics')) == 1 + len(read_json(run / 'test_metrics.json'))
    assert not page.pictures() and '95 %' not in page.text


def test_predictions_that_do_not_give_the_metrics_are_left_out(run, prepared):
    entries = read_json(run / 'predictions.json')
    (run / 'predictions.json').write_text(json.dumps(entries[1:]))
    page = Page(build_page([run]))
    assert re.search(
        r'No intervals, errors and pictures: .*predictions\.json gives segm_AP50_max1000_\w+ = 0\.\d+', page.text
    )
    assert not page.pictures()
    (run / 'predictions.json').write_text('[')
    assert 'is not valid JSON' in Page(build_page([run])).text


def test_another_folder_in_the_work_dir_is_not_a_test(run):
    (run / 'errors').mkdir()
    (run / 'errors/errors.json').write_text('{}')  # as tools/analyze_errors.py --out run/errors writes it
    page = Page(build_page([run]))
    assert page.pictures() and 'What is missing' not in page.text


def test_data_that_moved(run, prepared, tmp_path):
    moved = tmp_path / 'cells'
    shutil.copytree(prepared, moved)
    run = write_test(write_training(tmp_path / 'other', moved), moved)
    shutil.rmtree(moved / 'images')
    page = Page(build_page([run]))
    assert 'cannot be read' in page.text and not page.pictures() and page.table('Confusion matrix')
    shutil.rmtree(moved)
    assert 'annotations/test.json: No such file' in Page(build_page([run])).text


def test_several_runs_side_by_side(run, prepared, tmp_path):
    other = write_test(write_training(tmp_path / 'other', prepared, seed=1), prepared, keep=3)
    trained = write_training(tmp_path / 'more/run', prepared)
    page = Page(build_page([run, other, trained]))
    names = [str(run), 'other', str(trained)]  # two share the name of their folder
    header, *rows = page.table('All metrics')
    assert header == ['metric', *names[:2]]
    for place, folder in ((1, run), (2, other)):
        metrics = read_json(folder / 'test_metrics.json')
        assert [row[place] for row in rows] == ['-' if value is None else repr(value) for value in metrics.values()]
    assert all([title for title, _ in panels] == ['ground truth', *names[:2]] for panels in page.pictures())
    assert page.pictures()
    assert page.table(f'{names[0]} → other')[1:] == [['seed', '(absent)', '1']]
    assert page.table(f'Confusion matrix of {names[0]}') != page.table('Confusion matrix of other')
    rows = page.table('When, by which commit and on what device')
    assert rows[1] == [names[0], '2026-01-01 00:00', 'training', 'abc', 'a CPU', 'torch 2.13.0']
    assert rows[2][1:] == ['2026-01-02 00:00', 'test', 'not recorded']


@pytest.mark.parametrize('name', ['configs/maskrcnn_r50_fpn.py', 'configs/consep/maskrcnn_r50_fpn.py'])
def test_the_config_is_held_against_the_file_that_it_came_from(name, prepared, tmp_path):
    """Of two files of one name that is the more alike."""
    run = write_training(tmp_path / 'run', prepared)
    config = load_config(ROOT / name, dict(data_root='elsewhere/'))
    for path in (run / 'maskrcnn_r50_fpn.py', run / '20260101_000000/vis_data/config.py'):
        path.write_text(config.pretty_text)
    rows = Page(build_page([run])).table(f'{name} → run')
    assert [row[0] for row in rows[1:]] == ['data_root']


def test_an_ablation(prepared, tmp_path):
    out = write_ablation(tmp_path / 'ablation', prepared, dict(plain=3, cbam=5))
    page = Page(build_page([out]))
    rows = read_json(out / 'ablation.json')['rows']
    header, *shown = page.table('Metrics of the rows')
    assert [row[:2] for row in shown] == [['plain', '1'], ['cbam', '1']]
    assert [row[header.index('PQ')] for row in shown] == [f'{row["figures"]["PQ"]["mean"]:.3f}' for row in rows]
    _, (name, *differences) = page.table('Differences to the row above')
    assert name == 'cbam' and differences[2] == '{:+.3f} [{:+.3f}, {:+.3f}]'.format(*rows[1]['differences']['PQ'])
    cells = f'{len(read_json(prepared / "annotations/test.json")["annotations"]):,}'
    images = str(len(read_json(prepared / 'annotations/test.json')['images']))
    score = f'{SCORE_THR:.2f}'
    assert [[name, *rest] for name, _, *rest in page.table('Runs')[1:]] == [
        ['plain, seed 0', images, cells, score],
        ['cbam, seed 0', images, cells, score],
    ]
    assert page.table('plain, seed 0 → cbam, seed 0')[1:] == [['placement', "'plain'", "'cbam'"]]
    assert [title for title, _ in page.pictures()[0]] == ['ground truth', 'plain, seed 0', 'cbam, seed 0']
    assert 'cbam, seed 1 is not in the table' in page.text and not page.commands()
    assert page.text.count('is not in the table') == 1

    (out / 'ablation.json').unlink()  # before the first run is finished
    page = Page(build_page([out]))
    assert page.table('All metrics')[0] == ['metric', 'cbam, seed 0', 'plain, seed 0']
    assert 'cbam, seed 1: The run was not tested' in page.text
    assert page.table('Runs')[2][2:] == ['not tested', '', '']


def test_an_ablation_of_which_some_runs_have_no_log(prepared, tmp_path):
    """Of a run that is brought from another machine as its result.json alone."""
    out = write_ablation(tmp_path / 'ablation', prepared, dict(plain=3, cbam=5))
    content = read_json(out / 'ablation.json')
    content['runs'].append(dict(content['runs'][1], seed=1))  # now finished
    (out / 'ablation.json').write_text(json.dumps(content))
    folder = out / 'runs/cbam-0123456789ab'
    for path in (folder / 'seed_0', folder.with_name('plain-0123456789ab') / 'seed_0'):
        shutil.rmtree(path)
    page = Page(build_page([out]))
    assert 'no log of cbam, seed 0 here' in page.text and 'no log of plain, seed 0 here' in page.text
    assert 'training loss' in page.root.findall('.//img')[-1].get('alt') and 'seed 1 here' not in page.text
    assert [row[0] for row in page.table('Metrics of the rows')[1:]] == ['plain', 'cbam']
    shutil.rmtree(folder)
    page = Page(build_page([out]))
    assert page.table('Differences to the row above') and 'The sections below' not in page.text
    assert 'no log of cbam, seed 1 here' in page.text


def test_an_ablation_of_undefined_metrics(prepared, tmp_path):
    out = write_ablation(tmp_path / 'ablation', prepared, dict(plain=3, cbam=5))
    content = read_json(out / 'ablation.json')
    for row in content['rows']:
        row['figures']['PQ'] = dict(mean=None, std=None)
    content['rows'][1]['differences']['PQ'] = [None] * 3
    for run in content['runs']:
        run['figures']['PQ'] = None
    (out / 'ablation.json').write_text(json.dumps(content))
    page = Page(build_page([out]))
    assert page.table('Differences to the row above')[1][3] == '-'
    header, *shown = page.table('Metrics of the rows')
    assert [row[header.index('PQ')] for row in shown] == ['-', '-']


def test_a_page_has_its_limits(run, monkeypatch):
    page = Page(build_page([run]))
    photos = sum(len(image.get('href')) for image in page.root.iter(f'{SVG}image'))
    monkeypatch.setattr(examples, 'MAX_CHARACTERS', photos)  # and their outlines are more
    smaller = Page(build_page([run]))
    assert 0 < len(smaller.pictures()) < len(page.pictures())
    assert 'Further images are left out' in smaller.text and 'Further images' not in page.text


def test_mistakes(prepared, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='no training log and no test_metrics'):
        build_page([tmp_path / 'empty'])
    (tmp_path / 'ablation/runs').mkdir(parents=True)
    with pytest.raises(UserError, match='no run of this ablation has a log yet'):
        build_page([tmp_path / 'ablation'])
    run = write_training(tmp_path / 'run', prepared)
    for content, message in (
        ('{', 'is not valid JSON'),
        ('[]', 'not a table of metrics'),
        ('{"cells/PQ": 1}', 'segm_AP50.* is missing'),
    ):
        (run / 'test_metrics.json').write_text(content)
        with pytest.raises(UserError, match=message):
            build_page([run])
    (run / 'test_metrics.json').unlink()
    (run / '20260101_000000/vis_data/config.py').write_text('import os')
    with pytest.raises(UserError, match='not a config written by'):
        build_page([run])
