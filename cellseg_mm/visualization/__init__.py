from .cell_visualizer import CellVisualizer
from .curves import plot_curves, read_scalars

__all__ = ['CellVisualizer', 'plot_curves', 'read_scalars']
