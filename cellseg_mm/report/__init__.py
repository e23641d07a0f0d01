from .page import build_page

__all__ = ['build_page']
