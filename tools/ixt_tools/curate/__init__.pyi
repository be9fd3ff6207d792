from . import curate_verbs as curate_verbs
from . import distill_verb as distill_verb
from .distillation import Distillation as Distillation
from .distillation import distill as distill
from .distillation import read_judged as read_judged
from .distilled_critic import DISTILLED as DISTILLED
