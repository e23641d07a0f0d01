#!/usr/bin/env python3
"""Find the cells in images: outlines, label images, COCO JSON, GeoJSON for QuPath, a table, and counts.

Everything that the model needs comes from the checkpoint. The score threshold is the one that validation chose. A
file that cannot be read is one line, the others go on, and the exit status is 2 in the end.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, broadcast_object_list, get_dist_info, init_dist, is_main_process
from tqdm import tqdm

from cellseg_mm import CellInferencer
from cellseg_mm.engine import run_setup
from cellseg_mm.export import FORMATS, export_cells, write_summary
from cellseg_mm.inference import find_channel_order, open_image, read_overview
from cellseg_mm.inference.input_files import find_images, output_names
from cellseg_mm.utils import UserError, one_line_errors, write_atomically, write_json
from cellseg_mm.visualization import Overlay

ALL_FORMATS = ('overlay', *FORMATS)
OVERLAY_SIDE = 4096  # px; the picture of a larger image is an overview
ORDER_FILES = 4  # from so many the channel order is told


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='of tools/train.py')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='images, folders of images, "quoted patterns"')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument(
        '--formats', default=','.join(ALL_FORMATS), help='of %(default)s (the default), with commas between'
    )
    parser.add_argument('--score-thr', type=float, help='least score of a cell (default: what validation chose)')
    parser.add_argument(
        '--tile',
        action=argparse.BooleanOptionalAction,
        help='all images, or none, tile by tile (default: those that are not of the size of the training images)',
    )
    parser.add_argument('--tile-size', type=int, metavar='PX', help="of a tile's side (default: the model's input)")
    parser.add_argument('--overlap', type=int, metavar='PX', help='of tiles (default: a third, 128 at most)')
    parser.add_argument(
        '--scale',
        type=float,
        help="px of the model's input to a px of the image, in tiles (default: as in training); 2 for images of half "
        "the training images' magnification",
    )
    parser.add_argument(
        '--skip-background',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='pass over tiles that show glass alone (default: yes)',
    )
    parser.add_argument('--pixel-size', type=float, metavar='UM', help="micrometres a px (default: the file's own)")
    parser.add_argument(
        '--channel-order',
        choices=['auto', 'rgb', 'bgr'],
        default='auto',
        help="the files' own order; auto: rgb, unless the checkpoint comes from files with red and blue exchanged: "
        'then it is told from the stain of the cells in the first files',
    )
    parser.add_argument('--config', help="a config in place of the checkpoint's")
    parser.add_argument('--device', help='such as cpu or cuda:1 (default: CUDA where there is one)')
    parser.add_argument('--resume', action='store_true', help='keep the files and tiles that an earlier run finished')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    args = parser.parse_args()
    args.formats = args.formats.split(',')
    unknown = [name for name in args.formats if name not in ALL_FORMATS]
    if unknown:
        raise UserError(f'--formats {unknown[0]}: choose from {",".join(ALL_FORMATS)}')
    if args.pixel_size is not None and not args.pixel_size > 0:
        raise UserError(f'--pixel-size {args.pixel_size}: must be above 0')
    if args.scale is not None and args.tile is False:
        raise UserError('--scale is that of tiles: not with --no-tile')
    if any(Path(text).is_dir() and Path(text).resolve() == args.out.resolve() for text in args.inputs):
        raise UserError(f'--out {args.out}: is a folder of images to read; choose another')
    return args


def start_processes(launcher: str, local_rank: int) -> None:
    """As mmengine's Runner does, which has no part here."""
    run_setup.set_launcher(Config(), launcher, local_rank)
    if launcher != 'none' and torch.cuda.is_available():
        init_dist(launcher)


def say(text: str, file: object = None) -> None:
    """A line above the progress bar."""
    tqdm.write(text, file=file or sys.stdout)


