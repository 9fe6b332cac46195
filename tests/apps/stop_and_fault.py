#!/usr/bin/env python3
"""Signals, full disks and damage, as a cluster and its disks bring them to `braid train`.

usage: stop_and_fault.py BRAID [TEST]
Every run must end with the metrics and weights of an unbroken one, bit for bit.
"""
import json
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from kill_and_resume import prepare, results, size

REQUEUE = 75
KEEP_ALL = ["--set", "checkpoint.keep=0"]


def expect(condition, what, output=""):
    if not condition:
        sys.exit(f"FAILED: {what}\n{output}")


def start(braid, folder, *options):
    return subprocess.Popen([braid, "train", folder / "recipe.toml", *options], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def end(process):
    output = process.communicate()[0].decode(errors="replace")
    return process.returncode, output


def wait_until(condition, process, what):
    while not condition():
        expect(process.poll() is None, f"the run ended before {what}")
        time.sleep(0.0005)


def finish_and_compare(braid, folder, want, what, *options):
    code, output = end(start(braid, folder, *options))
    expect(code == 0, f"{what}: the run that goes on ended with {code}", output)
    got = results(folder)
    different = [str(key) for key in want if want[key] != got.get(key)]
    expect(not different, f"{what}: these differ: {', '.join(different)}", output)
    return output


def newest(run):
    return max((run / "checkpoints").glob("step_*"), key=lambda path: path.name)


def test_signal(braid, folder, want, number):
    run = folder / "run"
    process = start(braid, folder)
    wait_until(lambda: size(run / "metrics.jsonl") > 1500, process, "the signal")
    process.send_signal(number)
    code, output = end(process)
    expect(code == REQUEUE, f"{number.name}: exit code {code}, not {REQUEUE}", output)
    expect(number.name in output, f"{number.name} is not named", output)
    state = json.loads((newest(run) / "training_state.json").read_text())
    expect(state["metrics_bytes"] == size(run / "metrics.jsonl"), f"{number.name}: metrics beyond the checkpoint")
    output = finish_and_compare(braid, folder, want, number.name)
    expect(f"resuming after step {state['step']}" in output, f"{number.name}: resumed elsewhere", output)


def test_two_signals(braid, folder, want):
    """The second SIGTERM ends the process, here while it is still reading its documents; other kinds are independent."""
    process = start(braid, folder)
    time.sleep(0.05)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.005)
    expect(process.wait() == -signal.SIGTERM, f"two SIGTERM: exit code {process.returncode}")
    finish_and_compare(braid, folder, want, "two SIGTERM")


def test_file_size_limit(braid, folder, want):
    """No file may grow beyond 20 kB for a while: weights do not fit, the logs do."""
    run = folder / "run"
    process = start(braid, folder)
    wait_until(lambda: any((run / "checkpoints").glob("step_*")) if run.exists() else False, process, "the limit")
    hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, hard))
    lines = []
    for line in process.stdout:
        lines.append(line.decode(errors="replace"))
        if "could not be written" in lines[-1]:
            break
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    code, output = end(process)
    output = "".join(lines) + output
    expect(code == 0 and "warning: the checkpoint of step" in output and "is kept" in output,
           f"file size limit: exit code {code}, or no warning", output)
    finish_and_compare(braid, folder, want, "file size limit")


def test_full_disk(braid, folder, want):
    """A tmpfs with room for two checkpoints of 0.85 MB, but then for no third one, nor for the model."""
    run = folder / "run"
    run.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1900k", "tmpfs", run], capture_output=True, text=True)
    if mount.returncode != 0:
        return f"not run: mount says '{mount.stderr.strip()}'"
    try:
        code, output = end(start(braid, folder, *KEEP_ALL))
        expect(code == 1, f"full disk: exit code {code}", output)
        expect("No space left on device" in output and "warning: the checkpoint of step" in output, "full disk: no warning",
               output)
        expect("the trained model could not be written" in output, "full disk: the end is not reported", output)
        expect(not list(run.glob("**/.unfinished-*")) and not (run / "model").exists(), "full disk: leftovers", output)
        before = newest(run).name
        subprocess.run(["mount", "-o", "remount,size=64m", run], check=True)
        output = finish_and_compare(braid, folder, want, "full disk", *KEEP_ALL)
        expect(f"resuming after step {int(before[5:])}" in output, "full disk: resumed elsewhere", output)
        expect("warning" not in output, "full disk: warnings with room", output)
    finally:
        subprocess.run(["umount", run], check=True)
    return "a tmpfs was full"


def test_damage(braid, folder, want):
    """A weight shard changed by a byte, a shard of moments cut, the state removed: named, and the checkpoint before used.

    tests/train/checkpoint_test.cpp does this to every file, without training on.
    """
    run, damage = folder / "run", 0
    process = start(braid, folder, *KEEP_ALL)
    wait_until(lambda: size(run / "metrics.jsonl") > 3000, process, "the signal")
    process.send_signal(signal.SIGUSR1)
    code, output = end(process)
    expect(code == REQUEUE, f"damage: exit code {code}", output)
    kept = folder / "kept"
    shutil.copytree(run, kept)
    before = sorted(path.name for path in (run / "checkpoints").iterdir())[-2]
    shards = [sorted(path.name for path in newest(run).glob(f"{stem}-*.safetensors"))[1] for stem in ("model", "optimizer")]
    for name in [*shards, "training_state.json"]:
        shutil.rmtree(run)
        shutil.copytree(kept, run)
        path = newest(run) / name
        data = bytearray(path.read_bytes())
        if damage % 3 == 0:
            data[(damage * 7919) % len(data)] ^= 1 << damage % 8
        elif damage % 3 == 1:
            del data[len(data) // 2:]
        path.write_bytes(data)
        if damage % 3 == 2:
            path.unlink()
        damage += 1
        output = finish_and_compare(braid, folder, want, f"damaged {name}", *KEEP_ALL)
        expect(any("damaged" in line and name in line for line in output.splitlines()), f"{name} is not named", output)
        expect(f"resuming after step {int(before[5:])}" in output, f"damaged {name}: resumed elsewhere", output)
    return f"{damage} files"


def main():
    braid = sys.argv[1]
    corpus = pathlib.Path(__file__).resolve().parents[2] / "data" / "quickstart.jsonl.zst"
    with tempfile.TemporaryDirectory() as name:
        unbroken = prepare(pathlib.Path(name) / "unbroken", corpus)
        code, output = end(start(braid, unbroken))
        expect(code == 0, "the unbroken run failed", output)
        want = results(unbroken)
        tests = {"SIGTERM": lambda folder: test_signal(braid, folder, want, signal.SIGTERM),
                 "SIGUSR1": lambda folder: test_signal(braid, folder, want, signal.SIGUSR1),
                 "two signals": lambda folder: test_two_signals(braid, folder, want),
                 "file size limit": lambda folder: test_file_size_limit(braid, folder, want),
                 "full disk": lambda folder: test_full_disk(braid, folder, want),
                 "damage": lambda folder: test_damage(braid, folder, want)}
        for what, test in tests.items():
            if len(sys.argv) > 2 and sys.argv[2] != what:
                continue
            folder = prepare(pathlib.Path(name) / what.replace(" ", "_"), corpus)
            note = test(folder)
            print(f"{what}: {note or 'as it should be'}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    print("metrics and weights bit-identical throughout")


if __name__ == "__main__":
    main()
