import csv
import io
from pathlib import Path

from .errors import UserError


def markdown_table(header: list, rows: list) -> str:
    """A Markdown table with aligned columns, the first to the left and the others to the right.

    Args:
        header (list[str]): C titles.
        rows (list[list]): Rows of C values; a float is shown to 3 places, nan and None as an empty cell.
    """
    cells = [[_text(value) for value in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        first, *others = zip(row, widths, strict=True)
        aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        lines.append('| ' + ' | '.join(aligned) + ' |')
    rule = ['-' * widths[0] + '-', *('-' * (width + 1) + ':' for width in widths[1:])]
    lines.insert(1, '|' + '-' + '|'.join(rule) + '|')
    return '\n'.join(lines)


def _text(value: object) -> str:
    if value is None or value != value:
        return ''
    return f'{value:.3f}' if isinstance(value, float) else str(value).replace('|', r'\|')


def read_table(path: Path, *columns: str) -> list:
    """The rows of a CSV file with a header, as dicts of text; names of columns may be in any case.

    Args:
        path (Path): The file.
        columns (str): Names in lower case that the header must have.

    Raises:
        UserError: If it cannot be read or lacks a column, or a row has another number of fields than the header.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text('utf-8-sig'))))
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except (ValueError, csv.Error) as error:
        raise UserError(f'{path}: is not a CSV file ({error})') from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(
            f'{path}: has no column {missing[0]}; its first row must name the columns {" and ".join(columns)}, '
            'separated by commas'
        )
    table = []
    for number, row in enumerate(rows[1:], start=2):
        if row and len(row) != len(header):
            raise UserError(f'{path}: row {number} has {len(row)} fields, the header {len(header)}')
        table += [dict(zip(header, (field.strip() for field in row), strict=True))] if row else []
    return table
