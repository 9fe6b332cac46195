#!/usr/bin/env python3
"""Tokenising rate of Hugging Face tokenizers on one core, for comparison with `braid data build --workers 1`.

usage: tokenizers_cpu.py TOKENIZER.json DOCUMENTS.jsonl[.zst|.gz] [--repeats N] [--batch] [--check TOKENS.u16|.u32]

TOKENIZER.json may be gzipped. --check compares the ids with a token file that braid built from the same documents
with --validation-fraction 0, every document closed by the end of text; a difference is an error. MB are of text.
"""
import argparse
import array
import gzip
import json
import os
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers


def read_lines(path):
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq", path], stdout=subprocess.PIPE, check=True).stdout.splitlines()
    with (gzip.open(path) if path.endswith(".gz") else open(path, "rb")) as f:
        return f.read().splitlines()


def load(path):
    with (gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")) as f:
        return tokenizers.Tokenizer.from_str(f.read())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer")
    parser.add_argument("documents")
    parser.add_argument("--repeats", type=int, default=5, help="the best is reported")
    parser.add_argument("--batch", action="store_true", help="encode_batch_fast of all documents at once")
    parser.add_argument("--check", help="token file of braid to compare with")
    parser.add_argument("--end-of-text", default="<|endoftext|>")
    options = parser.parse_args()
    tokenizer, lines = load(options.tokenizer), read_lines(options.documents)

    def run():
        begin = time.perf_counter()
        texts = [t for t in (json.loads(line)["text"] for line in lines if line.strip()) if t]
        parsed, cpu = time.perf_counter(), time.process_time()
        if options.batch:
            encoded = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        else:
            encoded = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        return encoded, texts, parsed - begin, time.perf_counter() - parsed, time.process_time() - cpu

    runs = [run() for _ in range(options.repeats)]
    encoded, texts = runs[0][:2]
    size = sum(len(t.encode()) for t in texts)
    best, cpu = min(run[3] for run in runs), min(run[4] for run in runs)
    print(json.dumps({"tokenizers": tokenizers.__version__, "documents": len(texts), "text_bytes": size,
                      "tokens": sum(map(len, encoded)), "encode_seconds": best, "encode_mb_per_second": size / best / 1e6,
                      "with_json_mb_per_second": size / min(run[2] + run[3] for run in runs) / 1e6,
                      "encode_mb_per_cpu_second": size / cpu / 1e6}))
    if options.check:
        end = tokenizer.token_to_id(options.end_of_text)
        want = array.array("H" if options.check.endswith(".u16") else "I")
        with open(options.check, "rb") as f:
            want.frombytes(f.read())
        got = array.array(want.typecode, (i for ids in encoded for i in (*ids, end)))
        if got != want:
            place = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
            sys.exit(f"{options.check}: differs at token {place}; {len(got)} ids here, {len(want)} there")
        print(f"{options.check}: the same {len(got)} ids", file=sys.stderr)


if __name__ == "__main__":
    main()
