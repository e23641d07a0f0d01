#!/usr/bin/env python3
"""Hand a trained model over: weights as safetensors, or the whole detector as ONNX. docs/export.md tells their use."""

import argparse
import hashlib

from mmengine.fileio import put

from cellseg_mm import deploy
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.detector import checkpoint_config, load_detector
from cellseg_mm.utils import UserError, one_line_errors, output_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint')
    parser.add_argument(
        '--out',
        type=output_file('.safetensors', '.onnx'),
        required=True,
        metavar='FILE',
        help='ends in .safetensors: weights, a checkpoint for every tool here; or in .onnx: runs by onnxruntime alone',
    )
    parser.add_argument(
        '--half',
        action='store_true',
        help="weights of .safetensors in half the space, as float16; BatchNorm's statistics stay float32",
    )
    parser.add_argument('--config', help='a config file (default: the config in the checkpoint)')
    args = parser.parse_args()
    if args.half and args.out.suffix == '.onnx':
        raise UserError('--half is for .safetensors; an ONNX file computes in float32')
    return args


@one_line_errors
def main() -> None:
    args = parse_args()
    checkpoint = read_checkpoint(args.checkpoint)
    cfg = checkpoint_config(checkpoint, args.checkpoint, args.config)
    detector = load_detector(cfg, checkpoint, args.checkpoint, args.config)
    notes = deploy.metadata(cfg, checkpoint)
    if args.out.suffix == '.safetensors':
        content = deploy.to_safetensors(detector.state_dict(), notes, args.half)
        kind = f'weights as {"float16" if args.half else "float32"}'
    else:
        deploy.check_traceable(cfg, args.checkpoint)
        content = deploy.to_onnx(detector, notes)
        kind = f'the detector; {deploy.compare(detector, content)}'
    put(content, str(args.out))
    print(f'{args.out}: {len(content) / 1e6:.1f} MB, {kind}; with its config and')
    for key in ('classes', 'mean', 'std', 'channel_order', 'resize', 'operating_point'):
        print(f'  {key}: {notes[key]}')
    print(f'SHA-256 {hashlib.sha256(content).hexdigest()}')


if __name__ == '__main__':
    main()
