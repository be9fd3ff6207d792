from .index_archive import SEARCH_COLUMNS as SEARCH_COLUMNS
from .index_archive import build_archive as build_archive
from .index_archive import split_archive as split_archive
from .index_reader import IndexMatches as IndexMatches
from .index_reader import SearchIndexes as SearchIndexes
from .tokens import tokenize as tokenize
from .words import SearchWords as SearchWords
from .words import Snippet as Snippet
