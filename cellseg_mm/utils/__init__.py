from .config import diff_configs, load_config, parse_config_text
from .errors import UserError, one_line_errors

__all__ = ['UserError', 'diff_configs', 'load_config', 'one_line_errors', 'parse_config_text']
