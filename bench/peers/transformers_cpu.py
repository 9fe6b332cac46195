#!/usr/bin/env python3
"""Training and decoding rate of Hugging Face transformers on the CPU, for comparison with `braid bench`.

usage: transformers_cpu.py train  MODEL --threads N [--batch B] [--sequence T] [--steps S]
       transformers_cpu.py decode MODEL --threads N [--dtype bf16|f32] [--prompt P] [--new-tokens M]

MODEL is a model directory or a config.json; without weight files the weights are drawn at random from the config.
One JSON object per measurement goes to stdout, the table for people to stderr.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import time

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, StoppingCriteria, StoppingCriteriaList

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="forward, loss, backward, clip, AdamW")
    decode = commands.add_parser("decode", help="greedy decoding through the cache, batch 1, prefill not counted")
    for command in (train, decode):
        command.add_argument("model", help="model directory or config.json")
        command.add_argument("--threads", type=int, default=os.cpu_count())
        command.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"])
        command.add_argument("--seed", type=int, default=1)
    train.add_argument("--dtype", default="f32", choices=DTYPES)
    train.add_argument("--batch", type=int, default=4)
    train.add_argument("--sequence", type=int, default=512)
    train.add_argument("--steps", type=int, default=7, help="measured steps; the median is reported")
    train.add_argument("--warmup", type=int, default=2)
    train.add_argument("--learning-rate", type=float, default=3e-4)
    decode.add_argument("--dtype", default="bf16", choices=DTYPES)
    decode.add_argument("--prompt", type=int, default=16)
    decode.add_argument("--new-tokens", type=int, default=64)
    decode.add_argument("--repeats", type=int, default=5, help="measured runs; the median is reported")
    decode.add_argument("--warmup", type=int, default=1)
    return parser.parse_args()


def load_model(path, dtype, attention):
    """Returns the model and whether its weights came from files or from the config's initialiser."""
    directory = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) and any(os.path.exists(os.path.join(directory, name)) for name in WEIGHT_FILES):
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation=attention)
        return model, "file"
    config = AutoConfig.from_pretrained(path)
    return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention), "random"


def random_tokens(model, batch, length, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.config.vocab_size, (batch, length), generator=generator)


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": len(values)}


def time_train(model, tokens, steps, warmup, learning_rate):
    """Seconds of each measured step and the loss before each step, warm-up included."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), eps=1e-8,
                                  weight_decay=0.1, fused=True)
    seconds, losses = [], []
    for step in range(warmup + steps):
        begin = time.perf_counter()
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step >= warmup:
            seconds.append(time.perf_counter() - begin)
    if not all(map(lambda x: x == x and abs(x) < 1e30, losses)):
        sys.exit(f"training diverged, the rate would mean nothing: losses {losses}")
    return seconds, losses


def decode_loop(model, prompt, new_tokens):
    """Greedy loop by hand. Returns (seconds of new_tokens single-token steps, the tokens); prefill not counted."""
    cache = DynamicCache(config=model.config)
    token = model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1, True)
    out = [token]
    begin = time.perf_counter()
    for _ in range(new_tokens):
        logits = model(token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        token = logits[:, -1].argmax(-1, True)
        out.append(token)
    return time.perf_counter() - begin, torch.cat(out, 1)[0].tolist()


class TokenClock(StoppingCriteria):
    """Notes the time after each generated token; never stops generation."""

    def __init__(self):
        self.times = []

    def __call__(self, input_ids, scores, **_):
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def decode_generate(model, prompt, new_tokens):
    """The same through generate(): the first token ends the prefill, the clock covers the new_tokens after it."""
    clock = TokenClock()
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new_tokens + 1,
                         do_sample=False, stopping_criteria=StoppingCriteriaList([clock]))
    return clock.times[-1] - clock.times[0], out[0, prompt.shape[1]:].tolist()


def measure_train(arguments, model):
    tokens = random_tokens(model, arguments.batch, arguments.sequence, arguments.seed)
    seconds, losses = time_train(model, tokens, arguments.steps, arguments.warmup, arguments.learning_rate)
    time_summary = summary(seconds)
    yield {"method": "step", "batch": arguments.batch, "sequence": arguments.sequence,
           "tokens_per_second": arguments.batch * arguments.sequence / time_summary["median"],
           "step_seconds": time_summary, "first_loss": losses[0], "last_loss": losses[-1]}


def measure_decode(arguments, model):
    model.eval()
    # A random model may pick the end token: without one both methods produce exactly new_tokens tokens.
    model.generation_config.eos_token_id = None
    prompt = random_tokens(model, 1, arguments.prompt, arguments.seed)
    count = arguments.new_tokens
    methods = {"generate": lambda: decode_generate(model, prompt, count),
               "loop": lambda: decode_loop(model, prompt, count)}
    produced = {}
    for method, run in methods.items():
        with torch.inference_mode():
            runs = [run() for _ in range(arguments.warmup + arguments.repeats)][arguments.warmup:]
        produced[method] = runs[-1][1]
        time_summary = summary([seconds for seconds, _ in runs])
        yield {"method": method, "prompt": arguments.prompt, "new_tokens": count,
               "tokens_per_second": count / time_summary["median"], "run_seconds": time_summary}
    if produced["loop"] != produced["generate"]:
        sys.exit("generate() and the loop decoded different tokens: the rates are not comparable")


def print_table(rows):
    print(f"{'measure':8} {'method':14} {'dtype':5} {'threads':>7} {'tokens/s':>12}", file=sys.stderr)
    for row in rows:
        mark = "  *" if row["best"] else ""
        print(f"{row['measure']:8} {row['method']:14} {row['dtype']:5} {row['threads']:7d} "
              f"{row['tokens_per_second']:12.2f}{mark}", file=sys.stderr)


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(arguments.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model, weights = load_model(arguments.model, DTYPES[arguments.dtype], arguments.attention)
    common = {"measure": arguments.command, "dtype": arguments.dtype, "threads": arguments.threads,
              "attention": arguments.attention, "weights": weights, "model_type": model.config.model_type,
              "parameters": sum(p.numel() for p in model.parameters()), "torch": torch.__version__,
              "transformers": transformers.__version__}
    measure = measure_train if arguments.command == "train" else measure_decode
    rows = [{**common, **row} for row in measure(arguments, model)]
    best = max(row["tokens_per_second"] for row in rows)
    for row in rows:
        row["best"] = row["tokens_per_second"] == best
        row["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # of the whole process
        print(json.dumps(row), flush=True)
    print_table(rows)


if __name__ == "__main__":
    main()
