from .measurements import measure_cells
from .stream import FORMATS, check_formats, export_cells
from .summary import summarise_counts, write_summary
from .trace_outlines import trace_outlines

__all__ = [
    'FORMATS',
    'check_formats',
    'export_cells',
    'measure_cells',
    'summarise_counts',
    'trace_outlines',
    'write_summary',
]
