from collections import defaultdict

# Lines shown of each kind of problem.
MAX_LINES = 3


class Findings:
    """Lines by kind; the first few of each kind are shown."""

    def __init__(self) -> None:
        self._lines = defaultdict(list)

    def add(self, kind: str, line: str) -> None:
        self._lines[kind].append(line)

    def shown(self) -> list:
        shown = []
        for kind, lines in self._lines.items():
            shown += lines[:MAX_LINES]
            if len(lines) > MAX_LINES:
                shown.append(f'... and {len(lines) - MAX_LINES:,} more: {kind}')
        return shown


def kind_of(value: object) -> str:
    """JSON's word for the type of a value."""
    kinds = {dict: 'object', list: 'list', str: 'text', bool: 'boolean', type(None): 'null'}
    return kinds.get(type(value), 'number')
