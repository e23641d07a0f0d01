from cellseg_mm.utils import markdown_table


def test_columns_are_aligned():
    table = markdown_table(['name', 'value'], [['a|b', 0.12345], ['longer', float('nan')], ['c', None], ['d', 7]])
    assert table.splitlines() == [
        '| name   | value |',
        '|--------|------:|',
        r'| a\|b   | 0.123 |',
        '| longer |       |',
        '| c      |       |',
        '| d      |     7 |',
    ]
