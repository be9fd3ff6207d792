from .output import Output as Output
from .output import OutputMode as OutputMode
from .output import fields as fields
from .output import printable as printable
from .output import table as table
from .progress_bar import ProgressBar as ProgressBar
from .progress_bar import shown as shown
from .tables import rows_table as rows_table
