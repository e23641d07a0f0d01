"""The package's imports run one way, and what an import changes elsewhere stands in one place."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import cellseg_mm

ROOT = Path(cellseg_mm.__file__).parent
# Folders and modules of the package; each imports those before it alone.
ORDER = [
    'version',
    'utils',
    'weights',
    'structures',
    'images',
    'datasets',
    'models',
    'evaluation',
    'visualization',
    'engine',
    'arguments',
    'export',
    'inference',
    'teaching',
    'deploy',
    'submission',
    'report',
    'app',
    'install',
]


def module_name(path: Path) -> str:
    """``''`` for the package itself, ``'utils.config'`` and so on."""
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('__init__').rstrip('.')


FILES = {module_name(path): path for path in sorted(ROOT.rglob('*.py'))}
TREES = {name: ast.parse(path.read_text('utf-8')) for name, path in FILES.items()}


def imported_modules(name: str) -> set:
    """The package's modules that a module of it imports anywhere, also within functions."""
    package = ['cellseg_mm', *name.split('.')] if name else ['cellseg_mm']
    if FILES[name].name != '__init__.py':
        package.pop()
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) + 1 - node.level] if node.level else []
            base = '.'.join([*parts, *([node.module] if node.module else [])])
            names = {f'{base}.{alias.name}' for alias in node.names}
            modules = {each for each in names if each.removeprefix('cellseg_mm.') in FILES}
            found |= modules | ({base} if modules != names else set())
    found = {each for each in found if each.split('.')[0] == 'cellseg_mm'}
    return {each.removeprefix('cellseg_mm').lstrip('.') for each in found}


GRAPH = {name: imported_modules(name) for name in FILES}


def test_the_order_names_every_folder():
    assert sorted(ORDER) == sorted({name.split('.')[0] for name in FILES} - {''})


def test_every_import_is_of_a_module_that_is_there():
    assert sum(map(len, GRAPH.values())) > 300  # they were found
    assert not {each for imported in GRAPH.values() for each in imported} - FILES.keys()


def test_no_folder_imports_one_above_it():
    upward = [
        f'{name or "cellseg_mm"} imports {each or "cellseg_mm"}'
        for name, imported in GRAPH.items()
        for each in imported
        if name and (not each or ORDER.index(each.split('.')[0]) > ORDER.index(name.split('.')[0]))
    ]
    assert upward == []


def test_no_module_imports_itself_by_way_of_others():
    try:
        circle = []
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_an_import_changes_other_packages_by_install_alone():
    """No module calls a function for its effect or sets an attribute of another when it is imported."""
    found = []
    for name, tree in TREES.items():
        for statement in tree.body:
            call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            if call or any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
                found.append(f'{name or "cellseg_mm"}: {ast.unparse(statement)}')
    assert found == ['cellseg_mm: install()']
