#!/usr/bin/env python3
"""Draw synthetic H&E-like tissue with labelled cells, in the course task's layout with all its peculiarities."""

from cellseg_mm.arguments import at_least, tool_parser
from cellseg_mm.datasets import make_sample_data
from cellseg_mm.utils import one_line_errors, output_folder


@one_line_errors
def main() -> None:
    parser = tool_parser(__doc__, 'python tools/make_sample_data.py data/sample --images 80 --seed 1')
    parser.add_argument('out', type=output_folder, help='folder to write train/, test/ and test_release/ into')
    parser.add_argument(
        '--images', type=int, default=40, help='number of labelled images, a quarter of them for test (default: 40)'
    )
    parser.add_argument('--size', type=int, default=256, help='height and width of most images in px (default: 256)')
    parser.add_argument('--seed', type=at_least(0), default=0, help='random seed (default: 0)')
    args = parser.parse_args()
    make_sample_data(args.out, args.images, args.size, args.seed)
    print(f'written to {args.out}; next: python tools/prepare_data.py {args.out} --out data/cells')


if __name__ == '__main__':
    main()
