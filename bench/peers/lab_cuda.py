#!/usr/bin/env python3
"""Times a training step of the lab's small models in transformers on one GPU, with flash-linear-attention where it has it.

usage: lab_cuda.py [--compile WORKERS] [--seconds S] [--most-seconds S] [--lengths T ...] [--json FILE]

4 layers of width 256 (configs/lab): Olmo3ForCausalLM for the transformer, OlmoHybridForCausalLM with three Gated DeltaNet
layers and one of attention for the hybrid. A step is forward, mean cross entropy, backward, clipping to norm 1 and fused
AdamW, on one dense batch of random tokens whose rows all have the same length, already on the device: nothing is padded,
masked, loaded or read back, which is the most that a batch of different lengths could reach. Measured with f32 weights
under bf16 autocast, as braid computes, and with bf16 weights.

FLA's autotuner tries some hundred variants of its kernels before the first step. With --compile so many processes compile
them into Triton's cache (TRITON_CACHE_DIR), each beginning elsewhere in the lists, and nothing is measured: a call without
--compile then only times them.
"""
import argparse
import contextlib
import statistics
import subprocess
import sys
import time

import torch
import transformers
from transformers import Olmo3Config, Olmo3ForCausalLM, OlmoHybridConfig, OlmoHybridForCausalLM

import peer_cuda as peer
import transformers_cuda as large

COLUMNS = ["model", "weights", "B", "T", "milliseconds", "steps/s", "tokens/s", "steps measured", "failed"]
# Tokens of a row, and words: braid's swaps at n = 8 and 64 with reveals, recall of 128 bits.
CASES = [("swaps n 8", 96, 64), ("swaps n 64", 544, 64), ("recall m 128", 272, 192)]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lengths", type=int, nargs=3, default=[length for _, length, _ in CASES],
                        help="tokens of a row in the three cases")
    parser.add_argument("--models", nargs="*", default=["transformer", "hybrid"], choices=["hybrid", "transformer"])
    parser.add_argument("--cases", type=int, nargs="*", default=[0, 1, 2], choices=[0, 1, 2], help="places in that list")
    parser.add_argument("--seconds", type=float, default=2, help="of measured steps for each row of the table")
    parser.add_argument("--most-seconds", type=float, default=120, help="no row is begun after that time")
    parser.add_argument("--device", default="cuda", help="cpu: only to see that the models build and train")
    parser.add_argument("--compile", type=int, metavar="WORKERS", help="only fill Triton's cache, within --most-seconds")
    parser.add_argument("--seven-b", action="store_true", help="with --compile: also for transformers_cuda.py's defaults")
    parser.add_argument("--share", type=int, default=None, help=argparse.SUPPRESS)  # of the compiling, this worker's
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def build(model, words):
    common = dict(vocab_size=words, hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4,
                  num_key_value_heads=4, max_position_embeddings=4096, rms_norm_eps=1e-6, pad_token_id=0,
                  eos_token_id=None, tie_word_embeddings=False)
    if model == "transformer":
        return Olmo3ForCausalLM._from_config(Olmo3Config(**common, layer_types=["full_attention"] * 4),
                                             attn_implementation="sdpa")
    config = OlmoHybridConfig(
        **common, linear_num_key_heads=4, linear_num_value_heads=4, linear_key_head_dim=64, linear_value_head_dim=128,
        linear_conv_kernel_dim=4, linear_allow_neg_eigval=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        layer_types=["linear_attention"] * 3 + ["full_attention"])
    return OlmoHybridForCausalLM._from_config(config, attn_implementation="sdpa")


