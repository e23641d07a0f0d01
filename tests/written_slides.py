"""An image as DICOM and OME-Zarr, written by programs of others."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile


def write_svs(path: Path, image: np.ndarray, pixel_size: float, levels: tuple = ()) -> Path:
    """An Aperio slide of JPEG tiles with one page for each downsampling; left-over px are dropped."""
    height, width = image.shape[:2]
    description = f'Aperio Image Library v11\n{width}x{height}|AppMag = 40|MPP = {pixel_size}'
    options = dict(photometric='rgb', tile=(256, 256), compression='jpeg', compressionargs=dict(level=98))
    with tifffile.TiffWriter(path) as file:
        for step in (1, *levels):
            size = width // step, height // step
            part = image[: size[1] * step, : size[0] * step]
            file.write(
                cv2.resize(part, size, interpolation=cv2.INTER_AREA), description=description, metadata=None, **options
            )
    return path


def write_dicom(folder: Path, image: np.ndarray, pixel_size: float, add_levels: bool = False) -> Path:
    """The folder of a slide, by wsidicomizer; the image has the same JPEG tiles as that of :func:`write_svs`."""
    wsidicomizer = pytest.importorskip('wsidicomizer')
    from wsidicomizer.sources.tiffslide import TiffSlideSource

    slide = write_svs(folder.with_suffix('.svs'), image, pixel_size)
    wsidicomizer.WsiDicomizer.convert(
        slide, folder, tile_size=256, add_missing_levels=add_levels, preferred_source=TiffSlideSource
    )
    slide.unlink()
    return folder


def write_ome_zarr(
    path: Path, array: np.ndarray, axes: str, version: str, pixel_size: float = 0.25, **metadata
) -> Path:
    """An image with levels of half and a quarter of its size, by ome-zarr; left-over px are dropped.

    Args:
        path (Path): The folder.
        array (ndarray): The axes are those of ``axes``, such as ``'cyx'``; y and x come last.
        axes (str): Names.
        version (str): Of NGFF: ``'0.4'`` is Zarr 2, ``'0.5'`` Zarr 3.
        pixel_size (float): Micrometres a px.
        metadata: Of the image, such as ``omero``.
    """
    writer, zarr = pytest.importorskip('ome_zarr.writer'), pytest.importorskip('zarr', minversion='3')
    from ome_zarr import format as formats

    fmt = dict([('0.4', formats.FormatV04), ('0.5', formats.FormatV05)])[version]()
    kinds = dict(t='time', c='channel')
    described = [
        dict(name=axis, type='space', unit='micrometer') if axis in 'zyx' else dict(name=axis, type=kinds[axis])
        for axis in axes
    ]
    scales = [[pixel_size * step if axis in 'yx' else 1.0 for axis in axes] for step in (1, 2, 4)]
    group = zarr.open_group(str(path), mode='w', zarr_format=2 if version == '0.4' else 3)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        writer.write_multiscale(
            [shrink(array, step) for step in (1, 2, 4)],
            group,
            fmt=fmt,
            axes=described,
            coordinate_transformations=[[dict(type='scale', scale=scale)] for scale in scales],
            storage_options=dict(chunks=tuple(64 if axis in 'yx' else 1 for axis in axes)),
        )
    if version == '0.4':
        group.attrs.update(metadata)
    else:
        group.attrs['ome'] = dict(group.attrs['ome'], **metadata)
    return path


def shrink(array: np.ndarray, step: int) -> np.ndarray:
    """Means of (..., H, W) over blocks of ``step`` px a side."""
    *outer, height, width = (*array.shape[:-2], array.shape[-2] // step, array.shape[-1] // step)
    blocks = array[..., : height * step, : width * step].reshape(*outer, height, step, width, step)
    means = blocks.mean(axis=(-3, -1))
    return (means if array.dtype.kind == 'f' else np.rint(means)).astype(array.dtype)
