from collections import Counter

from cellseg_mm.evaluation import average_precision


def score_results(results: list, ground_truth: dict) -> tuple:
    """Average precision of masks, without a cap on detections and with a cap of 100 for each image and class.

    Args:
        results (list[dict]): Results of a submission without problems.
        ground_truth (dict): COCO content.

    Returns:
        tuple: Rows (name, AP50, AP50 capped, mAP, mAP capped) of all classes and of each class, nan without ground
        truth; and the largest number of detections of one class in an image.
    """
    counts = Counter((entry['image_id'], entry['category_id']) for entry in results)
    largest = max(counts.values(), default=0)
    caps = (100, max(largest, 101))
    precision = average_precision(ground_truth, results, 'segm', max_dets=caps)
    classes = [category['name'] for category in ground_truth['categories']]
    names = [('all classes', None), *((name, label) for label, name in enumerate(classes))]
    columns = [(thr, cap) for thr in (0.5, None) for cap in caps[::-1]]
    rows = [[name, *(precision.mean(cap, thr, label) for thr, cap in columns)] for name, label in names]
    return rows, largest
