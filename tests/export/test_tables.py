"""The tables that other programs read, read by these programs."""

import importlib.util
import json

import anndata
import geopandas
import numpy as np
import pyarrow.parquet
import pytest
import shapely
from conftest import read_csv, read_json
from drawn_cells import CLASSES, HEIGHT, WIDTH, draw_masks, make_cells, make_source

from cellseg_mm.export import check_formats, export_cells, writer
from cellseg_mm.utils import UserError

NAMES = ['centroid_x_px', 'centroid_y_px', 'area_px', 'perimeter_px']
NAMES += ['centroid_x_um', 'centroid_y_um', 'area_um2', 'perimeter_um']
NAMES += ['eccentricity', 'solidity', 'hematoxylin_od', 'eosin_od', 'intensity']


def export(out, stream):
    formats = ['geojson', 'csv', 'geoparquet', 'anndata']
    return export_cells(stream, make_source(pixel_size=0.5), out, 'cut', formats, CLASSES)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    out = tmp_path_factory.mktemp('exported')
    export(out, [make_cells(draw_masks())])
    return out


def test_geopandas_reads_the_outlines_classes_and_measurements_of_the_other_formats(exported):
    table = geopandas.read_parquet(exported / 'cut.parquet')
    assert list(table.columns) == ['cell', 'class', 'score', *NAMES, 'geometry'] and table.crs is None
    rows, features = read_csv(exported / 'cut.csv'), read_json(exported / 'cut.geojson')['features']
    assert table['cell'].tolist() == [int(row['cell']) for row in rows] == list(range(1, 10))
    assert table['class'].tolist() == [row['class'] for row in rows]
    assert table['class'].cat.categories.tolist() == list(CLASSES)
    for name in ('score', *NAMES):
        assert table[name].to_numpy() == pytest.approx([float(row[name]) for row in rows], abs=5.1e-5)
    assert table.geometry.is_valid.all()
    for outline, mask, feature in zip(table.geometry, draw_masks(), features, strict=True):
        assert shapely.equals_exact(outline, shapely.from_geojson(json.dumps(feature['geometry'])))
        assert outline.area == mask.sum()
    centroids = table.geometry.centroid
    assert table['centroid_x_px'].to_numpy() == pytest.approx(centroids.x.to_numpy())
    assert table['centroid_y_px'].to_numpy() == pytest.approx(centroids.y.to_numpy())


def test_the_metadata_are_those_of_geoparquet_1_1(exported):
    """By its specification: version, primary_column, columns; encoding and geometry_types of each."""
    meta = json.loads(pyarrow.parquet.read_schema(exported / 'cut.parquet').metadata[b'geo'])
    assert meta.keys() == {'version', 'primary_column', 'columns'} and meta['version'] == '1.1.0'
    column = meta['columns'][meta['primary_column']]
    assert column['encoding'] == 'WKB' and column['geometry_types'] == [] and column['crs'] is None
    table = geopandas.read_parquet(exported / 'cut.parquet')
    assert column['orientation'] == 'counterclockwise'
    polygons = shapely.get_parts(table.geometry.to_numpy())
    assert shapely.is_ccw(shapely.get_exterior_ring(polygons)).all()


def test_anndata_reads_measurements_classes_and_places(exported):
    cells, rows = anndata.read_h5ad(exported / 'cut.h5ad'), read_csv(exported / 'cut.csv')
    assert cells.shape == (9, len(NAMES)) and cells.X.dtype == np.float32
    assert cells.var_names.tolist() == NAMES
    assert cells.obs_names.tolist() == [row['cell'] for row in rows] and cells.obs_names.is_unique
    assert cells.obs['class'].tolist() == [row['class'] for row in rows]
    assert cells.obs['class'].cat.categories.tolist() == list(CLASSES)
    assert cells.obs['score'].to_numpy() == pytest.approx([float(row['score']) for row in rows], abs=5.1e-5)
    expected = np.array([[float(row[name]) for name in NAMES] for row in rows])
    assert np.allclose(cells.X, expected, rtol=1e-6, atol=5.1e-5)
    assert cells.obsm['spatial'].dtype == np.float64
    assert np.allclose(cells.obsm['spatial'], expected[:, :2], rtol=0, atol=5.1e-5)
    assert cells.uns['image'] == dict(file='image 1.tif', width=WIDTH, height=HEIGHT)


