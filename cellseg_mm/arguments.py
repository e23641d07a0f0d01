"""Arguments that several tools share."""

import argparse
import re
from collections.abc import Callable

from cellseg_mm.engine.budget import Budget
from cellseg_mm.engine.precision import PRECISIONS
from cellseg_mm.utils import ConfigOptions, UserError
from cellseg_mm.weights import DEFAULT, MODELS


def at_least(least: int) -> Callable:
    """A type for argparse: a whole number from ``least`` on."""

    def check(text: str) -> int:
        if not re.fullmatch(r'-?\d+', text) or int(text) < least:
            raise argparse.ArgumentTypeError(f'{text}: must be a whole number from {least} on')
        return int(text)

    return check


def tool_parser(description: str, example: str) -> argparse.ArgumentParser:
    """A tool's parser, with :func:`help_page`."""
    return argparse.ArgumentParser(**help_page(description, example))


def help_page(description: str, example: str) -> dict:
    """Options of a parser whose help keeps the lines of the description and ends with an example.

    Args:
        description (str): The tool's docstring.
        example (str): A command to type.
    """
    epilog = f'example:\n  {example}'
    return dict(description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_config_and_checkpoint(parser: argparse.ArgumentParser) -> None:
    """``[CONFIG] CHECKPOINT``, for :func:`cellseg_mm.engine.run_config.testing_config`."""
    parser.add_argument(
        'config', nargs='?', metavar='CONFIG', help="a config file (default: the checkpoint's own config)"
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help=f'a file, or a shipped model: {", ".join(MODELS)}')


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """``--config``, of tools that take ``CHECKPOINT`` first."""
    parser.add_argument('--config', metavar='FILE', help="a config file (default: the checkpoint's own config)")


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """``--model``, see :func:`checkpoint_or_model`."""
    parser.add_argument(
        '--model',
        metavar='NAME',
        help=f'a shipped model in place of a checkpoint: {", ".join(MODELS)} (default: {DEFAULT})',
    )


def checkpoint_or_model(args: argparse.Namespace) -> str | None:
    """What ``CHECKPOINT`` or ``--model`` names; None for the default model.

    Raises:
        UserError: If both are given.
    """
    if args.checkpoint and args.model:
        raise UserError(f'--model {args.model}: the checkpoint {args.checkpoint} is given too; choose one of them')
    return args.checkpoint or args.model


def add_starting_weights(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """``--from-scratch`` or ``--backbone-weights``.

    Returns:
        _MutuallyExclusiveGroup: The group, which takes other weights to start from.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--from-scratch', action='store_true', help='start from random weights, nothing frozen')
    group.add_argument('--backbone-weights', metavar='FILE', help='ImageNet weights of the backbone, as a file')
    return group


def add_budget(parser: argparse.ArgumentParser, text: str) -> None:
    """``--budget``, with its help."""
    parser.add_argument('--budget', type=Budget.parse, metavar='TIME', help=text)


def add_config_changes(parser: argparse.ArgumentParser) -> None:
    """``--cfg-options``."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE', help='config keys to change'
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """``--launcher`` and what it passes on."""
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher of several processes, see docs/distributed.md (default: none)',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_precision(
    parser: argparse.ArgumentParser, auto: str = 'takes bf16 if the processor has instructions for it'
) -> None:
    """``--precision``.

    Args:
        parser (ArgumentParser): The tool's.
        auto (str): What ``auto`` does.
    """
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='auto',
        help=f'precision of the network on a CPU; auto {auto} (default: auto)',
    )


def add_channel_order(
    parser: argparse.ArgumentParser,
    auto: str = 'rgb, or found from the stain of the cells if the model was trained on files with red and blue '
    'exchanged',
) -> None:
    """``--channel-order`` of image files.

    Args:
        parser (ArgumentParser): The tool's.
        auto (str): What ``auto`` is.
    """
    parser.add_argument(
        '--channel-order',
        choices=['auto', 'rgb', 'bgr'],
        default='auto',
        help=f'channel order of the image files; auto is {auto} (default: auto)',
    )


def add_score_threshold(parser: argparse.ArgumentParser, text: str) -> None:
    """``--score-thr``, with its help."""
    parser.add_argument('--score-thr', type=score, metavar='SCORE', help=text)


def score(text: str) -> float:
    """A score threshold, for argparse.

    Raises:
        UserError: If it is not from 0 to 1.
    """
    value = float(text)
    if not 0 <= value <= 1:
        raise UserError(f'--score-thr {value:g}: scores go from 0 to 1')
    return value
