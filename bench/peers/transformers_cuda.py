#!/usr/bin/env python3
"""Times Hugging Face transformers' OlmoHybridForCausalLM on one GPU: the published 7B shape, random bf16 weights.

usage: transformers_cuda.py [--train] [--prefill] [--decode] [--layers N] [--gdn auto|fla|torch] [--json FILE]

Without --train, --prefill or --decode all three are measured: forward+backward at batch 1 (no optimizer), reading a
prompt into the cache, and a greedy loop through the cache. The table names what the recurrent layers ran on.
"""
import argparse
import contextlib
import gc
import importlib.util
import inspect
import statistics
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache, OlmoHybridConfig
from transformers.models.olmo_hybrid import modeling_olmo_hybrid as modeling

import peer_cuda as peer

COLUMNS = ["measure", "B", "T", "gdn", "checkpointing", "milliseconds", "tokens/s", "peak GB"]
RULES = ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for measure in ("train", "prefill", "decode"):
        parser.add_argument(f"--{measure}", action="store_true")
    parser.add_argument("--layers", type=int, default=32, help="a multiple of 4 keeps the 3:1 pattern")
    parser.add_argument("--sequence", type=int, default=8192, help="tokens of train and prefill")
    parser.add_argument("--decode-batches", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--context", type=int, default=1024, help="tokens in the cache when decoding starts")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--gdn", default="auto", choices=["auto", "fla", "torch"])
    parser.add_argument("--checkpointing", default="auto", choices=["auto", "on", "off"],
                        help="of activations per layer; auto: only if the step does not fit without")
    parser.add_argument("--keep-guard", action="store_true", help="leave FLA's refused backward refused")
    parser.add_argument("--attention", default="sdpa", choices=["sdpa", "eager", "flash_attention_2"])
    parser.add_argument("--repeats", type=int, default=5, help="measured runs; the median is reported")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def config_7b(layers):
    """The published values; no rotary embedding, as in the released checkpoint."""
    return OlmoHybridConfig(
        vocab_size=100352, hidden_size=3840, intermediate_size=11008, num_hidden_layers=layers, num_attention_heads=30,
        num_key_value_heads=30, max_position_embeddings=65536, rms_norm_eps=1e-6, pad_token_id=100277,
        eos_token_id=100257, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": None},
        linear_num_key_heads=30, linear_num_value_heads=30, linear_key_head_dim=96, linear_value_head_dim=192,
        linear_conv_kernel_dim=4, linear_allow_neg_eigval=True)


def build_model(layers, attention):
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(config_7b(layers), dtype=torch.bfloat16, attn_implementation=attention)


def implementation(name):
    """Module that transformers resolved a kernel function to when it was imported."""
    function = inspect.getclosurevars(getattr(modeling, name)).nonlocals.get("implementation")
    return (function or getattr(modeling, name)).__module__


def choose_gdn(choice):
    """Name of what the recurrent layers run on; transformers takes FLA silently where it imports, and torch else."""
    has_fla = all(implementation(name).startswith("fla.") for name in RULES)
    if not has_fla and importlib.util.find_spec("fla"):
        print("fla is installed, but transformers did not take it: try `python3 -c 'import fla'` for the reason")
    if choice == "fla" and not has_fla:
        sys.exit("--gdn fla: flash-linear-attention is not usable here, see README.md")
    if has_fla and choice != "torch":
        return f"fla {peer.version('fla-core') or peer.version('flash-linear-attention')}"
    for name in RULES:
        setattr(modeling, name, inspect.unwrap(getattr(modeling, name)))
    return "torch loops"


