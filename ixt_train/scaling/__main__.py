"""`python -m ixt_train.scaling PATH...` runs `ixt scaling`."""

import sys

from ixt_data.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "scaling")
    main()
