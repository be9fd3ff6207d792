"""One process of several: `composer -n 8 -m ixt_train run.yaml key=value` is `ixt train`."""

import sys

from ixt_data.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
