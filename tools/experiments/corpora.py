"""The corpora of the proof: worked sums with good documents from scarce to plenty."""

from dataclasses import dataclass
from pathlib import Path

from noisy_critic import WrongOnSpans

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
class Corpus:
    """Worked sums by authors of whom a share `bad` has a defect; the name counts the good ones."""

    name: str
    documents: int
    bad: float


GOOD_200 = Corpus("good200", 2000, 0.9)
GOOD_500 = Corpus("good500", 2000, 0.75)
GOOD_1000 = Corpus("good1000", 2000, 0.5)
GOOD_5000 = Corpus("good5000", 10_000, 0.5)
CORPORA = (GOOD_200, GOOD_500, GOOD_1000, GOOD_5000)
"""R1 is `good200`, R2 is `good1000`."""
BY_NAME = {corpus.name: corpus for corpus in CORPORA}


@dataclass(frozen=True)
class Ground:
    """One corpus by one seed, in a store of its own.

    Attributes:
        folder: of the store and the held-out task.
        corpus: which corpus.
        seed: of the corpus; models and mixes have it too.
        problems: of the held-out task.
    """

    folder: Path
    corpus: Corpus
    seed: int
    problems: int = PROBLEMS

    @property
    def store(self) -> Path:
        """Root of the store."""
        return self.folder / "store"

    @property
    def task(self) -> Path:
        """The held-out problems."""
        return self.folder / TASK_FILE

    def prepare(self, wrong_on: tuple[int, ...] = ()) -> Store:
        """The store with its documents and critiques, made as far as it is not there.

        Args:
            wrong_on: also by critics that err on so many percent of their spans.
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
        critics: list[Critic] = [ArithmeticCritic(), *map(WrongOnSpans, wrong_on)]
        known = {critic.name for critic in store.snapshot().critics.values()}
        for critic in critics:
            if critic.name not in known:
                annotate(store, SUMS, critic)
            if TAG not in store.tags():
                # What arms draw from, whatever other critics say later.
                store.tag(TAG)
        return store

    def good(self) -> int:
        """Documents without a mistake.

        Raises:
            IxtError: there are none.
        """
        sql = "SELECT count(*) AS n FROM critiques WHERE critic = 'arithmetic' AND score >= 1"
        found = int(Store.open(self.store).sql(sql).arrow()["n"][0].as_py())
        if not found:
            raise IxtError(f"{self.store}: no document is without a mistake; take more documents")
        return found
