from .inspection import inspect_target as inspect_target
from .inspection import list_problems as list_problems
from .render import render_view as render_view
from .shard import InspectOptions as InspectOptions