class Training:
    """A model with its optimiser and one batch."""

    def __init__(self, model, words, batch, length, weights, device):
        self.model = build(model, words).to(device=device, dtype=weights).train()
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=3e-4, betas=(0.9, 0.999), weight_decay=0, fused=True)
        self.tokens = torch.randint(0, words, (batch, length), device=device)
        self.autocast = weights == torch.float32
        self.device = device

    def step(self):
        with torch.autocast(self.device, dtype=torch.bfloat16) if self.autocast else contextlib.nullcontext():
            loss = self.model(input_ids=self.tokens, labels=self.tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def block_seconds(training, budget, warmup=5, block=10):
    """Seconds of a step, the mean of each block of steps that the device runs through without waiting."""
    for _ in range(warmup):
        loss = training.step()
    if not torch.isfinite(loss).item():
        raise RuntimeError(f"the loss is {loss.item()}")
    synchronize(training.device)
    seconds, end = [], time.perf_counter() + budget
    while not seconds or (time.perf_counter() < end and len(seconds) < 100):
        begin = time.perf_counter()
        for _ in range(block):
            training.step()
        synchronize(training.device)
        seconds.append((time.perf_counter() - begin) / block)
    return seconds, block * len(seconds)


def measure(model, name, words, length, weights, arguments):
    fields = {"model": f"{model}, {name}", "weights": "bf16" if weights == torch.bfloat16 else "f32, autocast",
              "B": arguments.batch, "T": length}
    try:
        training = Training(model, words, arguments.batch, length, weights, arguments.device)
        seconds, steps = block_seconds(training, arguments.seconds)
    except Exception as error:  # a row that cannot be measured says why, the others go on
        return {**fields, "failed": peer.first_line(error)}
    median = statistics.median(seconds)
    return {**fields, "milliseconds": median * 1e3, "steps/s": 1 / median,
            "tokens/s": arguments.batch * length / median, "steps measured": steps}


def compile_in_parallel(arguments):
    """Starts the workers and ends those that have not finished in time."""
    begin = time.perf_counter()
    workers = [subprocess.Popen([sys.executable, *sys.argv, "--share", str(share)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
               for share in range(arguments.compile)]
    finished, error = 0, ""
    for worker in workers:
        try:
            _, text = worker.communicate(timeout=max(0.1, arguments.most_seconds - (time.perf_counter() - begin)))
            finished += worker.returncode == 0
            error = error or (text.decode(errors="replace").strip().splitlines() or [""])[-1] * (worker.returncode != 0)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.communicate()
    print(f"{finished} of {len(workers)} workers compiled everything in {time.perf_counter() - begin:.0f} s {error}")


def compile_seven_b():
    """FLA's calls at the 7B's shapes: prompts with the state out, one token with it in and out, forward and backward."""
    import fla_cuda as shapes
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule, fused_recurrent_gated_delta_rule
    with torch.inference_mode():
        for batch, length in ((1, 8192), (1, 1024), (16, 1024)):
            q, k, v, g, beta, _ = shapes.random_inputs(batch, length, 1)
            chunk_gated_delta_rule(q=q, k=k, v=v, g=g, beta=beta, output_final_state=True, use_qk_l2norm_in_kernel=True)
        for batch in (1, 16):
            shapes.run(fused_recurrent_gated_delta_rule, shapes.random_inputs(batch, 1, 1))
    shapes.train_call(chunk_gated_delta_rule, shapes.random_inputs(1, 8192, 1))()


def compile_share(arguments):
    """One step of the hybrid, where every kernel is compiled and run once, but nothing is timed or remembered."""
    from triton.runtime.autotuner import Autotuner
    run = Autotuner.run

    def run_rotated(self, *args, **kwargs):
        if not hasattr(self, "rotated_by"):
            self.rotated_by = len(self.configs) * arguments.share // arguments.compile
            self.configs = self.configs[self.rotated_by:] + self.configs[:self.rotated_by]
            self.cache_results = False
        return run(self, *args, **kwargs)

    def call_once(call, quantiles):
        call()
        return [1.0] * len(quantiles)

    Autotuner.run = run_rotated
    Autotuner.do_bench = property(lambda self: call_once)
    with peer.without_guard(128):
        for case in arguments.cases:  # l2norm's key holds the number of tokens in steps, so lengths differ
            for weights in (torch.float32, torch.bfloat16):
                Training("hybrid", CASES[case][2], arguments.batch, arguments.lengths[case], weights, "cuda").step()
        if arguments.seven_b:
            compile_seven_b()
    torch.cuda.synchronize()


def main():
    arguments = parse_arguments()
    if arguments.share is not None:
        return compile_share(arguments)
    if arguments.compile:
        return compile_in_parallel(arguments)
    if arguments.device == "cuda":
        peer.require_cuda()
        print(" ".join(f"{key}={value}" for key, value in peer.environment().items()))
    torch.manual_seed(arguments.seed)
    transformers.logging.set_verbosity_error()
    gdn = large.choose_gdn("auto")
    conv = large.implementation("causal_conv1d_fn").split(".")[0].replace("transformers", "torch")
    print(f"gdn={gdn} conv={conv} batch={arguments.batch}", flush=True)
    rows, begin, guard = [], time.perf_counter(), contextlib.ExitStack()
    cases = [(name, length, words) for (name, _, words), length in zip(CASES, arguments.lengths)]
    cases = [cases[case] for case in arguments.cases]
    with guard:
        for model in arguments.models:
            for name, length, words in cases:
                for weights in (torch.float32, torch.bfloat16):
                    if time.perf_counter() - begin > arguments.most_seconds:
                        print(f"not measured for want of time: {model}, {name}, {weights}")
                        continue
                    row = measure(model, name, words, length, weights, arguments)
                    if peer.GUARD in row.get("failed", ""):
                        print("measuring with FLA's guard lifted at tile 128 (fla_cuda.py checks such gradients)")
                        guard.enter_context(peer.without_guard(128))
                        row = measure(model, name, words, length, weights, arguments)
                    rows.append(row)
                    print(f"done after {time.perf_counter() - begin:.0f} s: {row['model']}, {row['weights']}: "
                          f"{peer.text(row.get('milliseconds'))} ms {row.get('failed', '')}", flush=True)
                    if arguments.device == "cuda":
                        peer.free_memory()
    peer.print_table("transformers, a training step; median of blocks of 10", COLUMNS, rows)
    if arguments.device == "cuda":
        peer.write_json(arguments.json, gdn=gdn, conv=conv, rows=rows)
    sys.exit(0 if any("milliseconds" in row for row in rows) else "nothing could be measured")


if __name__ == "__main__":
    main()