def test_anndata_writes_and_joins_what_it_read(exported, tmp_path):
    cells = anndata.read_h5ad(exported / 'cut.h5ad')
    cells.write_h5ad(tmp_path / 'again.h5ad')
    again = anndata.read_h5ad(tmp_path / 'again.h5ad', backed='r')
    assert np.array_equal(again.X[:], cells.X) and again.obs.equals(cells.obs)
    joined = anndata.concat(dict(a=cells, b=cells[:4]), index_unique='-')
    assert len(joined) == 13 and joined.obs_names[9] == '1-b' and joined.obsm['spatial'].shape == (13, 2)


def same_tables(folder, other):
    tables = [geopandas.read_parquet(one / 'cut.parquet') for one in (folder, other)]
    cells = [anndata.read_h5ad(one / 'cut.h5ad') for one in (folder, other)]
    assert tables[0].equals(tables[1]) and np.array_equal(cells[0].X, cells[1].X)
    assert cells[0].obs.equals(cells[1].obs) and np.array_equal(*(one.obsm['spatial'] for one in cells))


@pytest.mark.parametrize('parts', [[9], [2, 0, 6, 1], [1] * 9])
def test_blocks_do_not_depend_on_the_parts(exported, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, 'BLOCK', 4)
    cells, ends = make_cells(draw_masks()), np.cumsum(parts)
    export(tmp_path, (cells.select(np.arange(end - size, end)) for size, end in zip(parts, ends, strict=True)))
    same_tables(tmp_path, exported)
    file = pyarrow.parquet.ParquetFile(tmp_path / 'cut.parquet')
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [4, 4, 1]


def test_an_image_without_cells_gives_tables_without_rows(tmp_path):
    export(tmp_path, [])
    table, cells = geopandas.read_parquet(tmp_path / 'cut.parquet'), anndata.read_h5ad(tmp_path / 'cut.h5ad')
    assert len(table) == 0 and list(table.columns) == ['cell', 'class', 'score', *NAMES, 'geometry']
    assert cells.shape == (0, len(NAMES)) and cells.obsm['spatial'].shape == (0, 2)


def test_a_failure_half_way_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, 'BLOCK', 4)

    def torn():
        yield make_cells(draw_masks())
        raise OSError('the source is gone')

    with pytest.raises(OSError, match='the source is gone'):
        export(tmp_path, torn())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('name', 'package'), [('geoparquet', 'pyarrow'), ('anndata', 'h5py')])
def test_a_missing_package_is_named_before_anything_is_written(name, package, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda one, *rest: None if one == package else found(one, *rest))
    with pytest.raises(UserError, match=rf'format {name}: needs the package {package}; run `make setup EXTRAS=tables`'):
        export_cells([], make_source(), tmp_path / 'out', 'cut', [name], CLASSES)
    assert not (tmp_path / 'out').exists()
    check_formats(['csv'])


@pytest.mark.interop
def test_squidpy_finds_the_neighbours_of_cells(exported):
    squidpy = pytest.importorskip('squidpy')
    cells = anndata.read_h5ad(exported / 'cut.h5ad')
    squidpy.gr.spatial_neighbors(cells, coord_type='generic', n_neighs=2)
    distances = cells.obsp['spatial_distances'].toarray()
    between = np.linalg.norm(cells.obsm['spatial'][:, None] - cells.obsm['spatial'], axis=2)
    assert (distances > 0).sum(axis=1).min() >= 2 and np.allclose(distances[distances > 0], between[distances > 0])
