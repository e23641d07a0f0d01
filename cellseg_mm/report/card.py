"""The metrics of a model card, from the work dir of its test."""

import json
from pathlib import Path

import safetensors

from cellseg_mm import weights
from cellseg_mm.evaluation.ablation_summary import METRICS
from cellseg_mm.evaluation.bootstrap import CONFIDENCE
from cellseg_mm.utils import UserError, check_digest, markdown_table, parse_config_text

from .run import Run

BEGIN, END = '<!-- metrics {} -->', '<!-- end -->'


def card_metrics(name: str, run: Run) -> str:
    """File, training and metrics of a shipped model, as Markdown.

    Args:
        name (str): One of :func:`cellseg_mm.weights.shipped_models`.
        run (Run): A work dir of tools/test.py alone, see :func:`read_run`.

    Raises:
        UserError: If another file was tested, or there are no metrics; see :func:`cellseg_mm.weights.model_file`.
    """
    path = weights.model_file(name)
    _check_tested(path, run)
    with safetensors.safe_open(path, framework='numpy') as file:
        notes = {key: json.loads(text) for key, text in file.metadata().items()}
    config, point = parse_config_text(notes['config']), notes['operating_point'] or {}
    seed, epochs = config.get('randomness', {}).get('seed'), config.get('train_cfg', {}).get('max_epochs')
    provenance = run.sessions[-1]['provenance'] if run.sessions else {}
    intervals = run.scored.intervals if run.scored else {}
    rows = []
    for metric in (*METRICS, *(f'PQ_{label}' for label in run.classes if len(run.classes) > 1)):
        low, high = intervals.get(metric, (None,) * 3)[1:]
        rows.append([metric, run.metrics[metric], '' if low is None else f'{low:.3f} to {high:.3f}'])
    return '\n'.join(
        [
            f'`{path.name}`: {path.stat().st_size / 1e6:.1f} MB, SHA-256 `{weights.MODELS[name].digest}`; seed {seed}, '
            f'the weights of epoch {point.get("epoch")} of {epochs}.',
            '',
            markdown_table(['metric', 'value', f'{CONFIDENCE} % interval over images'], rows),
            '',
            f'At score {run.metrics["score_thr"]:.2f}, by `tools/test.py` at commit {provenance.get("commit")} '
            f'({provenance.get("device")}).',
        ]
    )


def _check_tested(path: Path, run: Run) -> None:
    if run.metrics is None or run.scalars is not None:
        raise UserError(f'{run.name}: not the work dir of a test alone; test {path} with tools/test.py --work-dir DIR')
    tested = Path(run.config.get('load_from') or 'an unknown file')
    if not tested.is_file() or check_digest(tested) != check_digest(path):
        raise UserError(f'{run.name}: {tested} was tested, not {path}; test this file')


def fill_card(text: str, key: str, content: str) -> str:
    """A page in which the block ``<!-- metrics KEY --> ... <!-- end -->`` has new content.

    Raises:
        UserError: If the page has no such block.
    """
    before, begin, after = text.partition(BEGIN.format(key))
    _, end, after = after.partition(END)
    if not begin or not end:
        raise UserError(f'no block {BEGIN.format(key)} ... {END} in the page')
    return f'{before}{begin}\n{content}\n{end}{after}'
