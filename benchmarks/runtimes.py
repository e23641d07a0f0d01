"""A detector by this package beside ONNX Runtime and OpenVINO, on the file that tools/deploy.py writes of it.

The image is made of those of data/samples, at the size of the model's input. From pixels in memory to boxes, scores,
labels and masks: ours ends in run-length codes at the image's size, the others in 28x28 probabilities a box. All use
the same number of threads. OpenVINO is an optional package (pip install openvino). By default it computes in bf16 where
the processor can; a second row asks for float32. The last lines compare ours by default with the fastest other way.
"""

import argparse
import functools
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from common import measure, print_table
from mmdet.structures import DetDataSample

from cellseg_mm import deploy
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.detector import checkpoint_config, load_detector
from cellseg_mm.engine.precision import inference_precision
from cellseg_mm.inference.input_files import find_images
from cellseg_mm.utils import keep_freed_memory
from cellseg_mm.weights import find_checkpoint


def tissue(size: int) -> np.ndarray:
    """(size, size, 3) uint8 RGB: the samples side by side, at twice their size, as the shipped models take them."""
    images = [cv2.imread(str(path))[..., ::-1] for path in find_images(['data/samples'])]
    rows = [np.concatenate(images[start : start + 4], axis=1) for start in range(0, len(images) - 3, 4)]
    piece = cv2.resize(np.concatenate(rows), None, fx=2, fy=2)
    repeats = [-(-size // side) for side in piece.shape[:2]]
    return np.ascontiguousarray(np.tile(piece, (*repeats, 1))[:size, :size])


def load(name: str) -> tuple:
    """The config of a model, and a function that makes its detector."""
    path = find_checkpoint(name)
    content = read_checkpoint(path)
    cfg = checkpoint_config(content, path)
    return cfg, content, functools.partial(load_detector, cfg, content, path)


class Ours:
    """The first call makes the detector, in the measured process."""

    def __init__(self, make: object, image: np.ndarray, precision: str) -> None:
        self.make, self.image, self.precision = make, image, precision
        self.detector = None

    @torch.no_grad()
    def __call__(self) -> int:
        if self.detector is None:
            keep_freed_memory()
            self.detector = self.make()
        size = self.image.shape[:2]
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
        pixels = torch.from_numpy(np.ascontiguousarray(self.image[..., ::-1].transpose(2, 0, 1)))
        with inference_precision(self.detector, self.precision):
            found = self.detector.test_step(dict(inputs=[pixels], data_samples=[sample]))[0]
        return len(found.pred_instances.masks)


class OnnxRuntime:
    """The first call makes the session, in the measured process."""

    def __init__(self, file: Path, image: np.ndarray, threads: int) -> None:
        self.file, self.image, self.threads = file, image, threads
        self.session = None

    def __call__(self) -> int:
        if self.session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            self.session = onnxruntime.InferenceSession(str(self.file), options, ['CPUExecutionProvider'])
        return len(self.session.run(None, dict(image=self.image))[0])


class OpenVino:
    """The first call compiles the model, in the measured process."""

    def __init__(self, file: Path, image: np.ndarray, threads: int, precision: str | None) -> None:
        self.file, self.image, self.threads, self.precision = file, image, threads, precision
        self.model = None

    def __call__(self) -> int:
        if self.model is None:
            import openvino

            options = dict(INFERENCE_NUM_THREADS=self.threads, PERFORMANCE_HINT='LATENCY')
            if self.precision:
                options['INFERENCE_PRECISION_HINT'] = self.precision
            self.model = openvino.Core().compile_model(str(self.file), 'CPU', options)
        return len(self.model([self.image])[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='consep-lite0', help='a file or a shipped model (default: %(default)s)')
    parser.add_argument('--size', type=int, default=2000, help='of the input in px (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    image, threads = tissue(args.size), torch.get_num_threads()
    cfg, content, make = load(args.model)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'model.onnx'
        # in a process of its own, because one that has run torch's threads cannot be forked safely
        measure(lambda: file.write_bytes(deploy.to_onnx(make(), deploy.metadata(cfg, content))))
        ways = {
            'ours, default': Ours(make, image, 'auto'),
            'ours, fp32': Ours(make, image, 'fp32'),
            'ONNX Runtime': OnnxRuntime(file, image, threads),
            'OpenVINO, default': OpenVino(file, image, threads, None),
            'OpenVINO, fp32': OpenVino(file, image, threads, 'f32'),
        }
        found = {}
        for name, way in ways.items():
            try:
                found[name] = measure(way, repeats=args.repeats, warm_up=1)
            except RuntimeError:
                print(f'{name}: failed, see above; left out')
    print_table(['way', 'seconds', 'MiB'], [[name, f'{s:.2f}', f'{mib:.0f}'] for name, (s, mib) in found.items()])
    ours = found['ours, default']
    others = [value for name, value in found.items() if not name.startswith('ours')]
    print(f'memory_ratio {min(mib for _, mib in others) / ours[1]:.2f}')
    print(f'ratio {min(seconds for seconds, _ in others) / ours[0]:.2f}')


if __name__ == '__main__':
    main()
