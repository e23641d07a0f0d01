from .measurements import measure_cells
from .output_files import remove_output
from .stream import FORMATS, check_formats, check_outputs, export_cells
from .summary import summarise_counts, write_summary
from .trace_outlines import trace_outlines

__all__ = [
    'FORMATS',
    'check_formats',
    'check_outputs',
    'export_cells',
    'measure_cells',
    'remove_output',
    'summarise_counts',
    'trace_outlines',
    'write_summary',
]
