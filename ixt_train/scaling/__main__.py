"""`python -m ixt_train.scaling PATH...` is `ixt scaling`."""

import sys

from ixt_data.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "scaling")
    main()
