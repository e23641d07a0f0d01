#!/usr/bin/env python3
"""A default training step of tools/train.py beside a busy process, over a step of the fastest setting without it.

Settings: the default; one thread; and as many threads as cores, which spin (GNU OpenMP's own default) or sleep while
they wait. Seconds are the tool's own, medians of several runs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import print_table
from cpu import ROOT, TRAINED, draw_prepared, step_seconds

CORES = str(os.cpu_count())
SETTINGS = {
    'default': {},
    'one thread': dict(OMP_NUM_THREADS='1'),
    'all cores, spinning': dict(OMP_NUM_THREADS=CORES, OMP_WAIT_POLICY='ACTIVE'),
    'all cores, sleeping': dict(OMP_NUM_THREADS=CORES, OMP_WAIT_POLICY='PASSIVE'),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=TRAINED, help='a path in the project (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=30)
    parser.add_argument('--rounds', type=int, default=3)
    others = [name for name in SETTINGS if name != 'default']
    parser.add_argument(
        '--beside', nargs='*', default=others, choices=others, help='settings to compare (default: all)'
    )
    args = parser.parse_args()
    settings = ['default', *args.beside]
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        data = draw_prepared(Path(folder))
        for _ in range(args.rounds):
            for neighbour in ('quiet', 'busy'):
                other = None
                if neighbour == 'busy':
                    other = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
                for name in settings:
                    found = step_seconds(ROOT, args.config, data, args.steps, SETTINGS[name])
                    seconds.setdefault((name, neighbour), []).append(found)
                if other:
                    other.kill()
                    other.wait()
    medians = {key: statistics.median(found) for key, found in seconds.items()}
    rows = [[name, *(f'{medians[name, neighbour]:.2f}' for neighbour in ('quiet', 'busy'))] for name in settings]
    print_table(['setting', 'quiet s', 'beside a busy process s'], rows)
    fastest = min(medians[name, 'quiet'] for name in settings)
    print(f'ratio {medians["default", "busy"] / fastest:.2f}')


if __name__ == '__main__':
    main()
