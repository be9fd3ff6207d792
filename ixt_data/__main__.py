"""`python -m ixt_data` is the command `ixt`."""

from ixt_data.cli import main

main()
