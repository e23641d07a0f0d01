"""The submission of the course task: a zip with ``test-results.json``, the COCO results of all test images, written,
checked and scored.

``test_image_name_to_ids.json`` lists the test images: file_name, id, height and width of each.
"""

from .check import Report, check_submission
from .image_list import check_image_entries, read_image_list
from .score import score_results
from .test_set import write_test_set
from .zip_file import write_submission

__all__ = [
    'Report',
    'check_image_entries',
    'check_submission',
    'read_image_list',
    'score_results',
    'write_submission',
    'write_test_set',
]
