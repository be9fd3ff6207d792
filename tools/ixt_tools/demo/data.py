"""Documents and critiques of the demo, up to a tagged snapshot."""

from pathlib import Path

from ixt_data.console import format_count
from ixt_data.critics import load_critic
from ixt_data.critique_runs import annotate, count_succeeded
from ixt_data.ingestion import ingest, open_inputs
from ixt_data.store import Store
from ixt_tools.demo.clock_arithmetic import write_corpus
from ixt_tools.demo.configs import CLOCK, STDLIB, TAG
from ixt_tools.demo.stdlib import copy_stdlib
from ixt_tools.demo.workspace import DemoWorkspace

BAD_SHARE = 0.9


def build_store(demo: DemoWorkspace) -> int:
    """Fill the store with both corpora and their critiques; return the tagged version."""
    demo.print_heading("1  Documents")
    store = Store.init(demo.store_path)
    sources = demo.folder / STDLIB
    files = copy_stdlib(sources, demo.size.stdlib_files)
    demo.print_text(
        f"Ingest {format_count(files, 'file')} of Python's standard library as corpus {STDLIB!r}."
    )
    add_documents(demo, store, STDLIB, sources)
    paths = write_corpus(
        demo.corpus_folder,
        documents=demo.size.documents,
        bad=BAD_SHARE,
        seed=demo.seed,
        problems=demo.size.problems,
    )
    demo.print_text(
        f"Ingest {demo.size.documents:,} worked sums as corpus {CLOCK!r}; {BAD_SHARE:.0%} of their "
        "authors have a defect, such as reading minus as plus."
    )
    add_documents(demo, store, CLOCK, paths.corpus)

    demo.print_heading("2  Critiques")
    demo.print_text("Each critic writes a score and a critique for every document of its corpus.")
    add_critiques(demo, store, STDLIB, "rules")
    add_critiques(demo, store, CLOCK, "arithmetic")
    version = store.tag(TAG)
    demo.print_text(f"Snapshot {version} is tagged {TAG!r}; all later steps read this snapshot.")
    return version


def add_documents(demo: DemoWorkspace, store: Store, corpus: str, source: Path) -> None:
    """Ingest a corpus, as `ixt ingest` does."""
    total = sum(part.size for part in open_inputs([source]))
    with demo.out.progress(f"ingesting {corpus}", total, "B") as bar:
        report = ingest(
            store,
            corpus,
            [source],
            progress=lambda done, documents: bar.update(done, format_count(documents, "document")),
        )
    demo.print_text(
        f"  {corpus}: {format_count(report.documents, 'document')}, "
        f"{format_count(report.duplicates, 'duplicate')} kept once, "
        f"{report.quarantined:,} quarantined with a reason, {format_count(report.shards, 'shard')}"
    )


def add_critiques(demo: DemoWorkspace, store: Store, corpus: str, critic: str) -> None:
    """Critique a corpus, as `ixt critique` does."""
    total = store.snapshot().corpora[corpus].documents
    with demo.out.progress(f"{critic} reads {corpus}", total, "documents") as bar:
        report = annotate(
            store, corpus, load_critic(critic), lambda done, critique: bar.update(done)
        )
    ok = count_succeeded(report)
    demo.print_text(
        f"  {report.critic}: {ok:,} of {format_count(report.documents, 'document')} of "
        f"{corpus} critiqued"
    )
