from .measurements import measure_cells
from .outlines import outline_cells
from .stream import FORMATS, export_cells
from .summary import summarise_counts, write_summary

__all__ = ['FORMATS', 'export_cells', 'measure_cells', 'outline_cells', 'summarise_counts', 'write_summary']
