import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellseg_mm.export import FORMATS
from cellseg_mm.utils import write_json


@dataclass(frozen=True)
class Ledger:
    """What is finished in a folder of outputs: ``NAME_summary.json`` is written when all else of an image is there.

    Outputs of an earlier run under the same name, in formats that are not asked for now, stay if its settings were the
    same, for then the cells are, too; else those that its summary names are removed.

    Args:
        out_dir (Path): The folder.
        formats (Sequence[str]): That are asked for: ``'overlay'``, and those of :func:`export_cells`.
    """

    out_dir: Path
    formats: Sequence

    def finished(self, name: str, settings: dict) -> dict | None:
        """The summary of an image that an earlier run finished with the same settings, if all is there.

        Args:
            name (str): What its results are called.
            settings (dict): What its outputs depend on, besides the formats; of JSON's types.
        """
        summary, formats, same = self._earlier(name, settings)
        done = same and set(formats).issuperset(self.formats)
        return summary if done and all(file.exists() for file in self._outputs(name, self.formats)) else None

    def clear(self, name: str, settings: dict) -> list:
        """Remove what must not stand beside new outputs; the earlier formats that may.

        Args:
            name (str): See :meth:`finished`.
            settings (dict): Of the new outputs.
        """
        _, formats, same = self._earlier(name, settings)
        others = [entry for entry in formats if entry not in self.formats]
        if not same:
            for file in self._outputs(name, others):
                file.unlink(missing_ok=True)
        # last, and before the first new output: a run that is stopped between has no summary
        self._summary_path(name).unlink(missing_ok=True)
        return others if same else []

    def record(self, name: str, report: dict) -> None:
        """Note that an image is done.

        Args:
            name (str): See :meth:`finished`.
            report (dict): Has ``summary``, ``settings`` and ``formats``, all that lie there.
        """
        write_json(self._summary_path(name), report)

    def _summary_path(self, name: str) -> Path:
        return self.out_dir / f'{name}_summary.json'

    def _outputs(self, name: str, formats: Iterable) -> list:
        return [self.out_dir / f'{name}{ending}' for entry in formats for ending in _endings(entry)]

    def _earlier(self, name: str, settings: dict) -> tuple:
        """Of an earlier run that finished an image: its summary, its formats, and whether its settings were these."""
        try:
            report = json.loads(self._summary_path(name).read_text('utf-8'))
            formats = [entry for entry in ('overlay', *FORMATS) if entry in report['formats']]
            return report['summary'], formats, report['settings'] == settings
        except (OSError, ValueError, KeyError, TypeError):
            return None, [], False


def _endings(name: str) -> tuple:
    return ('_overlay.png',) if name == 'overlay' else FORMATS[name].endings
