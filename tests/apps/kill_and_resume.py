#!/usr/bin/env python3
"""kill -9 training runs at random moments, restart each until it ends, and compare it with an unbroken one.

usage: kill_and_resume.py BRAID [KILLS [SEED]]
The metrics file and the final weights must be equal bit for bit. Runs follow one another until KILLS (12) are done.
"""
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

RECIPE = """
seed = 3
[run]
folder = "{folder}/run"
[data]
documents = ["{corpus}"]
folder = "{folder}/data"
sequence_length = 64
validation_fraction = 0.02
[model]
layers = 4
hidden_size = 32
heads = 2
intermediate_size = 64
[train]
steps = 60
batch_size = 4
[validation]
every = 10
batches = 2
[checkpoint]
every = 5
"""


def start(braid, recipe):
    return subprocess.Popen([braid, "train", recipe], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process):
    output = process.communicate()[0].decode(errors="replace")
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"train failed with {process.returncode}:\n{output}")
    return process.returncode == 0


def results(folder):
    run = folder / "run"
    return {name: (run / name).read_bytes() for name in ("metrics.jsonl", "model/model.safetensors", "model/config.json")}


def prepare(folder, corpus):
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder, corpus=corpus))
    return folder


def main():
    braid = sys.argv[1]
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    corpus = pathlib.Path(__file__).resolve().parents[2] / "data" / "quickstart.jsonl.zst"
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        unbroken = prepare(pathlib.Path(name) / "unbroken", corpus)
        begin = time.monotonic()
        if not finish(start(braid, unbroken / "recipe.toml")):
            sys.exit("the unbroken run was killed")
        duration = time.monotonic() - begin
        want = results(unbroken)
        done = runs = 0
        while done < kills:
            folder = prepare(pathlib.Path(name) / f"killed{runs}", corpus)
            runs += 1
            complete = False
            while not complete:
                process = start(braid, folder / "recipe.toml")
                if done < kills:
                    time.sleep(rng.uniform(0.02, 0.5) * duration)
                    process.kill()
                    done += 1
                complete = finish(process)
            got = results(folder)
            different = [key for key in want if want[key] != got[key]]
            if different:
                sys.exit(f"after {done} kills (seed {seed}) these differ: {', '.join(different)}")
            shutil.rmtree(folder)
        print(f"{done} kills in {runs} runs (seed {seed}): metrics and weights bit-identical")

if __name__ == "__main__":
    main()
