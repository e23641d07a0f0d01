#!/usr/bin/env python3
"""Write a trained model as safetensors (the weights) or ONNX (the whole detector). See docs/deploy.md for their use."""

import argparse
import hashlib

from mmengine.fileio import put

from cellseg_mm import deploy
from cellseg_mm.arguments import add_config_option, tool_parser
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.detector import checkpoint_config, load_detector
from cellseg_mm.utils import UserError, one_line_errors, output_file
from cellseg_mm.weights import find_checkpoint


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'python tools/deploy.py work_dirs/demo/best_*.pth --out model.onnx')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a file or a shipped model')
    parser.add_argument(
        '--out',
        type=output_file('.safetensors', '.onnx'),
        required=True,
        metavar='FILE',
        help='.safetensors: the weights, a checkpoint for all tools; .onnx: the detector, which needs only onnxruntime',
    )
    parser.add_argument(
        '--half',
        action='store_true',
        help="store the weights of .safetensors as float16, in half the space; BatchNorm's statistics stay float32",
    )
    add_config_option(parser)
    args = parser.parse_args()
    if args.half and args.out.suffix == '.onnx':
        raise UserError('--half is for .safetensors; an ONNX file computes in float32')
    return args


@one_line_errors
def main() -> None:
    args = parse_args()
    args.checkpoint = find_checkpoint(args.checkpoint)
    checkpoint = read_checkpoint(args.checkpoint)
    cfg = checkpoint_config(checkpoint, args.checkpoint, args.config)
    if args.out.suffix == '.onnx':
        deploy.check_traceable(cfg, args.config or args.checkpoint)
    detector = load_detector(cfg, checkpoint, args.checkpoint, args.config)
    notes = deploy.metadata(cfg, checkpoint)
    if args.out.suffix == '.safetensors':
        content = deploy.to_safetensors(detector.state_dict(), notes, args.half)
        kind = f'weights as {"float16" if args.half else "float32"}'
    else:
        content = deploy.to_onnx(detector, notes)
        kind = f'the detector; {deploy.compare(detector, content)}'
    put(content, str(args.out))
    print(f'{kind}, with the config and')
    for key in ('classes', 'mean', 'std', 'channel_order', 'resize', 'operating_point'):
        print(f'  {key}: {notes[key]}')
    print(f'SHA-256 {hashlib.sha256(content).hexdigest()}')
    print(f'written to {args.out} ({len(content) / 1e6:.1f} MB)')


if __name__ == '__main__':
    main()
