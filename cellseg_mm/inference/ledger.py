import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellseg_mm.export import FORMATS, remove_output
from cellseg_mm.utils import write_json


@dataclass(frozen=True)
class Ledger:
    """Which images are finished in a folder of outputs: ``NAME_summary.json`` is written after all others of an image.

    An earlier run may have left outputs under the same name in other formats. They stay if its settings were the same,
    because the cells are then the same; otherwise those that its summary names are removed.

    Args:
        out_dir (Path): The folder.
        formats (Sequence[str]): Formats of this run, of :data:`cellseg_mm.export.FORMATS`.
    """

    out_dir: Path
    formats: Sequence

    def finished(self, name: str, settings: dict) -> dict | None:
        """The summary of an image that an earlier run finished with the same settings, if all its files are there.

        Args:
            name (str): Name of its results.
            settings (dict): What its outputs depend on besides the formats; JSON values.
        """
        summary, formats, same = self._earlier(name, settings)
        done = same and set(formats).issuperset(self.formats)
        return summary if done and all(file.exists() for file in self._outputs(name, self.formats)) else None

    def clear(self, name: str, settings: dict) -> list:
        """Remove earlier outputs of other settings.

        Args:
            name (str): See :meth:`finished`.
            settings (dict): Of the new outputs.

        Returns:
            list[str]: Earlier formats that stay beside the new ones.
        """
        _, formats, same = self._earlier(name, settings)
        others = [entry for entry in formats if entry not in self.formats]
        if not same:
            for path in self._outputs(name, others):
                remove_output(path)
        # last, and before the first new output: a run that stops in between leaves no summary
        self._summary_path(name).unlink(missing_ok=True)
        return others if same else []

    def record(self, name: str, report: dict) -> None:
        """Note that an image is finished.

        Args:
            name (str): See :meth:`finished`.
            report (dict): ``summary``, ``settings`` and ``formats``, which are all that the folder holds of it.
        """
        write_json(self._summary_path(name), report)

    def _summary_path(self, name: str) -> Path:
        return self.out_dir / f'{name}_summary.json'

    def _outputs(self, name: str, formats: Iterable) -> list:
        return [self.out_dir / f'{name}{ending}' for entry in formats for ending in FORMATS[entry].endings]

    def _earlier(self, name: str, settings: dict) -> tuple:
        """Summary and formats of an earlier run that finished an image, and whether it had these settings."""
        try:
            report = json.loads(self._summary_path(name).read_text('utf-8'))
            formats = [entry for entry in FORMATS if entry in report['formats']]
            return report['summary'], formats, report['settings'] == settings
        except (OSError, ValueError, KeyError, TypeError):
            return None, [], False
