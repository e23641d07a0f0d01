from .ablation import plot_ablation
from .cell_visualizer import CellVisualizer
from .curves import plot_curves, read_scalars, validation_losses
from .density_plot import plot_density
from .overlay import Overlay, draw_cells

__all__ = [
    'CellVisualizer',
    'Overlay',
    'draw_cells',
    'plot_ablation',
    'plot_curves',
    'plot_density',
    'read_scalars',
    'validation_losses',
]
