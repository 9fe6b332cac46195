#!/usr/bin/env python3
"""Write the seed corpora of the fuzz targets.

usage: make_seeds.py tests/fuzz/corpus
Only the Python standard library is needed (zstd seeds come from the zstd program).
"""
import gzip, json, os, struct, subprocess, sys


def image(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors():
    yield "empty", image({})
    yield "scalar", image({"loss": tensor("F32", [], 0, 4)}, bytes(4))
    yield "two", image({"__metadata__": {"format": "pt"}, "b": tensor("BF16", [2, 3], 8, 20),
                        "a": tensor("I64", [1], 0, 8)}, bytes(20))
    yield "zero", image({"a": tensor("F64", [0, 3], 0, 0), "b": tensor("U8", [5], 0, 5)}, bytes(5))
    yield "hole", image({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 5, 9)}, bytes(9))
    yield "overlap", image({"a": tensor("BOOL", [4], 0, 4), "b": tensor("U8", [4], 3, 7)}, bytes(7))
    yield "overflow", image({"a": tensor("F64", [2**62, 4], 0, 8)}, bytes(8))
    yield "float", image(b'{"a":{"dtype":"F16","shape":[1.5],"data_offsets":[-1,1e99]}}', bytes(8))
    yield "duplicate", image(b'{"a":{"dtype":"U8","dtype":"U8"},"a":{}}')
    yield "nesting", image(b'{"a":' + b"[" * 100)
    yield "length", struct.pack("<Q", 2**63) + b"{}"


def jsons():
    yield "config", b'{"hidden_size":64,"rms_norm_eps":1e-06,"layer_types":["a","b"],"rope":null,"tie":false}'
    yield "nested", b'{"a":{"b":[1,-2,{"c":"\\u00e9\\n"}]}}'
    yield "duplicate", b'{"a":1,"b":[{"k":1,"k":2}]}'
    yield "deep", b"[" * 70 + b"]" * 70
    yield "numbers", b'{"a":18446744073709551615,"b":-9223372036854775808,"c":1e308,"d":0.1}'


def tomls():
    yield "recipe", b'train.steps=3\na = 1\n[train]\nsteps = 2\nname = "x"\n[[data]]\npath = "p"\n'
    yield "word", b"a.b=/some/path\n[a]\nb = [1, 2.5]\n"
    yield "inline", b'a={b = 1}\ndata = ["x", "y"]\nd = 1979-05-27T07:32:00Z\n'
    yield "bad", b"a..b=1\na = = 1\n"


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def compressed():
    text = b"one\ntwo\n\nthree"
    yield "plain", b"\0" + text
    for name, kind, pack in (("gz", b"\1", lambda b: gzip.compress(b, mtime=0)), ("zst", b"\2", zstd)):
        yield name, kind + pack(text)
        yield name + "-two", kind + pack(text) + pack(b"more\n" * 100)
        yield name + "-cut", kind + pack(text)[:-3]
        yield name + "-trailing", kind + pack(text) + b"x"


