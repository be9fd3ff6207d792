"""From raw files to a tagged snapshot: generate, ingest, critique."""

from pathlib import Path

from ixt_data.critics import load_critic
from ixt_data.critique_runs import annotate, count_succeeded
from ixt_data.ingestion import ingest, open_inputs
from ixt_data.store import Store
from ixt_tools.demo.clock_arithmetic import write_corpus
from ixt_tools.demo.configs import CLOCK, STDLIB, TAG
from ixt_tools.demo.stdlib import copy_stdlib
from ixt_tools.demo.workspace import DemoWorkspace

BAD_SHARE = 0.9


def build_store(scene: DemoWorkspace) -> int:
    """Fill the store with both corpora and their critiques; return the tagged version."""
    scene.chapter("1  Documents")
    store = Store.init(scene.store_path)
    sources = scene.folder / STDLIB
    files = copy_stdlib(sources, scene.size.stdlib_files)
    scene.say(f"{files:,} files of this Python's standard library go in as corpus {STDLIB!r}.")
    add_documents(scene, store, STDLIB, sources)
    paths = write_corpus(
        scene.corpus_folder,
        documents=scene.size.documents,
        bad=BAD_SHARE,
        seed=scene.seed,
        problems=scene.size.problems,
    )
    scene.say(
        f"{scene.size.documents:,} worked sums go in as corpus {CLOCK!r}; {BAD_SHARE:.0%} of their "
        "authors have a defect, such as reading minus as plus."
    )
    add_documents(scene, store, CLOCK, paths.corpus)

    scene.chapter("2  Critiques")
    scene.say("Two critics read every document and leave a score and a critique beside it.")
    add_critiques(scene, store, STDLIB, "rules")
    add_critiques(scene, store, CLOCK, "arithmetic")
    version = store.tag(TAG)
    scene.say(f"Snapshot {version} is tagged {TAG!r}: what follows is pinned to it.")
    return version


def add_documents(scene: DemoWorkspace, store: Store, corpus: str, source: Path) -> None:
    """As `ixt ingest` does."""
    total = sum(part.size for part in open_inputs([source]))
    with scene.out.progress(f"ingesting {corpus}", total, "B") as bar:
        report = ingest(
            store,
            corpus,
            [source],
            progress=lambda done, documents: bar.update(done, f"{documents:,} documents"),
        )
    scene.say(
        f"  {corpus}: {report.documents:,} documents, {report.duplicates:,} duplicates kept once, "
        f"{report.quarantined:,} quarantined with a reason, {report.shards} shards"
    )


def add_critiques(scene: DemoWorkspace, store: Store, corpus: str, critic: str) -> None:
    """As `ixt critique` does."""
    total = store.snapshot().corpora[corpus].documents
    with scene.out.progress(f"{critic} reads {corpus}", total, "documents") as bar:
        report = annotate(
            store, corpus, load_critic(critic), lambda done, critique: bar.update(done)
        )
    ok = count_succeeded(report)
    scene.say(f"  {report.critic}: {ok:,} of {report.documents:,} documents of {corpus} critiqued")
