from .measurements import measure_cells
from .outlines import outline_cells
from .stream import ENDINGS, FORMATS, export_cells
from .summary import summarise_counts, write_summary

__all__ = ['ENDINGS', 'FORMATS', 'export_cells', 'measure_cells', 'outline_cells', 'summarise_counts', 'write_summary']
