"""The score from which on a cell counts."""

from mmengine.config import Config

from cellseg_mm.utils import UserError, evaluators


def operating_threshold(checkpoint: dict, score_thr: float | None = None) -> tuple:
    """The score threshold that validation chose, unless another is given.

    Args:
        checkpoint (dict): Of :func:`read_checkpoint`; :class:`OperatingPointHook` keeps the threshold in it.
        score_thr (float | None): Another one, 0..1.

    Returns:
        tuple: The threshold, and in words where it is from.
    """
    point = checkpoint.get('meta', {}).get('operating_point')
    if score_thr is not None:
        return score_thr, 'as given'
    if point:
        return point['score_thr'], f'chosen by the validation of epoch {point["epoch"]}'
    return 0.5, 'the checkpoint carries none, for no validation came before it'


def set_operating_threshold(cfg: Config, checkpoint: dict, score_thr: float | None = None) -> None:
    """Test and draw at the score threshold that validation chose, and say which.

    Args:
        cfg (Config): Changed in place.
        checkpoint (dict): See :func:`operating_threshold`.
        score_thr (float | None): Likewise.

    Raises:
        UserError: If the model itself returns nothing as low as the given one.
    """
    if score_thr is not None:
        lowest = ((cfg.model.get('test_cfg') or {}).get('rcnn') or {}).get('score_thr', 0)
        if score_thr < lowest:
            raise UserError(
                f'--score-thr {score_thr:g}: the model returns no detection below {lowest:g}; add to --cfg-options: '
                f'model.test_cfg.rcnn.score_thr={score_thr:g}'
            )
    score_thr, reason = operating_threshold(checkpoint, score_thr)
    print(f'score threshold of PQ, AJI, Dice, F1 and pictures: {score_thr:.2f} ({reason})', flush=True)
    for evaluator in evaluators(cfg.test_evaluator):
        if evaluator.type == 'CellMetric':
            evaluator.score_thr = score_thr
    cfg.default_hooks.visualization.score_thr = score_thr
