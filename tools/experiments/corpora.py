"""The corpora of the experiments: worked sums with few to many good documents."""

from dataclasses import dataclass
from pathlib import Path

from noisy_critic import NoisyArithmeticCritic

from ixt_data.critics import ArithmeticCritic, Critic
from ixt_data.critique_runs import annotate
from ixt_data.errors import IxtError
from ixt_data.ingestion import ingest
from ixt_data.store import Store
from ixt_tools.demo import CORPUS_FILE, TASK_FILE, write_corpus

STEPS = 5
PROBLEMS = 400
TAG = "proof"
SUMS = "sums"


@dataclass(frozen=True)
class SumsCorpus:
    """Worked sums; a share `bad` of the authors has a defect. The name counts good documents."""

    name: str
    documents: int
    bad: float


GOOD_200 = SumsCorpus("good200", 2000, 0.9)
GOOD_500 = SumsCorpus("good500", 2000, 0.75)
GOOD_1000 = SumsCorpus("good1000", 2000, 0.5)
GOOD_5000 = SumsCorpus("good5000", 10_000, 0.5)
CORPORA = (GOOD_200, GOOD_500, GOOD_1000, GOOD_5000)
"""R1 is `good200`, R2 is `good1000`."""
BY_NAME = {corpus.name: corpus for corpus in CORPORA}


@dataclass(frozen=True)
class CorpusFolder:
    """One corpus of one seed, in a separate store.

    Attributes:
        folder: folder of the store and the held-out task.
        corpus: corpus.
        seed: seed of the corpus, and of its mixes and models.
        problems: number of problems in the held-out task.
    """

    folder: Path
    corpus: SumsCorpus
    seed: int
    problems: int = PROBLEMS

    @property
    def store(self) -> Path:
        """Return the absolute root of the store; a relative one would be relative to a mix."""
        return (self.folder / "store").resolve()

    @property
    def task(self) -> Path:
        """Return the file of the held-out problems."""
        return self.folder / TASK_FILE

    def prepare(self, wrong_on: tuple[int, ...] = ()) -> Store:
        """Return the store with documents and critiques; create what is missing.

        Args:
            wrong_on: percentages of wrong spans, each for an additional critic.
        """
        if not (self.store / "ixt.json").exists():
            write_corpus(
                self.folder,
                documents=self.corpus.documents,
                bad=self.corpus.bad,
                seed=self.seed,
                problems=self.problems,
                steps=STEPS,
            )
            Store.init(self.store)
        store = Store.open(self.store)
        if SUMS not in store.snapshot().corpora:
            ingest(store, SUMS, [self.folder / CORPUS_FILE], id_field="id")
        critics: list[Critic] = [ArithmeticCritic(), *map(NoisyArithmeticCritic, wrong_on)]
        known = {critic.name for critic in store.snapshot().critics.values()}
        for critic in critics:
            if critic.name not in known:
                annotate(store, SUMS, critic)
            if TAG not in store.tags():
                # Arms draw from this snapshot, without later critics.
                store.tag(TAG)
        return store

    def count_good(self) -> int:
        """Return the number of documents without a mistake.

        Raises:
            IxtError: every document has a mistake.
        """
        sql = "SELECT count(*) AS n FROM critiques WHERE critic = 'arithmetic' AND score >= 1"
        count = int(Store.open(self.store).sql(sql).arrow()["n"][0].as_py())
        if not count:
            raise IxtError(f"{self.store}: every document has a mistake; use more documents")
        return count
