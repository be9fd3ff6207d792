from .train_verbs import register as register
