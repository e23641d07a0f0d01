"""What the documentation names is there: links, anchors, files, and options of the tools."""

import re
from urllib.parse import urlsplit

import pytest
from conftest import ROOT

PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ('*.md', 'docs/*.md', 'data/README.md', 'data/samples/*.md', 'configs/**/*.md')
    for page in ROOT.glob(pattern)
)
SUBCOMMANDS = dict(submission=('make', 'check', 'score'))
TOOL = re.compile(r'(?<!tests/)tools/(\w+)\.py')
OPTION = re.compile(r'(?<![\w-])--[a-z][a-z-]*')
KNOWN = {}  # options of the tools that were asked


def read(page):
    return (ROOT / page).read_text('utf-8')


def prose(page):
    """The text without code."""
    text = re.sub(r'^```.*?^```', '', read(page), flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.startswith('    ') or line.lstrip().startswith(('-', '|'))]
    return re.sub(r'`[^`\n]*`', 'code', '\n'.join(lines))


def anchors(page):
    """Of the headings, as GitHub makes them: lower case, no punctuation, a hyphen a space, -1 and on for equal ones."""
    found = []
    for title in re.findall(r'^#+ (.*)$', re.sub(r'^```.*?^```', '', read(page), flags=re.DOTALL | re.MULTILINE), re.M):
        title = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', title.strip().lower())
        anchor = re.sub(r'[^\w\- ]', '', title).replace(' ', '-')
        repeats = sum(re.fullmatch(rf'{re.escape(anchor)}(-\d+)?', other) is not None for other in found)
        found.append(f'{anchor}-{repeats}' if repeats else anchor)
    return found


def commands(page):
    """(tool, the text of its command): lines of code, continued ones joined, code in a line, and rows of a table."""
    text = read(page).replace('\\\n', ' ')
    spans = re.findall(r'`([^`\n]*)`', re.sub(r'^ {4}.*$', '', text, flags=re.M))
    rows = re.findall(r'^\| `tools/.*$', text, re.M)
    lines = [line.split('#')[0] for line in text.splitlines() if line.startswith('    ')]
    return [(TOOL.search(part)[1], part) for part in [*spans, *rows, *lines] if TOOL.search(part)]


@pytest.fixture
def options(run_here):
    """The options of each tool, from its help."""

    def of(tool):
        if tool not in KNOWN:
            texts = [run_here(tool, *words, '--help')[1] for words in [(), *((w,) for w in SUBCOMMANDS.get(tool, ()))]]
            KNOWN[tool] = set(OPTION.findall(' '.join(texts)))
        return KNOWN[tool]

    return of


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', prose(page)):
        if '://' in link:
            continue
        path, _, anchor = link.partition('#')
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f'{page}: {link}'
        assert not anchor or anchor in anchors(target.resolve().relative_to(ROOT)), f'{page}: {link}'


@pytest.mark.parametrize('page', PAGES)
def test_addresses_are_well_formed(page):
    for address in re.findall(r'https?:[^\s)>`]*', prose(page)):
        parts = urlsplit(address)
        assert re.fullmatch(r'[\w-]+(\.[\w-]+)+', parts.netloc) and '//' not in parts.path, f'{page}: {address}'


@pytest.mark.parametrize('page', PAGES)
def test_files_that_are_named_exist(page):
    for path in re.findall(r'(?<![\w/.])((?:tools|configs|tests|benchmarks|docs|cellseg_mm)/[\w./-]+)', read(page)):
        path = path.rstrip('.')
        assert 'NAME' in path or (ROOT / path).exists() or (ROOT / f'{path}.py').exists(), f'{page}: {path}'


@pytest.mark.parametrize('page', [page for page in PAGES if commands(page)])
def test_options_that_are_named_exist(page, options):
    for tool, command in commands(page):
        given = command.partition('tools/')[2]  # what comes before it are options of torchrun
        assert set(OPTION.findall(given)) <= options(tool), f'{page}: {command.strip()}'


def test_the_index_lists_every_page():
    linked = re.findall(r'\]\(([^)#]+)\)', read('docs/README.md'))
    pages = {path.name for path in ROOT.glob('docs/*') if path.suffix in ('.md', '.ipynb')} - {'README.md'}
    assert pages <= set(linked)


@pytest.mark.parametrize('page', PAGES)
def test_the_language_is_plain(page):
    text = re.sub(r'<details>.*?</details>', '', prose(page), flags=re.DOTALL)  # messages of the tools, as they are
    found = re.findall(r'\b(?:is|are) (?:no(?! longer)|none)\b|\btold\b|\btells?\b|\blikewise\b', text, re.I)
    assert not found, f'{page}: {found}; subject first, as in docs/glossary.md'


@pytest.mark.parametrize('page', ['README.md', 'docs/extending.md', 'docs/glossary.md'])
def test_places_in_the_package_exist(page):
    places = re.findall(r'`((?:\w+/)+(?:\w+\.(?:py|html|css))?)`', read(page))
    missing = [
        place for place in places if not any((folder / place).exists() for folder in (ROOT, ROOT / 'cellseg_mm'))
    ]
    assert not missing, f'{page}: {missing}'
