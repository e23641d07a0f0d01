#!/usr/bin/env python3
"""Print the dotted keys in which two configs differ, one per line. The exit status is 0 if they are equal, 1 if not."""

import sys

from cellseg_mm.arguments import tool_parser
from cellseg_mm.utils import diff_configs, load_config, one_line_errors
from cellseg_mm.utils.config import show_value


@one_line_errors
def main() -> None:
    parser = tool_parser(
        __doc__, 'python tools/diff_configs.py configs/maskrcnn_r50_fpn.py configs/maskrcnn_r50_fpn_cbam.py'
    )
    parser.add_argument('old', metavar='A')
    parser.add_argument('new', metavar='B')
    args = parser.parse_args()
    rows = diff_configs(load_config(args.old).to_dict(), load_config(args.new).to_dict())
    for key, old, new in rows:
        print(f'{key}: {show_value(old)} -> {show_value(new)}')
    sys.exit(1 if rows else 0)


if __name__ == '__main__':
    main()
