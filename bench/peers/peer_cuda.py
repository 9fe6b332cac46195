"""Shared by the *_cuda.py peers: timing, errors against f64, the FLA guard, tables and JSON."""
import contextlib
import gc
import importlib
import importlib.metadata
import json
import statistics
import sys

import torch

GUARD = "chunk_bwd_dqkwg"  # the kernel FLA 0.5 refuses to run on Hopper with Triton 3.4 to 3.7.0 (FLA issue 640)
TILE_ARCHITECTURES = {128: ("hopper", "ada"), 64: ("ada",), 32: ()}  # answers of check_shared_mem that pick the tile


def require_cuda():
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: this benchmark runs on a GPU only")


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment():
    device = torch.cuda.get_device_properties(0)
    packages = ("triton", "transformers", "flash-linear-attention", "fla-core", "causal-conv1d")
    return {"device": device.name, "memory_bytes": device.total_memory, "l2_bytes": device.L2_cache_size,
            "multiprocessors": device.multi_processor_count, "torch": torch.__version__, "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(), **{name: version(name) for name in packages}}


def relative_rms(value, reference):
    """||value - reference|| / ||reference|| in f64; NaN stays NaN."""
    value, reference = value.detach().double(), reference.detach().double()
    return ((value - reference).norm() / reference.norm()).item()


def eager_ms(function, milliseconds=400):
    """Median of single calls between CUDA events, the L2 cache flushed before each (triton's do_bench)."""
    from triton.testing import do_bench
    return do_bench(function, warmup=100, rep=milliseconds, return_mode="median")


def graph_ms(calls, milliseconds=400):
    """Median time per call of a CUDA graph holding all calls, so that launching from Python costs nothing.

    Calls on different buffers, together larger than the L2 cache, keep it from serving the data.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for call in calls:
            call()
    samples = []
    while len(samples) < 12 or (sum(samples) < milliseconds and len(samples) < 300):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        samples.append(begin.elapsed_time(end))
    return statistics.median(samples[2:]) / len(calls)


def free_memory():
    gc.collect()
    torch.cuda.empty_cache()


def first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextlib.contextmanager
def without_guard(tile):
    """Runs FLA's gated delta rule backward although FLA refuses this Triton, with the given tile of `GUARD`.

    The miscompiled tile is 64. FLA itself picks 128 at key width 96 on Hopper, so lifting the guard there changes no
    kernel; the caller must still have checked the gradients.
    """
    chunk_o = importlib.import_module("fla.ops.common.chunk_o")
    rule = importlib.import_module("fla.ops.gated_delta_rule.chunk")
    kernel, above, memory = rule.chunk_bwd_dqkwg, chunk_o.TRITON_ABOVE_3_7_1, chunk_o.check_shared_mem

    def tiled(*args, **kwargs):
        # Only around this kernel: the others keep the tiles FLA chose.
        chunk_o.check_shared_mem = lambda arch="none", *_: arch in TILE_ARCHITECTURES[tile]
        try:
            return kernel(*args, **kwargs)
        finally:
            chunk_o.check_shared_mem = memory

    chunk_o.TRITON_ABOVE_3_7_1, rule.chunk_bwd_dqkwg = True, tiled
    try:
        yield
    finally:
        chunk_o.TRITON_ABOVE_3_7_1, rule.chunk_bwd_dqkwg = above, kernel


def text(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_table(title, columns, rows):
    """rows are dictionaries; columns their keys, also the header."""
    cells = [columns] + [[text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    print(f"\n{title}")
    for line in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip(), flush=True)


def write_json(path, **content):
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"environment": environment(), **content}, file, indent=1)
            file.write("\n")
