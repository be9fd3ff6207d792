"""One rank of a job that `torchrun` starts: draws a whole plan, then resumes from a state.

Args: the job as JSON: root of the store, mix, samples, batch, epoch_samples, local and out folders,
state to resume from.
"""

import json
import os
import sys
from pathlib import Path

import torch.distributed as dist
from torch.utils.data import DataLoader

from ixt_data.mix import Mix, plan_mix
from ixt_data.store.store import Store
from ixt_train.stream.mix_stream import MixStream

job = json.loads(sys.argv[1])
node, rank = int(os.environ["GROUP_RANK"]), int(os.environ["RANK"])
dist.init_process_group("gloo")
plan = plan_mix(
    Mix.model_validate(job["mix"]), job["samples"], store=Store.open(job["store"]),
    batch=job["batch"], epoch_samples=job["epoch_samples"],
)  # fmt: skip
size = job["batch"] // dist.get_world_size()
found = {}
for name, state in (("fresh", None), ("resumed", job["state"])):
    local = Path(job["local"], f"{name}{node}")
    with MixStream(plan, None, store=job["store"], local=local, batch_size=size) as stream:
        if state:
            stream.load_state_dict(state)
        loader = DataLoader(stream, batch_size=size, num_workers=rank % 2, collate_fn=list)
        epochs = range(state["epoch"] if state else 0, plan.epochs)
        found[name] = [[s["draw"] for s in batch] for _ in epochs for batch in loader]
        dist.barrier()
Path(job["out"], f"{rank}.json").write_text(json.dumps(found))
dist.destroy_process_group()
