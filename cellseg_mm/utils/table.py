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
