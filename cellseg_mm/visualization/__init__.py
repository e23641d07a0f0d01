from .ablation import plot_ablation
from .cell_visualizer import CellVisualizer
from .curves import plot_curves, read_scalars

__all__ = ['CellVisualizer', 'plot_ablation', 'plot_curves', 'read_scalars']
