"""XML files beside images, from annotation programs."""

import re
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from cellseg_mm.utils import UserError

from .sample import split_folders, subfolders, visible

ASAP_ROOT = 'ASAP_Annotations'
HEAD = 4096  # bytes within which a root element begins


def find_xml(src: Path) -> list:
    """The XML files of a source folder."""
    places = [place for _, folder in split_folders(src) for place in [folder, *subfolders(folder)]]
    return [path for place in places for path in visible(place, '.xml')]


def parse_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file without a document type.

    Only a document type can declare entities, and ImageScope and ASAP write none. Without it nothing can be expanded or
    fetched, so no further package is needed.

    Raises:
        UserError: If it is broken or has a document type.
    """
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end

    def refuse(*_: object) -> None:
        raise UserError(f'{path}: has a document type (DTD), which ImageScope and ASAP do not write')

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(f'{path}: is not complete XML ({error})') from error


def root_tag(path: Path) -> str:
    """The name of the root element, ``''`` without one; the file need not be complete."""
    with open(path, 'rb') as file:
        head = file.read(HEAD)
    found = re.search(rb'<([A-Za-z_][\w.:-]*)', head)
    return found[1].decode() if found else ''
