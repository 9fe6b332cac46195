#!/usr/bin/env python3
"""Check that transformers loads the model of every stage of a recipe and computes the same logits as braid.

usage: check_stages.py BRAID MODEL_DIR... [--tokens 200]

Runs `braid dump` and check_load.py on each model directory, with random ids of its vocabulary. Exit status: 0 when all agree.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import save_file

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("braid", help="the braid program")
parser.add_argument("models", nargs="+", help="model directories")
parser.add_argument("--tokens", type=int, default=200)
arguments = parser.parse_args()

check_load = pathlib.Path(__file__).with_name("check_load.py")
failed = []
with tempfile.TemporaryDirectory() as folder:
    inputs, outputs = f"{folder}/inputs.safetensors", f"{folder}/outputs.safetensors"
    for model in arguments.models:
        vocabulary = json.loads((pathlib.Path(model) / "config.json").read_text())["vocab_size"]
        ids = torch.randint(vocabulary, (2, arguments.tokens), generator=torch.Generator().manual_seed(1))
        save_file({"input_ids": ids}, inputs)
        subprocess.run([arguments.braid, "dump", model, "--input", inputs, "--output", outputs], check=True,
                       stdout=subprocess.DEVNULL)
        checked = subprocess.run([sys.executable, check_load, model, "--inputs", inputs, "--outputs", outputs])
        if checked.returncode != 0:
            failed.append(model)
print(f"{len(arguments.models) - len(failed)} of {len(arguments.models)} agree")
sys.exit(1 if failed else 0)
