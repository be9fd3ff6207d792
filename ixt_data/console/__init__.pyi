from .output import Output as Output
from .output import OutputMode as OutputMode
from .output import fields as fields
from .output import printable as printable
from .output import table as table
from .progress import ProgressBar as ProgressBar
from .progress import progress_bar as progress_bar
from .tables import rows_table as rows_table
