#!/usr/bin/env python3
"""Find cells in real tissue with the shipped model; then draw tissue, prepare it, train, test, plot and report.

Each step prints its command.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from cellseg_mm.arguments import tool_parser
from cellseg_mm.utils import UserError, one_line_errors, output_folder
from cellseg_mm.weights import DEFAULT, shipped_models

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/demo/maskrcnn_lite0_fpn_cbam.py'


def run(title: str, tool: str, *arguments: object) -> float:
    """Run one tool with its output shown; return its seconds."""
    print(f'\n=== {title}: python tools/{tool}.py {" ".join(map(str, arguments))}', flush=True)
    start = time.monotonic()
    if subprocess.run([sys.executable, ROOT / 'tools' / f'{tool}.py', *map(str, arguments)]).returncode:
        raise UserError(f'the demo stopped at tools/{tool}.py; see its message above')
    return time.monotonic() - start


def show_real_cells(out: Path) -> None:
    """Outline the cells of data/samples with the shipped model, if this version has one."""
    if DEFAULT not in shipped_models():
        print(f'real tissue left out: the model {DEFAULT} is not part of this version yet', flush=True)
        return
    seconds = run('real tissue', 'predict', ROOT / 'data/samples', '--out', out, '--formats', 'overlay')
    print(f'cells of real tissue outlined in {seconds:.0f} seconds: {out}/', flush=True)


@one_line_errors
def main() -> None:
    parser = tool_parser(__doc__, 'python tools/demo.py')
    parser.add_argument(
        '--work-dir',
        type=output_folder,
        metavar='DIR',
        default=ROOT / 'work_dirs/demo',
        help='folder of the run (default: work_dirs/demo)',
    )
    parser.add_argument(
        '--data',
        type=output_folder,
        metavar='DIR',
        default=ROOT / 'data/demo',
        help='folder of the prepared data set; demo_sample goes beside it (default: data/demo)',
    )
    args = parser.parse_args()
    show_real_cells(args.work_dir / 'real_cells')
    sample, work_dir, shown = args.data.with_name('demo_sample'), args.work_dir, args.work_dir / 'predictions'
    data_option = ['--cfg-options', f'data_root={args.data}']
    for old in [*work_dir.glob('best_*.pth'), *shown.glob('*.png')]:
        old.unlink()  # of an earlier demo
    seconds = {
        'draw tissue': run('1/6 draw tissue', 'make_sample_data', sample, '--images', 64, '--size', 256),
        'prepare': run('2/6 prepare', 'prepare_data', sample, '--out', args.data, '--val-fraction', 0.125),
        'train': run('3/6 train', 'train', CONFIG, '--work-dir', work_dir, *data_option),
    }
    checkpoint = next(work_dir.glob('best_*.pth'))
    test = ['test', CONFIG, checkpoint, '--work-dir', work_dir, '--show-dir', shown]
    test += ['--out', work_dir / 'predictions.json', *data_option]
    seconds['test'] = run('4/6 test', *test)
    seconds['plot'] = run('5/6 plot', 'plot_curves', work_dir)
    seconds['report'] = run('6/6 report', 'report', work_dir)

    metrics = json.loads((work_dir / 'test_metrics.json').read_text('utf-8'))
    print('\n=== done')
    print('test split: images of drawn tissue that were never trained on')
    print(f'segm AP50 {metrics["cells/segm_AP50_max1000"]:.3f}')
    print(f'segm mAP {metrics["cells/segm_mAP_max1000"]:.3f}')
    print(f'bbox AP50 {metrics["cells/bbox_AP50_max1000"]:.3f}')
    print(f'PQ {metrics["cells/PQ"]:.3f} at score {metrics["cells/score_thr"]:.2f}, which validation chose')
    print('seconds: ' + ', '.join(f'{name} {value:.0f}' for name, value in seconds.items()))
    print(f'curves, training and validation loss in one plot: {work_dir / "curves.png"}')
    print(f'ground truth beside predictions: {shown}/')
    print(f'checkpoint: {checkpoint}')
    print(f'report, for a browser: {work_dir / "report.html"}')


if __name__ == '__main__':
    main()
