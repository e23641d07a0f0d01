"""One drawn picture as TIFF, OME-Zarr and DICOM, through the same detector, in every format: the cells are where they
were drawn, to half a pixel."""

import json
import shutil

import anndata
import cv2
import geopandas
import numpy as np
import pytest
import shapely
import tifffile
import torch
from conftest import read_json
from skimage.measure import label, regionprops
from written_slides import write_dicom, write_ome_zarr

from cellseg_mm import CellInferencer
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.images import open_image
from cellseg_mm.inference.predict_files import FilePredictor
from cellseg_mm.structures import Cells, encode_instances

HEIGHT, WIDTH, PITCH = 512, 1024, 40
PIXEL_SIZE = 0.25


def draw_cells() -> tuple:
    """(H, W, 3) uint8 RGB with dark ellipses on pink, and their (N, 2) centroids in px from the corner."""
    rng, mask = np.random.default_rng(0), np.zeros((HEIGHT, WIDTH), np.uint8)
    for y in range(PITCH // 2, HEIGHT - PITCH // 2, PITCH):
        for x in range(PITCH // 2, WIDTH - PITCH // 2, PITCH):
            centre = (np.array([x, y]) + rng.integers(-7, 8, 2)).tolist()
            cv2.ellipse(mask, centre, rng.integers(6, 12, 2).tolist(), rng.uniform(0, 180), 0, 360, 1, cv2.FILLED)
    image = np.where(mask[..., None], (70, 50, 140), (230, 170, 200)).astype(np.uint8)
    return image, np.array([region.centroid[::-1] for region in regionprops(label(mask))]) + 0.5


IMAGE, CENTROIDS = draw_cells()


def find_dark(image: np.ndarray) -> Cells:
    """Each dark spot of an image as a cell."""
    ids = label(image[..., 0] < 150).astype(np.int32)
    count = int(ids.max())
    return Cells.from_codes(encode_instances(ids, count), [0] * count, [0.9] * count, *ids.shape)


def write_tiff(path):
    options = dict(photometric='rgb', tile=(128, 128), compression='zlib')
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(IMAGE, subifds=1, metadata=dict(PhysicalSizeX=PIXEL_SIZE, PhysicalSizeY=PIXEL_SIZE), **options)
        file.write(cv2.resize(IMAGE, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA), **options)
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('slides')


@pytest.fixture(scope='module', params=['tiff', 'ome-zarr 0.4', 'ome-zarr 0.5', 'ome-zarr zip', 'dicom'])
def slide(request, folder):
    kind = request.param
    if kind == 'tiff':
        return write_tiff(folder / 'x.ome.tif')
    if kind == 'dicom':
        return write_dicom(folder / '1.2.3', IMAGE, PIXEL_SIZE, add_levels=True)
    planes, version = IMAGE.transpose(2, 0, 1), '0.4' if kind.endswith('0.4') else '0.5'
    path = write_ome_zarr(folder / f'{kind}.zarr', planes, 'cyx', version, PIXEL_SIZE)
    return folder / shutil.make_archive(str(path), 'zip', path) if kind.endswith('zip') else path


@pytest.fixture(scope='module')
def checkpoints(tiny_checkpoint, tmp_path_factory):
    """Checkpoints by the pixel size of their training images."""
    paths = {None: tiny_checkpoint}
    for size in (0.5, 0.2):
        content, paths[size] = read_checkpoint(str(tiny_checkpoint)), tmp_path_factory.mktemp('sized') / 'x.pth'
        content['meta']['cfg'] += f'\npixel_size = {size}\n'
        torch.save(content, paths[size])
    return paths


@pytest.mark.parametrize('training', [None, 0.5, 0.2])
def test_cells_are_where_they_were_drawn(slide, training, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(CellInferencer, '_detect', lambda self, images, _: [find_dark(image) for image in images])
    detector = CellInferencer(checkpoints[training])
    source = open_image(slide)
    assert (source.width, source.height, source.pixel_size) == (WIDTH, HEIGHT, PIXEL_SIZE)
    assert detector.size_factor(source) == (PIXEL_SIZE / training if training else 1)
    formats = ['labels', 'geojson', 'geoparquet', 'anndata']
    predictor = FilePredictor(detector, tmp_path, formats, tile_options=detector.tiling())
    _, failed = predictor.predict([slide], ['x'])
    assert not failed
    cells, table = anndata.read_h5ad(tmp_path / 'x.h5ad'), geopandas.read_parquet(tmp_path / 'x.parquet')
    features = read_json(tmp_path / 'x.geojson')['features']
    outlines = shapely.from_geojson([json.dumps(feature['geometry']) for feature in features])
    regions = regionprops(tifffile.imread(tmp_path / 'x_labels.tif'))
    found = dict(
        anndata=cells.obsm['spatial'],
        geoparquet=shapely.get_coordinates(table.geometry.centroid),
        geojson=shapely.get_coordinates(shapely.centroid(outlines)),
        labels=np.array([region.centroid[::-1] for region in regions]) + 0.5,
    )
    order, half_pixel = np.lexsort(CENTROIDS.T), 0.5 * max(1, (training or 0) / PIXEL_SIZE)  # of what the detector saw
    for name, places in found.items():
        assert places == pytest.approx(found['anndata'], abs=1e-6), name
        distances = np.linalg.norm(places[:, None] - CENTROIDS[order], axis=2)
        assert len(places) == len(CENTROIDS) and len(set(distances.argmin(axis=1))) == len(CENTROIDS)
        assert distances.min(axis=1).max() < half_pixel, name
        assert np.abs((places - CENTROIDS[order][distances.argmin(axis=1)]).mean(axis=0)).max() < 0.1, name
    microns = cells[:, ['centroid_x_um', 'centroid_y_um']].X
    assert microns == pytest.approx(cells.obsm['spatial'] * PIXEL_SIZE, abs=1e-3)
