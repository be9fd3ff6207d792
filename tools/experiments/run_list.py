"""Which train runs the proof needs, and how long each may take."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from arms import ARMS, Plan, listens, tokenizer_of, train_config
from corpora import BY_NAME, PROBLEMS, Corpus, Ground

from ixt_tools.demo import write_yaml
from ixt_train.scaling import RunLabel, TrainJob

WRONG_ON = (10, 20)

PROOF: dict[str, dict[str, int]] = {
    "good200": {
        "critique": 900,
        "filter": 500,
        "spans-auto": 700,
        "plain": 700,
        "score": 800,
        "critique-3x": 900,
        "critique-loss": 900,
        "critique-dropout": 900,
        "critique-shuffled": 700,
        "critique-noisy": 900,
        "plain-3x": 700,
    },
    "good1000": {
        "filter": 600,
        "spans-auto": 500,
        "plain": 1500,
        "critique": 900,
        "spans": 500,
        "score": 900,
        "critique-3x": 800,
        "critique-loss": 900,
        "critique-dropout": 900,
        "critique-shuffled": 700,
        "critique-noisy": 900,
        "plain-3x": 1200,
    },
}
"""`make proof`: R1 and R2, steps at most by corpus and arm."""

SPANS: dict[str, dict[str, int]] = {
    "good500": {
        "filter": 800,
        "spans-auto": 650,
        "filter-x10": 650,
        "spans-good-first-16": 650,
        "spans-good-first-8": 650,
        "spans-3x": 650,
        "spans-masked": 650,
        "spans-inserted": 800,
        "spans-wrong-10": 650,
        "spans-wrong-20": 650,
        "critique": 900,
        "plain": 700,
        "plain-x10": 700,
    },
    "good5000": {
        "filter": 550,
        "spans-auto": 450,
        "filter-x10": 450,
        "plain": 1000,
        "spans": 500,
        "critique": 800,
        "plain-x10": 900,
        "spans-inserted": 500,
    },
    "good1000": {
        "filter": 600,
        "spans-auto": 500,
        "filter-x10": 500,
        "plain": 1500,
        "critique": 900,
        "spans": 500,
        "spans-auto-16": 500,
        "spans-good-first-4": 500,
        "spans-3x": 500,
        "spans-masked": 500,
        "spans-inserted": 600,
        "spans-wrong-10": 500,
        "spans-wrong-20": 500,
        "plain-x10": 1000,
    },
    "good200": {
        "filter": 500,
        "spans-auto": 700,
        "critique": 900,
        "filter-x10": 400,
        "spans-inserted": 800,
        "spans-wrong-10": 700,
        "spans-wrong-20": 700,
        "plain": 700,
        "plain-x10": 500,
    },
}
"""`make proof-spans`: never behind a filter, with its controls."""


@dataclass(frozen=True)
class Run:
    """One train run of the proof."""

    corpus: Corpus
    arm: str
    steps: int
    seed: int

    @property
    def label(self) -> RunLabel:
        """Where its curve belongs."""
        return RunLabel(self.arm, self.corpus.name, self.seed, f"{self.steps}ba")

    def ground(self, folder: Path, problems: int = PROBLEMS) -> Ground:
        """Its corpus."""
        return Ground(folder / f"{self.corpus.name}-{self.seed}", self.corpus, self.seed, problems)

    def run_folder(self, folder: Path) -> Path:
        """Where it trains."""
        return self.ground(folder).folder / "runs" / self.arm

    def prepare(self, folder: Path, every: int, problems: int) -> TrainJob:
        """Its corpus, mix and train config; what is there is not made again."""
        ground = self.ground(folder, problems)
        store = ground.prepare(WRONG_ON if "wrong" in self.arm else ())
        plan = Plan(store, ground, ground.good(), self.steps)
        mix = ARMS[self.arm](plan)
        place = ground.folder / "configs"
        write_yaml(place / f"{self.arm}.mix.yaml", mix.model_dump(mode="json"))
        config = train_config(
            f"{self.arm}.mix.yaml",
            str(self.run_folder(folder)),
            str(ground.task.resolve()),
            str(tokenizer_of(plan).resolve()),
            feedback="best" if listens(mix) else "none",
            steps=self.steps,
            seed=self.seed,
            every=every,
        )
        name = f"{self.corpus.name} {self.arm} {self.seed}"
        path = write_yaml(place / f"{self.arm}.yaml", config)
        return TrainJob(name, path, place / f"{self.arm}.log", self.run_folder(folder))


def runs_of(series: dict[str, dict[str, int]], seeds: Iterable[int]) -> list[Run]:
    """The runs of a series: seed by seed, so that each arm has one early."""
    return [
        Run(BY_NAME[corpus], arm, steps, seed)
        for seed in seeds
        for corpus, arms in series.items()
        for arm, steps in arms.items()
    ]


def shortened(runs: Sequence[Run], documents: int, steps: int) -> list[Run]:
    """The same runs on small corpora for a few steps, which only shows that all is connected."""
    return [
        Run(Corpus(run.corpus.name, documents, run.corpus.bad), run.arm, steps, run.seed)
        for run in runs
    ]
