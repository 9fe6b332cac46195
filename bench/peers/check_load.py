#!/usr/bin/env python3
"""Check that transformers loads a model directory that braid wrote and computes the same logits.

usage: check_load.py MODEL_DIR --inputs FILE.safetensors --outputs FILE.safetensors [--rms 1e-4] [--worst 1e-3]

--inputs holds `input_ids` ([tokens] or [batch, tokens], any integer type), --outputs holds `logits` with one more
dimension (what `braid dump` writes); both may be the same file. Exit status: 0 when every key was found, none was left
over and both errors are within their limits, 1 otherwise.
  relative RMS = rms(logits - expected) / rms(expected)
  worst        = max |logits - expected| / rms(expected)
"""
import argparse
import sys

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model directory")
    parser.add_argument("--inputs", required=True)
    parser.add_argument("--outputs", required=True)
    parser.add_argument("--dtype", default="f32", choices=DTYPES, help="type transformers computes in")
    parser.add_argument("--rms", type=float, default=1e-4)
    parser.add_argument("--worst", type=float, default=1e-3)
    return parser.parse_args()


def tensor_of(path, name):
    tensors = load_file(path)
    if name not in tensors:
        sys.exit(f"{path}: no tensor `{name}`; it holds {', '.join(sorted(tensors))}")
    return tensors[name]


def key_problems(report):
    """Everything that from_pretrained would forgive: a wrong name leaves a randomly initialised tensor behind."""
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
    return [f"{kind}: {sorted(map(str, report[kind]))}" for kind in kinds if report.get(kind)]


def main():
    arguments = parse_arguments()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokens = tensor_of(arguments.inputs, "input_ids").long()
    expected = tensor_of(arguments.outputs, "logits").double()
    tokens, expected = (tokens[None], expected[None]) if tokens.ndim == 1 else (tokens, expected)

    model, report = AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=DTYPES[arguments.dtype], attn_implementation="eager", output_loading_info=True)
    problems = key_problems(report)
    with torch.inference_mode():
        logits = model.eval()(tokens, use_cache=False).logits.double()
    if logits.shape != expected.shape:
        sys.exit(f"{arguments.outputs}: logits have shape {list(expected.shape)}, transformers computes "
                 f"{list(logits.shape)}")
    scale = expected.square().mean().sqrt()
    difference = logits - expected
    rms = (difference.square().mean().sqrt() / scale).item()
    worst = (difference.abs().max() / scale).item()
    # Written so that NaN fails.
    if not rms <= arguments.rms:
        problems.append(f"relative RMS {rms:.3e} above {arguments.rms:.1e}")
    if not worst <= arguments.worst:
        problems.append(f"worst error {worst:.3e} above {arguments.worst:.1e}")

    print(f"{arguments.model}: {model.config.model_type}, logits {list(logits.shape)}, relative RMS {rms:.3e}, "
          f"worst / RMS {worst:.3e}: {'FAILED' if problems else 'ok'}")
    for problem in problems:
        print(f"  {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
