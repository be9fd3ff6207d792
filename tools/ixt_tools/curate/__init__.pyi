from . import curate_verbs as curate_verbs
