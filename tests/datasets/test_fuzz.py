"""Files damaged at random: each reader gives a result or a UserError, in a line, and nothing else.

A few seconds here; `make fuzz` goes on for longer. MAT files are left out: scipy's reader can end the process, which
tools/prepare_data.py prints in one line (test_prepare.py).
"""

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written_datasets import EVERY, FORMAT_OF
from written_formats import make_scenes

from cellseg_mm.datasets.formats import find_format
from cellseg_mm.structures import decode_runs
from cellseg_mm.submission import check_submission
from cellseg_mm.utils import UserError

EXAMPLES = int(os.environ.get('FUZZ_EXAMPLES', 40))
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SCENES = make_scenes()
# what text formats stumble over, and bytes of any kind
PIECES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [b'NaN', b'null', b'-1', b'1e999', b'99999999999', b'[', b'}', b'"', b'<', b'&a;', b'\xff\xfe', b'0.5']
    ),
)
# of a file of numbers, which are a header and numbers without end, only the header half of the time
HEADER = 160
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), PIECES), min_size=1, max_size=4)


def damage(content: bytes, edits: list) -> bytes:
    """At each place (a share of the length) so many bytes are replaced by a piece."""
    for place, length, piece in edits:
        start = int(place * len(content))
        content = content[:start] + piece + content[start + length :]
    return content


@pytest.fixture(scope='module')
def written(tmp_path_factory) -> dict:
    """Each format's files on disk."""
    roots = {}
    for name in EVERY:
        roots[name] = tmp_path_factory.mktemp(name)
        EVERY[name][0](roots[name], SCENES)
    return roots


def labels_of(root: Path, suffixes: tuple) -> list:
    return sorted(path for path in root.rglob('*') if path.is_file() and path.suffix in suffixes)


@pytest.mark.parametrize(
    ('name', 'suffixes'),
    [
        ('coco', ('.json',)),
        ('geojson', ('.geojson', '.json')),
        ('monusac', ('.xml',)),
        ('asap', ('.xml',)),
        ('cellpose', ('.tif', '.png')),
        ('task', ('.tif',)),
        ('pannuke', ('.npy',)),
        ('conic', ('.npy', '.csv')),
        ('lizard', ('.csv',)),
        ('monuseg', ('.xml',)),
        ('nuinsseg', ('.tif', '.png')),
        ('dsb2018', ('.png',)),
        ('tnbc', ('.png',)),
        ('roboflow', ('.json',)),
        ('cvat', ('.json',)),
    ],
)
def test_damaged_labels_are_read_or_refused(name, suffixes, written, tmp_path):
    @bounded
    @given(edits=EDITS, which=st.integers(0, 99))
    def run(edits, which):
        root = tmp_path / 'damaged'
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(written[name], root)
        files = labels_of(root, suffixes)
        path = files[which % len(files)]
        content = path.read_bytes()
        size = HEADER if path.suffix == '.npy' and which % 2 else len(content)
        path.write_bytes(damage(content[:size], edits) + content[size:])
        try:
            for sample in find_format(root, FORMAT_OF.get(name, name)).find_samples(root, EVERY[name][1])[0]:
                shape = sample.read_image()[0].shape[:2]
                if sample.source is not None:
                    assert sample.read_instances(shape).layers.shape[1:] == shape
        except UserError as error:
            assert '\n' not in str(error)

    run()


@bounded
@given(
    text=st.one_of(st.text(max_size=30), st.binary(max_size=30)),
    size=st.tuples(st.integers(0, 50), st.integers(0, 50)),
)
def test_run_length_codes_decode_or_raise_a_value_error(text, size):
    try:
        runs = decode_runs([dict(size=list(size), counts=text)])
    except ValueError as error:
        assert str(error).startswith('code 0')
    else:
        assert runs.length.sum() <= size[0] * size[1] and (runs.length > 0).all()
        assert ((runs.start >= 0) & (runs.start + runs.length <= size[0] * size[1])).all()


CODE = dict(size=[4, 5], counts='52201')
ENTRY = json.dumps(dict(image_id=1, category_id=2, bbox=[1, 1, 2, 2], score=0.5, segmentation=CODE)).encode()


@bounded
@given(edits=EDITS, entries=st.integers(1, 3))
def test_damaged_submissions_are_reported(edits, entries):
    content = damage(b'[' + b', '.join([ENTRY] * entries) + b']', edits)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(Path(folder) / 'x.zip', 'w') as archive:
            archive.writestr('test-results.json', content)
        report = check_submission(Path(folder) / 'x.zip', [dict(id=1, file_name='a.tif', height=4, width=5)], 4)
    assert all('\n' not in line for line in report.problems)
