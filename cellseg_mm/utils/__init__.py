from .config import (
    ConfigOptions,
    diff_configs,
    evaluators,
    inner_dataset_configs,
    load_config,
    parse_config_text,
    scored_dataset,
)
from .cpu_time import cpu_seconds
from .digest import check_digest, digest_file
from .errors import UserError, one_line_errors
from .files import output_file, output_folder, printable, read_json, write_atomically, write_json, write_plot
from .locks import claimed, locked, remove_partial
from .memory import keep_freed_memory, paused_garbage_collection, peak_mib
from .project import PROJECT_ROOT
from .recent import Recent
from .table import markdown_table, read_table

__all__ = [
    'PROJECT_ROOT',
    'ConfigOptions',
    'Recent',
    'UserError',
    'check_digest',
    'claimed',
    'cpu_seconds',
    'diff_configs',
    'digest_file',
    'evaluators',
    'inner_dataset_configs',
    'keep_freed_memory',
    'load_config',
    'locked',
    'markdown_table',
    'one_line_errors',
    'output_file',
    'output_folder',
    'parse_config_text',
    'paused_garbage_collection',
    'peak_mib',
    'printable',
    'read_json',
    'read_table',
    'remove_partial',
    'scored_dataset',
    'write_atomically',
    'write_json',
    'write_plot',
]
