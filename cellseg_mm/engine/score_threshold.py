"""The score threshold: the least score of a cell that counts."""

from mmengine.config import Config

from cellseg_mm.models.detector_config import score_floors
from cellseg_mm.utils import UserError, evaluators


def find_score_threshold(checkpoint: dict, score_thr: float | None = None) -> tuple:
    """The score threshold that validation chose, unless another is given.

    Args:
        checkpoint (dict): From :func:`read_checkpoint`; :class:`OperatingPointHook` keeps the threshold in it.
        score_thr (float | None): Another threshold, 0..1.

    Returns:
        tuple: The threshold, and in words where it comes from.
    """
    point = checkpoint.get('meta', {}).get('operating_point')
    if score_thr is not None:
        return score_thr, 'as given'
    if point:
        return point['score_thr'], f'chosen by the validation of epoch {point["epoch"]}'
    return 0.5, 'the default, because no validation came before this checkpoint'


def set_score_threshold(cfg: Config, checkpoint: dict, score_thr: float | None = None) -> None:
    """Test and draw at the score threshold that validation chose, or the given one, and print it.

    Args:
        cfg (Config): Changed in place.
        checkpoint (dict): From :func:`read_checkpoint`.
        score_thr (float | None): Another threshold, 0..1.

    Raises:
        UserError: If the given threshold is below the least score that the model itself returns.
    """
    if score_thr is not None:
        higher = {key: floor for key, floor in score_floors(cfg.model).items() if score_thr < floor}
        if higher:
            options = ' '.join(f'model.{key}={score_thr:g}' for key in higher)
            raise UserError(
                f'--score-thr {score_thr:g}: the model returns no detection below {max(higher.values()):g}; add to '
                f'--cfg-options: {options}'
            )
    score_thr, reason = find_score_threshold(checkpoint, score_thr)
    print(f'score threshold of PQ, AJI, Dice, F1 and pictures: {score_thr:.2f} ({reason})', flush=True)
    for evaluator in evaluators(cfg.test_evaluator):
        if evaluator.type == 'CellMetric':
            evaluator.score_thr = score_thr
    cfg.default_hooks.visualization.score_thr = score_thr
