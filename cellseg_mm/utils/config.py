"""Reading and comparing configs."""

import argparse
import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config, DictAction

from .errors import UserError

# Keys of files and folders, whose values are kept as they are. max_per_img does not match.
PATH_KEY = re.compile(r'(?:root|dir|file|path|prefix|load_from|checkpoint|\.img)$')
QUOTED = re.compile(r'(["\'])(.*)\1', re.DOTALL)


class ConfigOptions(DictAction):
    """mmengine's action of ``--cfg-options key=value ...``, which keeps spaces and paths as they are.

    mmengine removes all spaces from a value and splits it at commas, also in the name of a folder. Here a text keeps
    its spaces, and commas split it unless the key is that of a path (:data:`PATH_KEY`) or the value is an existing file
    or folder.

    Raises:
        UserError: For a word without ``=``, which is usually another argument.
    """

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Sequence, option_string: str
    ) -> None:
        """See :class:`argparse.Action`."""
        wrong = [value for value in values if '=' not in value]
        if wrong:
            raise UserError(f'{option_string} {wrong[0]}: not key=value; put other arguments before the option')
        options = getattr(namespace, self.dest, None) or {}
        for value in values:
            key, _, text = value.partition('=')
            options[key] = parse_value(key, text)
        setattr(namespace, self.dest, options)


def parse_value(key: str, text: str) -> object:
    """The value of one ``--cfg-options key=text``.

    Raises:
        UserError: If brackets do not match.
    """
    quoted = QUOTED.fullmatch(text)
    is_there = '/' in text and Path(text).expanduser().exists()
    is_list = text[:1] + text[-1:] in ('[]', '()')
    if is_there or (PATH_KEY.search(key) and not is_list and text != 'None'):
        return quoted[2] if quoted and not is_there else text
    try:
        value = DictAction._parse_iterable(text)
    except AssertionError as error:
        raise UserError(f'--cfg-options {key}={text}: its brackets do not match') from error
    if isinstance(value, str):
        return quoted[2] if quoted else text
    return value


def load_config(path: str, options: dict | None = None) -> Config:
    """A config file with ``--cfg-options`` merged in.

    Raises:
        UserError: If the file is missing or is not a config.
    """
    if not Path(path).is_file():
        raise UserError(f'{path}: no such config file; the configs are in configs/')
    if Path(path).suffix in ('.pth', '.safetensors'):
        raise UserError(f'{path}: is a checkpoint, but a config is needed here; give the config before the checkpoint')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # of any kind, because a config is a program
        reason = str(error).strip().partition('\n')[0]
        raise UserError(f'{path}: cannot be read as a config ({type(error).__name__}: {reason})') from error
    cfg.merge_from_dict(options or {})
    return cfg


def inner_dataset_configs(dataset: dict) -> Iterator:
    """The config of a data set, or those of all data sets in a wrapper (repeated, concatenated)."""
    inner = dataset.get('datasets', [dataset['dataset']] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for entry in inner:
        yield from inner_dataset_configs(entry)


def scored_dataset(dataset: dict) -> dict:
    """The config of the one data set that a validation or a test scores, whatever is wrapped around it.

    Raises:
        UserError: If a wrapper holds several data sets: metrics read one annotation file.
    """
    found = list(inner_dataset_configs(dataset))
    if len(found) > 1:
        names = ', '.join(str(entry.get('ann_file')) for entry in found)
        raise UserError(
            f'a validation or test over {len(found)} data sets ({names}): metrics are of one annotation file; name '
            'one, or join them by tools/prepare_data.py'
        )
    return found[0]


def parse_config_text(text: str) -> dict:
    """The content of a dumped config, as in a checkpoint, without running it as a program.

    Args:
        text (str): Assignments of literals and ``dict(...)`` calls: what ``Config.pretty_text`` writes.

    Raises:
        ValueError: If the text holds anything else.
    """
    content = {}
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            raise ValueError(f'line {statement.lineno}: not an assignment of a literal')
        content[statement.targets[0].id] = ast.literal_eval(_DictCalls().visit(statement.value))
    return content


class _DictCalls(ast.NodeTransformer):
    """Turns ``dict(a=1)`` and ``dict({...}, a=1)`` into dict literals."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node = self.generic_visit(node)
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict':
            raise ValueError(f'line {node.lineno}: a call other than dict(...)')
        merged = ast.Dict(keys=[], values=[])
        for part in node.args:
            if not isinstance(part, ast.Dict):
                raise ValueError(f'line {node.lineno}: dict(...) of something other than a literal')
            merged.keys += part.keys
            merged.values += part.values
        merged.keys += [ast.Constant(keyword.arg) for keyword in node.keywords]
        merged.values += [keyword.value for keyword in node.keywords]
        return ast.copy_location(merged, node)


def flatten(value: object, prefix: str = '') -> Iterator:
    """Dotted keys and their values. Lists of dicts are opened by index; other lists are values."""
    if isinstance(value, dict) and value:
        items = [(f'{prefix}.{key}' if prefix else str(key), entry) for key, entry in value.items()]
    elif isinstance(value, (list, tuple)) and any(isinstance(entry, dict) for entry in value):
        items = [(f'{prefix}[{index}]', entry) for index, entry in enumerate(value)]
    else:
        yield prefix, value
        return
    for key, entry in items:
        yield from flatten(entry, key)


def inner_dicts(value: object) -> Iterator:
    """All dicts in a config, from the outside in."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for entry in value if isinstance(value, (list, tuple)) else []:
        yield from inner_dicts(entry)


MISSING = '(absent)'


# In a row of an ablation, the prefixes of the keys that differ from the row above. The key itself is not a difference.
ABLATION_VARIABLE = 'ablation_variable'


def diff_configs(old: dict, new: dict) -> list:
    """The dotted keys in which two configs differ, except :data:`ABLATION_VARIABLE`.

    Returns:
        list[tuple]: (key, old value, new value), sorted by key; :data:`MISSING` where a side has no such key.
    """
    old_values, new_values = dict(flatten(old)), dict(flatten(new))
    keys = sorted((old_values.keys() | new_values.keys()) - {ABLATION_VARIABLE})
    rows = [(key, old_values.get(key, MISSING), new_values.get(key, MISSING)) for key in keys]
    return [row for row in rows if _plain(row[1]) != _plain(row[2])]


def show_value(value: object) -> str:
    """A value of :func:`diff_configs` as text."""
    return value if value is MISSING else repr(value)


def _plain(value: object) -> object:
    """Tuples as lists, because a dumped and reloaded config may hold either. True differs from 1."""
    if isinstance(value, bool):
        return bool, value
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def evaluators(value: dict | list) -> list:
    """The metrics of an evaluator's config, which may be one metric or a list of them."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
