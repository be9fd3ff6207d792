#!/usr/bin/env bash
# One worker of a critique run, as a task of a Slurm array or a pod of a Kubernetes indexed job.
# All tasks run this same script; they share the units by leases in the store.
#
#   STORE      root of the store, which every task can reach
#   CORPUS     name of the corpus
#   RUBRIC     web by default
#   ENDPOINTS  servers up to /v1, separated by blanks; task k uses number k modulo their count
#   MODEL      its name there; without ENDPOINTS, each task serves it with the program VLLM_BIN
#   FLAGS      further options of `ixt critique`
#
#   sbatch --array=0-15 --export=ALL,STORE=/data/ixt,CORPUS=web,MODEL=Qwen/Qwen3-8B docs/cluster/worker.sh
#
#SBATCH --job-name=ixt-critique
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -euo pipefail

task="${SLURM_ARRAY_TASK_ID:-${JOB_COMPLETION_INDEX:-}}"
: "${task:?run this as a Slurm array (sbatch --array) or a Kubernetes indexed job}"
: "${STORE:?the root of the store}" "${CORPUS:?the corpus}"

judge=(--rubric "${RUBRIC:-web}")
if [[ -n "${ENDPOINTS:-}" ]]; then
    read -ra endpoints <<<"$ENDPOINTS"
    judge+=(--endpoint "${endpoints[task % ${#endpoints[@]}]}")
    [[ -z "${MODEL:-}" ]] || judge+=(--model "$MODEL")
else
    judge+=(--serve "${MODEL:?ENDPOINTS, or a MODEL to serve}" --vllm-bin "${VLLM_BIN:-vllm}")
fi
read -ra flags <<<"${FLAGS:-}"

echo "task $task on $(hostname)" >&2
# exec, because the signal before the time limit must reach ixt: it then releases its unit.
exec ixt critique --store "$STORE" --corpus "$CORPUS" --critic vllm "${judge[@]}" "${flags[@]}" \
    --output json
