"""The mix: what a train run draws from a snapshot, how often, and in which order."""

from ixt_data.mix.config import Condition, Mix, Phase, Selection, Weighting, load_mix
from ixt_data.mix.feedback import observed_feedback, with_edges
from ixt_data.mix.order import Draw, decode, samples_of
from ixt_data.mix.plan import MixPlan, SelectionPlan
from ixt_data.mix.planner import plan_mix
from ixt_data.mix.render import render_plan
from ixt_data.mix.scope import held_out

__all__ = [
    "Condition",
    "Draw",
    "Mix",
    "MixPlan",
    "Phase",
    "Selection",
    "SelectionPlan",
    "Weighting",
    "decode",
    "held_out",
    "load_mix",
    "observed_feedback",
    "plan_mix",
    "render_plan",
    "samples_of",
    "with_edges",
]
