from .critics import load_critic as load_critic
from .critique_runs import annotate as annotate
from .errors import IxtError as IxtError
from .ingestion import ingest as ingest
from .mix import Mix as Mix
from .mix import load_mix as load_mix
from .mix import plan_mix as plan_mix
from .records import Critique as Critique
from .records import Document as Document
from .records import Span as Span
from .store import Store as Store
from .store import open_store as open_store

__version__: str