def seconds_of(function, repeats, warmup=2):
    """Wall-clock seconds of each measured call, the device idle before and after."""
    seconds = []
    for i in range(warmup + repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        function()
        torch.cuda.synchronize()
        if i >= warmup:
            seconds.append(time.perf_counter() - begin)
    return seconds


def row_of(seconds, tokens, **fields):
    median = statistics.median(seconds)
    return {**fields, "milliseconds": median * 1e3, "tokens/s": tokens / median,
            "peak GB": torch.cuda.max_memory_allocated() / 1e9, "seconds": seconds}


def random_tokens(model, batch, length):
    return torch.randint(0, model.config.vocab_size, (batch, length), device="cuda")


def train_step(model, tokens):
    model.zero_grad(set_to_none=True)
    loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    return loss.detach()


def try_train(model, tokens, checkpointing, repeats):
    """(seconds of the runs, None), or (None, why there are none)."""
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()
    torch.cuda.reset_peak_memory_stats()
    try:
        seconds = seconds_of(lambda: train_step(model, tokens), repeats)
        loss = train_step(model, tokens).item()
        return (seconds, None) if loss == loss else (None, f"the loss is {loss}")
    except torch.OutOfMemoryError:
        return None, "out of memory"
    except RuntimeError as error:
        return None, str(error)


def measure_train(model, arguments, gdn):
    model.train()
    tokens = random_tokens(model, 1, arguments.sequence)
    modes = {"auto": [False, True], "on": [True], "off": [False]}[arguments.checkpointing]
    guard = contextlib.ExitStack()
    with guard:
        while modes:
            seconds, reason = try_train(model, tokens, modes[0], arguments.repeats)
            fields = {"measure": "forward+backward", "B": 1, "T": arguments.sequence, "gdn": gdn,
                      "checkpointing": "on" if modes[0] else "off"}
            if seconds:
                yield row_of(seconds, arguments.sequence, **fields)
                break
            print(f"forward+backward, gdn {gdn}, checkpointing {fields['checkpointing']}: {reason}")
            model.zero_grad(set_to_none=True)
            peer.free_memory()
            if peer.GUARD in reason and not arguments.keep_guard and "lifted" not in gdn:
                print("measuring with that guard lifted at tile 128; fla_cuda.py checks those gradients against f64")
                guard.enter_context(peer.without_guard(128))
                gdn += ", guard lifted"
            else:
                yield {**fields, "failed": reason}
                modes = modes[1:] if reason == "out of memory" else []
    model.gradient_checkpointing_disable()
    model.zero_grad(set_to_none=True)
    gc.collect()
    peer.free_memory()


@torch.inference_mode()
def measure_prefill(model, arguments, gdn):
    model.eval()
    tokens = random_tokens(model, 1, arguments.sequence)
    torch.cuda.reset_peak_memory_stats()
    seconds = seconds_of(lambda: model(tokens, use_cache=True, logits_to_keep=1), arguments.repeats)
    return row_of(seconds, arguments.sequence, measure="prefill", B=1, T=arguments.sequence, gdn=gdn)


@torch.inference_mode()
def decode_seconds(model, prompt, new_tokens):
    """Seconds of new_tokens greedy steps after the prompt has been read."""
    cache = DynamicCache(config=model.config)
    step = lambda tokens: model(tokens, past_key_values=cache, use_cache=True,
                                logits_to_keep=1).logits[:, -1].argmax(-1, True)
    token = step(prompt)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(new_tokens):
        token = step(token)
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure_decode(model, arguments, gdn, batch):
    model.eval()
    prompt = random_tokens(model, batch, arguments.context)
    torch.cuda.reset_peak_memory_stats()
    runs = [decode_seconds(model, prompt, arguments.new_tokens) for _ in range(1 + arguments.repeats)][1:]
    seconds = [run / arguments.new_tokens for run in runs]
    return row_of(seconds, batch, measure="decode step", B=batch, T=arguments.context, gdn=gdn)


def measurements(model, arguments, gdn):
    """Prefill first: FLA keeps the launch choices of its first call. Training last, as it may run out of memory."""
    everything = not (arguments.train or arguments.prefill or arguments.decode)
    if arguments.prefill or everything:
        yield measure_prefill(model, arguments, gdn)
        peer.free_memory()
    if arguments.decode or everything:
        for batch in arguments.decode_batches:
            yield measure_decode(model, arguments, gdn, batch)
            peer.free_memory()
    if arguments.train or everything:
        yield from measure_train(model, arguments, gdn)


def main():
    arguments = parse_arguments()
    peer.require_cuda()
    torch.manual_seed(arguments.seed)
    transformers.logging.set_verbosity_error()
    gdn = choose_gdn(arguments.gdn)
    conv = implementation("causal_conv1d_fn").split(".")[0].replace("transformers", "torch")
    model = build_model(arguments.layers, arguments.attention)
    parameters = sum(p.numel() for p in model.parameters())
    print(" ".join(f"{key}={value}" for key, value in peer.environment().items()))
    print(f"layers={arguments.layers} parameters={parameters} attention={arguments.attention} gdn={gdn} conv={conv}")
    rows = []
    for row in measurements(model, arguments, gdn):
        rows.append(row)
        print(f"done: {row['measure']} B {row['B']} T {row['T']} {peer.text(row.get('milliseconds'))} ms", flush=True)
    peer.print_table("transformers, bf16, median of wall-clock times", COLUMNS, rows)
    peer.write_json(arguments.json, layers=arguments.layers, parameters=parameters, attention=arguments.attention,
                    conv=conv, rows=rows)
    sys.exit(0 if any("milliseconds" in row for row in rows) else "nothing could be measured")


if __name__ == "__main__":
    main()
