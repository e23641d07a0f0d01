import dataclasses
import json
import uuid

import numpy as np
import pytest
import shapely
import tifffile
from conftest import read_csv, read_json
from drawn_cells import CLASSES, HEIGHT, WIDTH, draw_masks, make_cells, make_source
from matplotlib.path import Path as Outline
from pycocotools.coco import COCO

from cellseg_mm.datasets.formats import coco as coco_format
from cellseg_mm.export import FORMATS, export_cells, label_image, measure_cells, writer
from cellseg_mm.export.label_image import LabelImageWriter
from cellseg_mm.structures import Cells, Runs
from cellseg_mm.utils import UserError
from cellseg_mm.visualization.colors import class_colors

FILES = [
    'cut_classes.tif',
    'cut_coco.json',
    'cut_labels.tif',
    'cut_overlay.png',
    'cut_overview.png',
    'cut.csv',
    'cut.geojson',
    'cut.h5ad',
    'cut.parquet',
]


# the page's folder has a test of its own
ONE_FILE = [name for name in FORMATS if name != 'slide']


def export(out, stream, formats=ONE_FILE, pixel_size=0.5):
    return export_cells(stream, make_source(pixel_size=pixel_size), out, 'cut', formats, CLASSES)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A folder with all formats of the drawn cells, among which one has no pixel."""
    out = tmp_path_factory.mktemp('exported')
    masks = draw_masks()
    cells = make_cells(np.insert(masks, 4, False, axis=0))
    summary = export(out, [cells])
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert summary['cells'] == len(masks)
    return out, cells.select(np.delete(np.arange(len(cells)), 4))


def rasterise(geometry: dict) -> np.ndarray:
    """(H, W) bool, pixels whose centre lies within an odd number of rings; without shapely."""
    centers = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), axis=-1).reshape(-1, 2)
    polygons = [geometry['coordinates']] if geometry['type'] == 'Polygon' else geometry['coordinates']
    inside = sum(Outline(ring).contains_points(centers).astype(int) for rings in polygons for ring in rings)
    return inside.reshape(HEIGHT, WIDTH) % 2 == 1


@pytest.mark.parametrize('name', FORMATS)
def test_a_formats_files_are_those_it_is_said_to_have(name, tmp_path):
    export(tmp_path, [], [name])
    assert {path.name for path in tmp_path.iterdir()} == {f'cut{ending}' for ending in FORMATS[name].endings}


@pytest.mark.parametrize('count, dtype', [(255, np.uint8), (256, np.uint16)])
def test_class_images_hold_any_number_of_classes(count, dtype, tmp_path):
    cells = make_cells(draw_masks()[:2])
    cells = dataclasses.replace(cells, labels=np.array([count - 1, 0]))
    export_cells([cells], make_source(), tmp_path, 'cut', ['labels'], [str(number) for number in range(count)])
    labels, classes = (tifffile.imread(tmp_path / f'cut_{name}.tif') for name in ('labels', 'classes'))
    assert classes.dtype == dtype
    assert np.array_equal(classes, np.array([0, count, 1])[labels])


def test_geojson_has_the_masks(exported):
    content = read_json(exported[0] / 'cut.geojson')
    assert content['type'] == 'FeatureCollection'
    for mask, feature in zip(draw_masks(), content['features'], strict=True):
        geometry = shapely.from_geojson(json.dumps(feature['geometry']))
        assert shapely.is_valid(geometry) and shapely.area(geometry) == mask.sum()
        assert np.array_equal(rasterise(feature['geometry']), mask)
        names = [f'centroid_{axis}_{unit}' for unit in ('px', 'um') for axis in 'xy']
        center = shapely.get_coordinates(shapely.centroid(geometry))[0]
        centroid = [feature['properties']['measurements'][name] for name in names]
        assert centroid == pytest.approx([*center, *(center * 0.5)], abs=5.1e-5)  # 0.5 um a px
    kinds = [feature['geometry']['type'] for feature in content['features']]
    assert kinds == ['Polygon'] * 3 + ['MultiPolygon'] * 2 + ['Polygon'] * 3 + ['MultiPolygon']
    assert len(content['features'][2]['geometry']['coordinates']) == 2  # with its hole


def test_geojson_follows_the_schema_of_qupath(exported):
    out, cells = exported
    features = read_json(out / 'cut.geojson')['features']
    measured = measure_cells(cells, make_source(), 0.5)
    for index, feature in enumerate(features):
        assert feature.keys() == {'type', 'id', 'geometry', 'properties'} and feature['type'] == 'Feature'
        properties, label = feature['properties'], cells.labels[index]
        assert properties.keys() == {'objectType', 'name', 'classification', 'measurements'}
        assert (properties['objectType'], properties['name']) == ('detection', str(index + 1))
        assert properties['classification'] == dict(name=CLASSES[label], color=list(class_colors(4)[label]))
        expected = {'score': cells.scores[index], **{name: values[index] for name, values in measured.items()}}
        assert properties['measurements'] == pytest.approx(expected, abs=5.1e-5)
    assert len({uuid.UUID(feature['id']) for feature in features}) == len(cells)


def test_csv_has_a_row_a_cell(exported):
    out, cells = exported
    measured = measure_cells(cells, make_source(), 0.5)
    rows = read_csv(out / 'cut.csv')
    assert list(rows[0]) == ['cell', 'class', 'score', *measured]
    assert [row['cell'] for row in rows] == [str(number) for number in range(1, len(cells) + 1)]
    assert [row['class'] for row in rows] == [CLASSES[label] for label in cells.labels]
    for name, values in dict(measured, score=cells.scores).items():
        assert [float(row[name]) for row in rows] == pytest.approx(values, abs=5.1e-5)


def test_coco_is_a_data_set_and_its_annotations_are_results(exported):
    out, cells = exported
    coco = COCO(str(out / 'cut_coco.json'))
    assert coco.loadImgs(1) == [dict(id=1, file_name='image 1.tif', height=HEIGHT, width=WIDTH)]
    assert [entry['name'] for entry in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    results = coco.loadRes(read_json(out / 'cut_coco.json')['annotations'])
    for index, mask in enumerate(draw_masks()):
        (annotation,) = coco.loadAnns(index + 1)
        rows, cols = np.nonzero(mask)
        box = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
        assert (annotation['category_id'], annotation['score']) == (cells.labels[index] + 1, cells.scores[index])
        assert (annotation['bbox'], annotation['area']) == (box, mask.sum())
        assert np.array_equal(coco.annToMask(annotation), mask)
        assert np.array_equal(results.annToMask(results.loadAnns(index + 1)[0]), mask)


@pytest.mark.parametrize('place', ['images/image 1.tif', 'found/image 1.tif'])
def test_coco_beside_the_image_or_its_folder_is_read_back_by_the_converter(place, tmp_path):
    image, masks = make_source().read(0, 0, WIDTH, HEIGHT), draw_masks()[:4]
    (tmp_path / place).parent.mkdir()
    tifffile.imwrite(tmp_path / place, image, photometric='rgb')
    export(tmp_path / 'found', [make_cells(masks)], formats=['coco'])
    (sample,), classes = coco_format.find_samples(tmp_path / 'found/cut_coco.json', None)
    instances = sample.read_instances((HEIGHT, WIDTH))
    assert sample.image == tmp_path / place and classes == CLASSES
    masks_read = [(instances.layers == number).any(axis=0) for number in range(1, len(masks) + 1)]
    assert np.array_equal(masks_read, masks) and instances.labels.tolist() == [1, 2, 3, 4]


def test_label_images_are_the_instance_map_and_its_classes(exported):
    out, cells = exported
    labels, classes = (tifffile.imread(out / f'cut_{name}.tif') for name in ('labels', 'classes'))
    assert (labels.dtype, classes.dtype) == (np.uint16, np.uint8)
    assert np.array_equal(labels, cells.instance_map())
    assert np.array_equal(classes, np.append(0, cells.labels + 1)[labels])


@pytest.mark.parametrize('in_strips', [True, False])
@pytest.mark.parametrize('height', [1, 63, 64, 65, 128, 129, 700])
def test_label_images_of_any_height_are_in_strips_until_they_are_too_large(height, in_strips, tmp_path, monkeypatch):
    """ImageJ opens no tiles, and version 1.53 no two strips of few bytes."""
    if not in_strips:
        monkeypatch.setattr(label_image, 'MAX_STRIPPED', 3 * height - 1)  # of classes; labels have twice the bytes
    mask = np.random.default_rng(0).random((1, height, 3)) < 0.5
    source = make_source(np.zeros((height, 3, 3), np.uint8))
    export_cells([make_cells(mask)], source, tmp_path, 'cut', ['labels'], CLASSES)
    for name in ('labels', 'classes'):
        with tifffile.TiffFile(tmp_path / f'cut_{name}.tif') as file:
            (page,) = file.pages
            assert page.is_tiled == file.is_bigtiff == (not in_strips) and page.compression == 8
            assert in_strips is False or len(page.dataoffsets) != 2
            assert np.array_equal(page.asarray(), mask[0])


def test_parts_give_the_files_of_the_whole(exported, tmp_path, monkeypatch):
    for module in (writer, label_image):
        monkeypatch.setattr(module, 'CHUNK', 2)
    out, cells = exported
    parts = (cells.select(part) for part in (np.arange(2), [], np.arange(2, 8), [8]))
    export(tmp_path, parts)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_formats_share_the_outlines(tmp_path, monkeypatch):
    traced, trace = [], writer.trace_outlines
    monkeypatch.setattr(writer, 'trace_outlines', lambda cells: traced.append(len(cells)) or trace(cells))
    export(tmp_path, [make_cells(draw_masks())], ['geojson', 'geoparquet', 'slide'])
    assert sum(traced) == 9


def test_of_overlapping_cells_the_earlier_part_then_the_higher_score_has_the_pixel(tmp_path):
    masks = np.zeros((4, HEIGHT, WIDTH), bool)
    masks[0, 5:15, 5:15] = masks[1, 5:15, 11:21] = True  # 40 of 100 px shared
    masks[2, 5:15, 6:16] = True  # all but 10 px within the first
    masks[3, 5:15, 20:30] = True  # 10 px shared with the second
    parts = [make_cells(masks[:2], scores=[0.5, 0.6]), make_cells(masks[2:], scores=[0.9, 0.9])]
    export(tmp_path, parts, formats=['labels'])
    labels = tifffile.imread(tmp_path / 'cut_labels.tif')
    assert np.bincount(labels.ravel())[1:].tolist() == [60, 100, 0, 90]


def test_labels_have_32_bits_above_65535_cells(tmp_path):
    for count, dtype in ((65_535, np.uint16), (65_536, np.int32)):
        runs = Runs(np.arange(count), np.arange(count), np.ones(count, np.int64))
        cells = Cells(runs, np.zeros(count, np.int64), np.ones(count, np.float32), 1024, 64)
        with LabelImageWriter(tmp_path, 'many', make_source(np.zeros((1024, 64, 3), np.uint8)), CLASSES) as labels:
            labels.write(writer.Part(cells, {}))
        labels = tifffile.imread(tmp_path / 'many_labels.tif')
        assert labels.dtype == dtype
        assert np.array_equal(labels.T.ravel()[:count], np.arange(1, count + 1))


@pytest.mark.parametrize('stream', [[], [make_cells(np.zeros((1, HEIGHT, WIDTH), bool))]])
def test_an_image_without_cells_gives_valid_empty_files(tmp_path, stream):
    summary = export(tmp_path, stream, pixel_size=2.0)
    assert (summary['cells'], summary['mm2']) == (0, HEIGHT * WIDTH * 4e-6)
    assert read_json(tmp_path / 'cut.geojson') == dict(type='FeatureCollection', features=[])
    assert COCO(str(tmp_path / 'cut_coco.json')).getAnnIds() == []
    (header,) = (tmp_path / 'cut.csv').read_text().splitlines()
    assert header.startswith('cell,class,score,centroid_x_px')
    for name in ('labels', 'classes'):
        assert not tifffile.imread(tmp_path / f'cut_{name}.tif').any()


def torn_stream():
    yield make_cells(draw_masks())
    raise OSError('the source is gone')


@pytest.mark.parametrize(
    ('stream', 'error'),
    [
        (torn_stream(), OSError),
        ([make_cells(draw_masks()), make_cells(draw_masks(), labels=[9] * 9)], ValueError),  # of a writer
    ],
)
def test_a_failure_half_way_leaves_older_files_and_no_new_one(tmp_path, stream, error):
    (tmp_path / 'cut.csv').write_text('older')
    with pytest.raises(error):
        export(tmp_path, stream)
    assert [path.name for path in tmp_path.iterdir()] == ['cut.csv']
    assert (tmp_path / 'cut.csv').read_text() == 'older'


def test_the_image_is_not_read_for_formats_without_measurements(tmp_path):
    source = make_source()
    export_cells([make_cells(draw_masks())], source, tmp_path, 'cut', ['labels', 'coco'], CLASSES)
    assert source.windows_read == []


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="unknown format 'png': choose from overlay, labels, coco, geojson, csv"):
        export(tmp_path / 'out', [], formats=['csv', 'png'])
    assert not (tmp_path / 'out').exists()