@dataclass(frozen=True)
class Prediction:
    """What all files have in common."""

    args: argparse.Namespace
    detector: CellInferencer
    channel_order: str

    def key(self, path: Path) -> dict:
        """What the cells of a file depend on."""
        args, files = self.args, dict(image=path, checkpoint=Path(self.args.checkpoint))
        stats = {name: file.stat() for name, file in files.items()}
        named = {name: [str(files[name].resolve()), stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
        detector = dict(score_thr=self.detector.score_thr, scale=self.detector.scale, order=self.channel_order)
        return dict(named, **detector, config=args.config)

    def settings(self) -> dict:
        """What the outputs depend on besides."""
        args = self.args
        names = ('formats', 'tile', 'tile_size', 'overlap', 'skip_background', 'pixel_size')
        return {name: getattr(args, name) for name in names}

    def finished(self, path: Path, name: str) -> dict | None:
        """The summary of a file that an earlier run finished with the same settings."""
        try:
            report = json.loads((self.args.out / f'{name}_summary.json').read_text('utf-8'))
            same = report['key'] == self.key(path) and report['settings'] == self.settings()
        except (OSError, ValueError, KeyError):
            return None
        return report['summary'] if same else None

    def run(self, path: Path, name: str, source: object, tiled: bool) -> dict | None:
        """Predict one file and write its outputs; the summary, in the main process or where it works alone."""
        args, detector, start = self.args, self.detector, time.monotonic()
        tiles = args.out / '.tiles' / name
        if not args.resume and is_main_process():
            shutil.rmtree(tiles, ignore_errors=True)
        options = dict(tile_size=args.tile_size, overlap=args.overlap)
        options = {name: value for name, value in options.items() if value} if tiled else {}
        if tiled:
            options['skip_background'] = args.skip_background
        stream = detector.stream(source, tiles, self.key(path), tiled, **options)
        if tiled and not is_main_process():
            return None
        overlay = None
        if 'overlay' in args.formats:
            overview, shrink = read_overview(source, OVERLAY_SIDE)
            overlay = Overlay(overview, detector.classes, shrink)
            stream = drawn(stream, overlay)
        formats = [name for name in args.formats if name != 'overlay']
        summary = export_cells(stream, source, args.out, name, formats, detector.classes, args.pixel_size)
        if overlay:
            _, encoded = cv2.imencode('.png', overlay.picture(f'{path.name}: {summary["cells"]:,} cells')[..., ::-1])
            write_atomically(args.out / f'{name}_overlay.png', encoded.tobytes())
        note = self.note(source, summary, tiled)
        report = dict(key=self.key(path), settings=self.settings(), note=note, seconds=time.monotonic() - start)
        write_json(args.out / f'{name}_summary.json', dict(report, summary=summary))
        shutil.rmtree(tiles, ignore_errors=True)
        counts = ', '.join(f'{label} {entry["cells"]:,}' for label, entry in summary['classes'].items())
        say(f'{path}: {summary["cells"]:,} cells ({counts}); {note}')
        return summary

    def note(self, source: object, summary: dict, tiled: bool) -> str:
        """What was made of a file, in words."""
        size = self.args.pixel_size or source.pixel_size
        parts = [f'{source.width}x{source.height} px', f'{size:.4g} um a px' if size else '', source.note]
        parts.append(f'in tiles at scale {self.detector.scale:.2f}' if tiled else '')
        if not tiled and summary['cells'] >= self.detector.max_cells:
            parts.append('as many as the model gives at once: --tile may find more')
        return '; '.join(part for part in parts if part)


def drawn(stream: Iterable, overlay: Overlay) -> Iterator:
    """The same stream, its cells drawn as they pass."""
    for cells in stream:
        overlay.add(cells)
        yield cells


def choose_order(choice: str, detector: CellInferencer, paths: list) -> str:
    """The channel order of the files, said where it is not plain."""
    if choice != 'auto' or detector.training_order == 'rgb':
        return 'rgb' if choice == 'auto' else choice
    sources = []
    for path in paths[:: -(-len(paths) // ORDER_FILES)]:
        try:
            sources.append(open_image(path))
        except UserError:
            continue  # it will be said when its turn comes
    order, reason = find_channel_order(detector, sources)
    exchanged = 'exchanged in the files, and put right' if order == 'bgr' else 'as they should be'
    if is_main_process():
        say(f'red and blue: {exchanged} ({reason}); --channel-order decides otherwise')
    return order


def predict_all(prediction: Prediction, paths: list, names: list) -> tuple:
    """Predict all files: summaries by file, and the number of files that failed.

    Processes share the files; those in tiles come last, one after another, and processes share the tiles.
    """
    args, (rank, world_size) = prediction.args, get_dist_info()
    summaries, failed, in_tiles = {}, 0, []
    share = list(zip(paths, names, strict=True))[rank::world_size]
    with tqdm(total=len(share), desc='images', unit='image', disable=not is_main_process()) as progress:
        for path, name in share:
            try:
                summary = prediction.finished(path, name) if args.resume else None
                if summary is None:
                    source = open_image(path, prediction.channel_order)
                    if prediction.detector.needs_tiles(source) if args.tile is None else args.tile:
                        in_tiles.append((path, name))
                        continue
                    summary = prediction.run(path, name, source, tiled=False)
                summaries[str(path)] = summary
            except Exception as error:  # whatever it is, it is of one file
                failed += 1
                say_failure(path, error)
            progress.update()
        gathered = [entry for part in all_gather_object(in_tiles) for entry in part]
        progress.total = progress.n + len(gathered)
        for path, name in gathered:
            try:
                source = open_image(path, prediction.channel_order)
                summary = prediction.run(path, name, source, tiled=True)
                if summary:
                    summaries[str(path)] = summary
            except Exception as error:
                say_failure(path, error)
                if world_size > 1:  # the others would wait for this process for ever
                    raise UserError(f'{path}: stopped, for the processes work on it together') from error
                failed += 1
            progress.update()
    parts = all_gather_object((summaries, failed))
    merged = {path: summary for part, _ in parts for path, summary in part.items()}
    return {str(path): merged[str(path)] for path in paths if str(path) in merged}, sum(count for _, count in parts)


def say_failure(path: Path, error: Exception) -> None:
    """One line."""
    text = ' '.join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        text = f'{path}: out of GPU memory; --tile, or a smaller --tile-size, needs less'
    elif not isinstance(error, UserError):
        text = f'{path}: {type(error).__name__}: {text}'
    say(f'error: {text}', sys.stderr)


@one_line_errors
def main() -> None:
    args = parse_args()
    paths = find_images(args.inputs)
    names = output_names(paths)
    start_processes(args.launcher, args.local_rank)
    detector = CellInferencer(args.checkpoint, args.config, args.device, args.score_thr, args.scale)
    if is_main_process():
        print(f'score threshold {detector.score_thr:.2f} ({detector.score_reason})', flush=True)
    order = [choose_order(args.channel_order, detector, paths) if is_main_process() else None]
    broadcast_object_list(order)
    args.out.mkdir(parents=True, exist_ok=True)
    summaries, failed = predict_all(Prediction(args, detector, order[0]), paths, names)
    if is_main_process():
        shutil.rmtree(args.out / '.tiles', ignore_errors=True) if not failed else None
        if summaries:
            overall = write_summary(summaries, args.out)
            print(f'{overall["cells"]:,} cells in {len(summaries)} images, written to {args.out}')
        if failed:
            print(f'{failed} of {len(paths)} files failed, see above', file=sys.stderr)
    if failed:
        sys.exit(2)


if __name__ == '__main__':
    main()
