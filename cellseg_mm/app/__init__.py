"""The app, a page in the browser: see the cells of an image, correct them, and teach the model.

Gradio is an optional requirement (requirements-app.txt), so nothing else imports this package.
"""

from .page import build_app, serve
from .segmented import LOWEST_SCORE, choose, count_rows, segment

__all__ = ['LOWEST_SCORE', 'build_app', 'choose', 'count_rows', 'segment', 'serve']