def tokenizers():
    text = b"\xffab the aaaa \xe6\x97\xa5 \xff\xe3\x81 12345's\r\n  <x>"
    split = {"type": "Split", "pattern": {"Regex": r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"},
             "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    sequence = lambda *steps: {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, byte_level]}}
    added = lambda **flags: {"added_tokens": [{"id": 300, "content": "<x>", **flags}, {"id": 301, "content": "<x><y>"}]}
    patches = {
        "plain": {}, "split": sequence(split), "digits": sequence({"type": "Digits", "individual_digits": True}),
        "previous": sequence({**split, "behavior": "MergedWithPrevious", "invert": True}),
        "next": sequence({**split, "pattern": {"String": "a"}, "behavior": "MergedWithNext"}),
        "contiguous": sequence({**split, "behavior": "Contiguous"}),
        "prefix": {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        "added": added(), "strip": added(lstrip=True, rstrip=True), "word": added(single_word=True, normalized=True),
        "ignore": {"model": {"ignore_merges": True, "vocab": {"thea": 500}}},
        "merges": {"model": {"merges": [["a", "b"], ["c", "d"]]}}, "id": {"model": {"vocab": {"ab": 4194304}}},
        "catastrophe": sequence({**split, "pattern": {"Regex": "(?:a+)+b"}}),
        "empty-match": sequence({**split, "pattern": {"Regex": "x*|(?=a)"}}),
        "post": {"post_processor": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"}, "normalizer": None},
    }
    for name, patch in patches.items():
        yield name, json.dumps(patch, separators=(",", ":")).encode() + text
    yield "whole", b'!{"pre_tokenizer":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}' + text


def token_files():
    info = {"format": "braid token file", "version": 1, "width": 2, "vocabulary_size": 257, "end_of_text": 256,
            "tokenizer": "0123456789abcdef", "tokens": 9, "documents": 2, "text_bytes": 7,
            "content_hash": "fedcba9876543210", "made": {"seed": 1}}
    yield "sidecar", b"\0" + json.dumps(info).encode()
    yield "sidecar-bad", b"\0" + json.dumps({**info, "documents": 10}).encode()
    for name, kind, code in (("u16", b"\2", "H"), ("u32", b"\1", "I"), ("u32-large", b"\3", "I")):
        yield name, kind + struct.pack(f"<9{code}", 1, 256, 2, 3, 256, 256, 4, 5, 256)
    yield "u16-outside", b"\2" + struct.pack("<4H", 1, 2, 3, 257)
    yield "u16-odd", b"\2" + bytes(9)
    yield "empty", b"\1"


def mix_lists():
    yield "whole", b"# comment\nweb,a/{TOKENIZER}/0.npy\r\n\nb.npy\n"
    yield "bad", b"web,\na,b,c\ns3://x/y.npy"
    yield "zero", b"a,b\0c"


def document_bounds():
    for name, text in (("whole", b"0,3\n3,3\n3,9,id,x\r\n\n10,64\n"), ("back", b"0,5\n4,6\n"),
                       ("large", b"0,99999999999999999999\n"), ("outside", b"0,65\n")):
        yield name, b"\0" + text
        yield name + "-gz", b"\1" + gzip.compress(text, mtime=0)
    yield "gz-cut", b"\1" + gzip.compress(b"0,3\n", mtime=0)[:-4]


def label_masks():
    yield "whole", b"\0\4\0\1\1\0"
    yield "part", b"\1\2\0\1\1\0"
    yield "outside", b"\2\3\0\1\1\0"
    yield "bad", b"\0\3\0\1\2"
    yield "empty", b"\0\0"


def configs():
    sizes = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 4,
             "num_attention_heads": 4, "num_key_value_heads": 2}
    yarn = {"rope_type": "yarn", "rope_theta": 500000.0, "factor": 4.0, "original_max_position_embeddings": 32}
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 12,
              "linear_value_head_dim": 20, "linear_conv_kernel_dim": 3, "linear_allow_neg_eigval": False}
    rest = {"max_position_embeddings": 256, "eos_token_id": [1, 2], "pad_token_id": 0, "rms_norm_eps": 1e-6}
    texts = {
        "hybrid": {"model_type": "olmo_hybrid", **sizes, **linear, **rest, "rope_parameters": None},
        "hybrid-no-positions": {"model_type": "olmo_hybrid", **sizes, "rope_parameters": {"rope_theta": None}},
        "olmo3": {"model_type": "olmo3", **sizes, **rest, "sliding_window": 16,
                  "rope_parameters": {"full_attention": yarn, "sliding_attention": {"rope_theta": 500000.0}}},
        "olmo3-older": {"model_type": "olmo3", **sizes, "rope_theta": 10000.0, "rope_scaling": yarn},
        "braid": {"model_type": "braid", **sizes, **linear, "linear_output_gate": False, "sliding_window": 16,
                  "linear_norm_placement": "post", "attention_norm_placement": "pre",
                  "layer_types": ["mamba", "sliding_attention", "attention", "linear_attention"]},
        "two-lines": {"model_type": "two\nlines"}, "layer": {**sizes, "model_type": "olmo3", "layer_types": ["a\n"] * 4},
    }
    for name, config in texts.items():
        yield name, json.dumps(config).encode()


def lab_texts():
    tokens = ("0 1 1 0 bits[2]? =1", "a,b c,e a? =1", "bcade cabde a? =3", "1 0 1 a? =0", "%5 +3 +1 a? =4",
              "0 1 1 a=2 b=0 c=0 d=1 e=2 a,b c? =0 bits[a]? =0", "& 1 | 0 ! 1 a? =0", "! & 1 0 . . . a? =1",
              "0 1 a=1 b=0 c=0 d=1 e=1 a+3 bits[c]^1 if_bits[d]:a,b bits[a]?")
    code = ("bits = [0, 1, 1, 0]\na = 2\nassert bits[a] == 1", "a, b, c, d, e = range(5)\na, b = b, a\nassert a == 1",
            "a, b, c, d, e = range(5)\na, b, c, d, e = b, c, a, d, e\nassert a ==", "a = 0\na ^= 1\nassert a == 1",
            "a = 0\na = (a + 3) % 5\nassert a == 3",
            "bits = [0, 1]\na, b, c, d, e = 1, 0, 0, 1, 1\na, b = b, a\nassert c == 0\nassert bits[a] == 0",
            "from operator import and_, or_, not_\na = and_(1, or_(0, not_(1)))\nassert a == 0",
            "from operator import and_, or_, not_\na = not_(0)\n# . . .\nassert a == 1",
            "bits = [0, 1]\na, b, c, d, e = 1, 0, 0, 1, 1\na = (a + 3) % 16\nbits[c] ^= 1\nif bits[d]: a, b = b, a")
    for i, text in enumerate(tokens):
        yield f"tokens-{i}", bytes([32 + i]) + text.encode()
    for i, text in enumerate(code):
        yield f"code-{i}", bytes([48 + i]) + text.encode()
    yield "ids", bytes([1, 7, 12, 9, 240, 13, 241, 0])
    yield "deep", bytes([16 + 3]) + bytes([3, 9]) + bytes([14]) * 250 + bytes([31])


def lab_experiments():
    head = 'name = "x"\nfolder = "x"\n[problem]\nname = "%s"\n%s\n[model]\nlayers = 2\nvariant = "hybrid-1:1"\n' \
           'hidden_size = 64\nintermediate_size = 128\nheads = 2\n%s\n[train]\nsteps = 40\nwarmup_steps = 10\n%s\n'
    tail = '[grid]\nlearning_rates = [2e-3, 1e-3]\nschedules = ["cosine", "constant"]\n%s\n' \
           '[evaluation]\nlengths = [4, 8]\n%s\n'
    stages = "[[stage]]\nn = 8\nsteps = 10\naccuracy = 0.95\n%s\n[[stage]]\nn = 16\n%s\n"
    yield "swaps", (head % ("swaps", 'form = "tokens"\nreveals = "fixed"', 'architectures = ["transformer"]',
                            'loss = "answers"\nstop_accuracy = 1') + stages % ("reveal_spacing = 2", "reveal_spacing = 4") +
                    tail % ("seeds = [1, 2]", "samples = 8")).encode()
    yield "recall", (head % ("state_based_recall", 'bits = 8\nreveals = "powers-of-two"\nwithout_reveals = 0.2', "",
                             "earlier_stages = 0.5") + stages % ("", "") + "[optimizer]\nbeta2 = 0.98\n" +
                     tail % ("draws = 3", "reveal_spacing = 2")).encode()
    yield "formula", (head % ("padded_formula", "depth = 5\npadding = 30", "vocabulary_size = 2048", "") +
                      "[[stage]]\nn = 3\n" + tail % ("", "")).encode()
    yield "deep", (head % ("formula", "depth = 64", "", "") + "[[stage]]\nn = 4096\n" + tail % ("", "")).encode()
    yield "bad", b'name = "x"\nfolder = ""\n[problem]\nname = "swap"\n'
    swaps = (head + stages + tail) % (("swaps", "", "%s", "%s", "", "") + ("", ""))
    for name, model, train in (("loss", "", 'loss = "\\nall"'), ("layers", 'layer_types = ["\\n"]', ""),
                               ("architecture", f'architectures = ["{"x" * 5000}"]', "")):
        yield "two-lines-" + name, (swaps % (model, train)).encode()
    yield "two-lines-problem", b'name = "x"\nfolder = "x"\n[problem]\nname = "\\n"\n'


def main(root):
    for name, seeds in (("safetensors", safetensors), ("json", jsons), ("toml", tomls), ("compressed", compressed),
                        ("tokenizer", tokenizers), ("token_file", token_files), ("mix_list", mix_lists),
                        ("document_bounds", document_bounds), ("label_mask", label_masks), ("config", configs),
                        ("lab_text", lab_texts), ("lab_experiment", lab_experiments)):
        os.makedirs(os.path.join(root, name), exist_ok=True)
        for seed, data in seeds():
            with open(os.path.join(root, name, seed), "wb") as f:
                f.write(data)


if __name__ == "__main__":
    main(sys.argv[1])
