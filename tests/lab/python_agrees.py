#!/usr/bin/env python3
"""Python executes the code of generated examples and must find every answer of either form.

usage: python_agrees.py BRAID PROGRAMS [SEED]
Each program runs with its asserts replaced by a record of their left sides, so that what Python computes is
compared with the answers; then as it is, where no assert may fail; then with a wrong last answer, which must.
"""
import ast
import io
import json
import subprocess
import sys
import tokenize

# Options of `lab show` for each share of the programs.
SETTINGS = [
    "recall --n 1", "recall --n 5", "recall --n 128", "recall --n 1024",
    "swaps --n 1", "swaps --n 16 --reveal 4", "swaps --n 128 --reveal 1",
    "a5 --n 1", "a5 --n 32 --reveal 3",
    "parity --n 1", "parity --n 33 --reveal 5",
    "counter --n 20 --reveal 2", "counter --n 9 --modulus 2", "counter --n 40 --modulus 64 --reveal 7",
    "state_based_recall --n 1", "state_based_recall --n 16 --reveal 2",
    "state_based_recall --n 64 --reveal 8 --reveal-what bit", "state_based_recall --n 3 --bits 1024 --reveal 1",
    "formula --n 1", "formula --n 24", "formula --n 64 --depth 6", "formula --n 300",
    "padded_formula --n 5", "padded_formula --n 8 --padding 3",
    "mixed --n 1", "mixed --n 24 --reveal 2", "mixed --n 64 --bits 7 --reveal 5 --reveal-what bit",
    "mixed --n 30 --bits 1024 --reveal 4",
]


class Record(ast.NodeTransformer):
    """assert LEFT == RIGHT  ->  record(LEFT)"""

    def visit_Assert(self, node):
        assert isinstance(node.test, ast.Compare) and isinstance(node.test.ops[0], ast.Eq)
        call = ast.Call(ast.Name("record", ast.Load()), [node.test.left], [])
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), node))


def expect(condition, example, what):
    if not condition:
        sys.exit(f"FAILED: {example['problem']} ({example['form']}) {example['index']}: {what}\n{example['code']}")


def values_of(code):
    values = []
    exec(compile(Record().visit(ast.parse(code)), "example", "exec"), {"record": lambda x: values.append(int(x))})
    return values


def python_words(code):
    """What Python's own tokenizer makes of the code, comments cut at spaces as the lab does."""
    words = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type in (tokenize.NEWLINE, tokenize.NL):
            words.append("\n")
        elif token.type == tokenize.COMMENT:
            words += token.string.split()
        elif token.string:
            words.append(token.string)
    return words


def check(example, values):
    words, answers, code = example["words"], example["answers"], example["code"]
    expect(words[0] == "<bos>" and answers and answers[-1] == len(words) - 1, example, "the last word is no answer")
    given = [int(words[place].removeprefix("=")) for place in answers]
    expect(given == values, example, f"answers {given}, Python has {values}")
    if example["form"] == "tokens":
        expect(all(words[place].startswith("=") for place in answers), example, "an answer without =")
        return
    expect(words[1:] + ["\n"] == python_words(code), example, "the words are not the code's")
    exec(compile(code, "example", "exec"), {})
    wrong = f"{code.rstrip().rsplit(' ', 1)[0]} {values[-1] + 1}\n"
    try:
        exec(compile(wrong, "example", "exec"), {})
    except AssertionError:
        return
    expect(False, example, "a wrong answer does not fail")


def main():
    braid, programs = sys.argv[1], int(sys.argv[2])
    seed = sys.argv[3] if len(sys.argv) > 3 else "1"
    checked, answers = 0, 0
    for k, setting in enumerate(SETTINGS):
        count = programs // len(SETTINGS) + (k < programs % len(SETTINGS))
        command = [braid, "lab", "show", *setting.split(), "--count", str(count), "--seed", seed, "--jsonl"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        before = None
        for line in process.stdout:
            example = json.loads(line)
            if example["form"] == "tokens":
                before = example
                values = values_of(example["code"])
                checked, answers = checked + 1, answers + len(values)
            else:
                expect(before["code"] == example["code"], example, "the forms have different code")
            check(example, values)
        if process.wait() != 0:
            sys.exit(f"FAILED: {' '.join(command)} ended with {process.returncode}")
    if checked != programs:
        sys.exit(f"FAILED: {checked} programs were checked, not {programs}")
    print(f"{checked} programs, {answers} answers: Python agrees with all")


main()
