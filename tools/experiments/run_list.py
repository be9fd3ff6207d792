"""The train runs of the experiments, and their budgets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from arms import ARMS, ArmContext, is_conditioned, train_arm_tokenizer, train_config
from corpora import BY_NAME, PROBLEMS, CorpusFolder, SumsCorpus

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
"""`make proof`: R1 and R2; maximum steps by corpus and arm."""

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
"""`make proof-spans`: spans compared with a filter, and controls."""

DECAY = 0.3
ANNEAL: dict[str, dict[str, int]] = {
    name: dict.fromkeys(
        (
            "plain",
            "filter",
            "anneal-30",
            "critique",
            "critique-anneal-30",
            "score",
            "anneal-10",
            "anneal-50",
            "critique-anneal-10",
            "score-anneal-30",
            "anneal-30-x10",
            "filter-x10",
            "spans",
            "spans-anneal-30",
        ),
        900,
    )
    for name in ("good200", "good1000")
}
"""`make proof-anneal`: equal steps for each arm, and a learning rate that falls at their end."""


@dataclass(frozen=True)
class ExperimentRun:
    """One train run.

    Attributes:
        corpus: corpus.
        arm: name of the arm.
        steps: number of steps, at most.
        seed: seed of corpus, mix and model.
        decay: see `train_config`.
    """

    corpus: SumsCorpus
    arm: str
    steps: int
    seed: int
    decay: float | None = None

    @property
    def group(self) -> str:
        """Return the group of its curve: runs of one corpus and schedule."""
        return self.corpus.name + ("" if self.decay is None else "-decay")

    @property
    def label(self) -> RunLabel:
        """Return the label of its curve."""
        return RunLabel(self.arm, self.group, self.seed, f"{self.steps}ba")

    def corpus_folder(self, folder: Path, problems: int = PROBLEMS) -> CorpusFolder:
        """Return its corpus."""
        return CorpusFolder(
            folder / f"{self.corpus.name}-{self.seed}", self.corpus, self.seed, problems
        )

    def run_folder(self, folder: Path) -> Path:
        """Return its run folder."""
        return self.corpus_folder(folder).folder / "runs" / self._name

    @property
    def _name(self) -> str:
        return self.arm + ("" if self.decay is None else "-decay")

    def prepare(self, folder: Path, every: int, problems: int) -> TrainJob:
        """Create its corpus, mix and train config; existing files are not created again."""
        corpus = self.corpus_folder(folder, problems)
        store = corpus.prepare(WRONG_ON if "wrong" in self.arm else ())
        context = ArmContext(store, corpus, corpus.count_good(), self.steps)
        mix = ARMS[self.arm](context)
        configs = corpus.folder / "configs"
        write_yaml(configs / f"{self._name}.mix.yaml", mix.model_dump(mode="json"))
        config = train_config(
            f"{self._name}.mix.yaml",
            str(self.run_folder(folder)),
            str(corpus.task.resolve()),
            str(train_arm_tokenizer(context).resolve()),
            feedback="best" if is_conditioned(mix) else "none",
            steps=self.steps,
            seed=self.seed,
            every=every,
            decay=self.decay,
        )
        name = f"{self.group} {self.arm} {self.seed}"
        path = write_yaml(configs / f"{self._name}.yaml", config)
        return TrainJob(name, path, configs / f"{self._name}.log", self.run_folder(folder))


def list_runs(
    series: dict[str, dict[str, int]], seeds: Iterable[int], decay: float | None = None
) -> list[ExperimentRun]:
    """Return the runs of a series seed by seed, so each arm has an early run."""
    return [
        ExperimentRun(BY_NAME[corpus], arm, steps, seed, decay)
        for seed in seeds
        for corpus, arms in series.items()
        for arm, steps in arms.items()
    ]


def shorten_runs(runs: Sequence[ExperimentRun], documents: int, steps: int) -> list[ExperimentRun]:
    """Return the same runs on small corpora for a few steps, as a test of the pipeline."""
    short_runs = []
    for run in runs:
        corpus = SumsCorpus(run.corpus.name, documents, run.corpus.bad)
        short_runs.append(ExperimentRun(corpus, run.arm, steps, run.seed, run.decay))
    return short_runs
