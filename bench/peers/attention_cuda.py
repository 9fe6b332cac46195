#!/usr/bin/env python3
"""Times PyTorch's fused attention at the Olmo Hybrid 7B shape, and the ceilings of the GPU.

usage: attention_cuda.py [--length 8192] [--json FILE]

Batch 1, 30 heads of 128, causal, bf16, the flash and cuDNN backends, forward and forward+backward, each first compared
with f64 at 1024 tokens. Ceilings: an 8192^3 bf16 matrix product on random data and a 4 GB copy within the device.
"""
import argparse
import contextlib

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import peer_cuda as peer

HEADS, DIM = 30, 128
DEVICE = "cuda"
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
LIMIT = 1e-2  # relative RMS error of bf16 attention and its gradients


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def random_qkv(length):
    """Three [1, H, T, D] views of [1, T, H, D] memory, as a model's projections leave them, and dO alike."""
    return [torch.randn(1, length, HEADS, DIM, device=DEVICE).bfloat16().transpose(1, 2) for _ in range(4)]


def exact_attention(q, k, v):
    scores = (q @ k.transpose(-1, -2)) * DIM**-0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=DEVICE).triu(1)
    return scores.masked_fill(future, float("-inf")).softmax(-1) @ v


def with_gradients(function, q, k, v, upstream):
    wanted = [x.detach().requires_grad_() for x in (q, k, v)]
    output = function(*wanted)
    return [output, *torch.autograd.grad(output, wanted, upstream)]


def fused(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def check(length=1024):
    tensors = random_qkv(length)
    exact = with_gradients(exact_attention, *(x.double() for x in tensors))
    found = with_gradients(fused, *tensors)
    errors = {name: peer.relative_rms(a, b) for name, a, b in zip(("o", "dq", "dk", "dv"), found, exact)}
    return {**errors, "verdict": "pass" if all(error <= LIMIT for error in errors.values()) else "FAIL"}


def time_backend(name, length):
    """Rows of one backend; causal work counted as half of the square, the backward as 2.5 forwards."""
    flops = 2 * 2 * length * length * DIM * HEADS / 2
    q, k, v, upstream = random_qkv(length)
    wanted = [x.detach().requires_grad_() for x in (q, k, v)]
    calls = {"forward": (lambda: fused(q, k, v), flops),
             "forward+backward": (lambda: torch.autograd.grad(fused(*wanted), wanted, upstream), 3.5 * flops)}
    for measure, (call, work) in calls.items():
        milliseconds = peer.eager_ms(call)
        yield {"backend": name, "pass": measure, "T": length, "ms": milliseconds, "TFLOP/s": work / milliseconds * 1e-9}


def attention_rows(length):
    checks, rows = [], []
    for name, backend in BACKENDS.items():
        with contextlib.ExitStack() as stack:
            stack.enter_context(sdpa_kernel(backend))
            try:
                checks.append({"backend": name, **check()})
                rows += time_backend(name, length)
            except RuntimeError as error:
                print(f"REFUSED {name}: {peer.first_line(error)}")
                rows.append({"backend": name, "pass": "refused", "T": length, "reason": str(error)})
    return checks, rows


def ceiling_rows(size=8192, copy_bytes=4 * 10**9):
    a, b = (torch.randn(size, size, device=DEVICE).bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    milliseconds = peer.eager_ms(lambda: torch.mm(a, b, out=out))
    yield {"ceiling": f"{size}^3 bf16 product", "ms": milliseconds, "rate": 2 * size**3 / milliseconds * 1e-9,
           "unit": "TFLOP/s"}
    source = torch.randint(0, 256, (copy_bytes,), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    milliseconds = peer.eager_ms(lambda: target.copy_(source))
    yield {"ceiling": f"{copy_bytes / 1e9:g} GB copy, read + write", "ms": milliseconds,
           "rate": 2 * copy_bytes / milliseconds * 1e-9, "unit": "TB/s"}


def main():
    arguments = parse_arguments()
    peer.require_cuda()
    torch.manual_seed(arguments.seed)
    print(" ".join(f"{key}={value}" for key, value in peer.environment().items()))
    checks, rows = attention_rows(arguments.length)
    ceilings = list(ceiling_rows())
    peer.print_table("relative RMS error against f64", ["backend", "o", "dq", "dk", "dv", "verdict"], checks)
    peer.print_table("scaled_dot_product_attention, B 1, H 30, D 128, causal, bf16, median time",
                     ["backend", "pass", "T", "ms", "TFLOP/s"], rows)
    peer.print_table("ceilings of the device, median time", ["ceiling", "ms", "rate", "unit"], ceilings)
    peer.write_json(arguments.json, checks=checks, attention=rows, ceilings=ceilings)
    if any(row["verdict"] != "pass" for row in checks):
        raise SystemExit("attention differs from f64")


if __name__ == "__main__":
    main()
