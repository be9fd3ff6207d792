from .inspection import look as look
from .inspection import problems_of as problems_of
from .render import rendered as rendered
from .shard import InspectOptions as InspectOptions
