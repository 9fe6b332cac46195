#!/usr/bin/env python3
"""kill -9 training runs, restart each until it ends, and compare it with an unbroken one.

usage: kill_and_resume.py BRAID [KILLS [SEED]]
The metrics file and the final weights must be equal bit for bit. Runs follow one another until KILLS (12) are done. Kills
are aimed in turn at a random moment, at a checkpoint that is being written, and at a step whose line was just logged. A
kill never tears a single write, but a machine that goes down does: after every fourth kill what the metrics hold beyond
the newest checkpoint is cut at a random byte. What each kill left behind is counted.
"""
import collections
import json
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
tensorboard = true
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
ephemeral_every = 2
max_shard_bytes = 100000
"""


def start(braid, recipe):
    return subprocess.Popen([braid, "train", recipe], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process):
    output = process.communicate()[0].decode(errors="replace")
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"train failed with {process.returncode}:\n{output}")
    if "damaged" in output:
        sys.exit(f"a kill damaged a checkpoint:\n{output}")
    return process.returncode == 0


def results(folder):
    run = folder / "run"
    files = [path.relative_to(run) for path in (run / "model").iterdir()]
    return {name: (run / name).read_bytes() for name in [pathlib.Path("metrics.jsonl"), *files]}


def prepare(folder, corpus):
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder, corpus=corpus))
    return folder


def unfinished(run):
    """A checkpoint, an old one's removal, or the trained model, begun and not ended."""
    return list((run / "checkpoints").glob(".unfinished-*")) + list(run.glob(".unfinished-*"))


def size(path):
    return path.stat().st_size if path.exists() else 0


def wait_and_kill(process, run, aim, rng, duration):
    """Kills the process at a moment of the kind `aim`, if one comes before it ends."""
    if aim == "any moment":
        time.sleep(rng.uniform(0.02, 0.6) * duration)
    else:
        skip = rng.randrange(8)  # such moments that pass by first
        metrics, seen = run / "metrics.jsonl", False
        before = size(metrics)
        while process.poll() is None:
            if aim == "checkpoint":
                now = bool(unfinished(run)) if run.exists() else False
                begins, seen = now and not seen, now
            else:
                begins, before = size(metrics) > before, max(before, size(metrics))
            if begins:
                skip -= 1
                if skip < 0:
                    time.sleep(rng.uniform(0, 0.004))
                    break
            time.sleep(0.0002)
    process.kill()


def newest_state(run):
    states = [json.loads((c / "training_state.json").read_text())
              for c in (run / "checkpoints").glob("step_*")] if run.exists() else []
    return max(states, key=lambda state: state["step"], default={"step": 0, "metrics_bytes": 0})


def look(run, tear, rng, left):
    """Counts what the kill left, and tears the metrics as a machine that goes down might."""
    metrics = run / "metrics.jsonl"
    if not metrics.exists():
        left["before the first step"] += 1
        return
    names = [path.name for path in unfinished(run)]
    safe = newest_state(run)["metrics_bytes"]
    text = metrics.read_bytes()
    if any(name.endswith("model") for name in names):
        left["in the final model's write"] += 1
    elif any("old-" in name for name in names):
        left["in an old checkpoint's removal"] += 1
    elif names:
        left["in a checkpoint's write"] += 1
    else:
        left["in a step or a validation"] += 1
    if not text.endswith(b"\n") and text:
        left["with a torn line"] += 1
    if len(text) > safe:
        left["with lines beyond the newest checkpoint"] += 1
        if tear:
            with metrics.open("r+b") as file:
                file.truncate(rng.randrange(safe, len(text)))
            left["with those lines torn on purpose"] += 1


def main():
    braid = sys.argv[1]
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    corpus = pathlib.Path(__file__).resolve().parents[2] / "data" / "quickstart.jsonl.zst"
    rng = random.Random(seed)
    left = collections.Counter()
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
                    aim = ("any moment", "checkpoint", "metrics")[done % 3]
                    wait_and_kill(process, folder / "run", aim, rng, duration)
                complete = finish(process)
                if not complete:
                    done += 1
                    look(folder / "run", done % 4 == 0, rng, left)
            got = results(folder)
            different = [str(key) for key in want if want[key] != got.get(key)]
            if different:
                sys.exit(f"after {done} kills (seed {seed}) these differ: {', '.join(different)}")
            shutil.rmtree(folder)
        print(f"{done} kills in {runs} runs (seed {seed}): metrics and weights bit-identical")
        for what, count in sorted(left.items(), key=lambda item: -item[1]):
            print(f"  {count:3d} {what}")


if __name__ == "__main__":
    main()
