from .ablation_summary import summarise
from .average_precision import AveragePrecision, average_precision
from .bootstrap import Evidence, gather_evidence, metric_intervals, paired_difference
from .cell_metric import CellMetric
from .coco_results import (
    DumpCocoResults,
    encode_predictions,
    read_ground_truth,
    read_results,
    read_tested,
    select_images,
)
from .instance_scores import (
    PanopticCounts,
    aggregated_jaccard,
    best_score_threshold,
    detection_f1,
    foreground_dice,
    monusac_pq,
    pair_centroids,
    panoptic_counts,
)
from .metrics import class_table, evaluate
from .scene import Scene, make_scene, make_scenes

__all__ = [
    'AveragePrecision',
    'CellMetric',
    'DumpCocoResults',
    'Evidence',
    'PanopticCounts',
    'Scene',
    'aggregated_jaccard',
    'average_precision',
    'best_score_threshold',
    'class_table',
    'detection_f1',
    'encode_predictions',
    'evaluate',
    'foreground_dice',
    'gather_evidence',
    'make_scene',
    'make_scenes',
    'metric_intervals',
    'monusac_pq',
    'pair_centroids',
    'paired_difference',
    'panoptic_counts',
    'read_ground_truth',
    'read_results',
    'read_tested',
    'select_images',
    'summarise',
]
