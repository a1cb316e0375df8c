"""What Hugging Face transformers makes of 2,000 strings with the tokenizer of every model family.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make_tokenizers.py

Each tokenizer has the pipeline that its family publishes (normalizer, pre-tokenizer, model options, decoder,
post-processor, kinds of added tokens) over a small vocabulary trained here, on text made of the words below.

Writes into test/reference/data/tokenizers, all of it committed, so that no test needs Python:
  strings.json                        the strings, and lists of numbers that become token ids modulo the vocabulary
  <family>/tokenizer.json, tokenizer_config.json
  <family>/expected.json              ids of the first strings; hashes of the ids of all, of decodings, of single tokens
"""

import collections
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

TOKENIZERS = pathlib.Path(__file__).resolve().parent.parent / "data" / "tokenizers"

STRINGS = 2000
WRITTEN_OUT = 50  # strings whose ids are written out, so that a difference can be read
RANDOM_DECODINGS = 500
VOCAB_SIZE = 1000
ALPHABET_SIZE = 300  # of the vocabularies that are not made of bytes: rarer characters have no token

ENGLISH = """once upon a time there was a little girl who lived in the big house near the old forest and she would not
stop asking why it is that things are as they are I'm sure they've said we'll see what he'd do if you can't don't
The model THE MODEL HTTPRequest JavaScript iPhone naïve café résumé Zürich""".split()
WORDS = {
    "latin": "Übergröße straße garçon niño señor część źródło smörgåsbord ığdır İstanbul ﬁnd ŉ Ǆ ᾳ".split(),
    "greek_cyrillic": "Καλημέρα κόσμε ὀδυσσεύς привет мир ещё ночь Ўзбек Ѐ".split(),
    "rtl": "שלום עולם מה קורה مرحبا بالعالم كيف حالك ١٢٣٤ سَلَامٌ العَرَبِيَّة ‏abc‎".split(" "),
    "cjk": "你好 世界 今天天气很好 東京都 こんにちは ありがとう カタカナ ｶﾀｶﾅ 안녕하세요 세계 ㄱㄴ 𠮷野家 。、「」！？　全角ＡＢＣ１２３".split(" "),
    "indic": "नमस्ते दुनिया क्षत्रिय १२३ สวัสดีชาวโลก ๑๒๓ தமிழ் বাংলা".split(),
    "emoji": "😀 👍🏽 👨‍👩‍👧‍👦 🇩🇪🇯🇵 ❤️ ☺︎ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 1️⃣ 🤷‍♀️".split(),
    "marks": "e\u0301 a\u0308\u0323 \u1112\u1161\u11ab q\u0307\u0323 \u0301 o\u0302\u0301 \u212b \u2126 ẛ̣ ½ ² Ⅷ ㊿ ① 𝟘𝟙 𝐀𝐛".split(),
    "symbols": "... -- — – … “quoted” ‘x’ € £ ¥ © ™ ∑∫√ ≤≥ → ▁ ▁▁ ▁a �  \ufeffbom \ufeff \u0000 \u0007\u001b ~~ ``` ''' \"\" #@!".split(" "),
    "numbers": "0 7 42 123 1234 12345 1234567 3.14159 1,000,000 -5 0x1F 1e-10 2026-02-30 192.168.0.1 99%".split(),
    "urls": "https://example.com/a?b=c&d=%20 user@example.org /usr/local/bin C:\\Users\\x".split(),
}
CODE = [
    "def f(x):\n    return x + 1\n", "for (let i = 0; i < n; i++) {\n\tsum += a[i];\n}\n", "if a == b and not c:\n        pass",
    "<div class=\"x\">text</div>", "SELECT * FROM t WHERE id=42;", "{\"key\": [1, 2, null], \"b\": true}", "#include <stdio.h>\r\n",
    "x->y::z<T>&&", "/* comment */ // TODO", "$HOME/${x}\\n\\t", "const s = `a${b}c`;", "'s't're've'm'll'd'S'T'RE", "\tif (!ok) {\r\n\t\treturn;\r\n\t}",
]  # fmt: skip
SPACES = [
    " ", " ", " ", " ", "  ", "   ", "    ", "       ", " " * 17, "\n", "\n\n", "\n\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ", " \t ",
    "\u00a0", "\u3000", "\u2003", "\u200b", "\u2028", "\u0085", "\u000b", "\u000c", "\u180e", "\u202f", "",
]  # fmt: skip
# Added tokens of one family or another: in all the others they are text.
ADDED = """<s> </s> <unk> <pad> <bos> <eos> <mask> <table> <|begin_of_text|> <|end_of_text|> <|eot_id|> <|endoftext|> <|im_start|>
<|im_end|> <tool_call> </think> <start_of_turn> <end_of_turn> <|user|> <|end|> [INST] [/INST] |||IP_ADDRESS||| <extra_id_0>
<0x0A> <0xE2> <| <|im_""".split()

# Parts of published pre-tokenizers.
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT4 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = GPT4.replace("{1,3}", "")
UPPER, LOWER, BEFORE = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[^\r\n\p{L}\p{N}]?"
GPT4O_END = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = rf"{BEFORE}{UPPER}*{LOWER}+{CONTRACTIONS}?|{BEFORE}{UPPER}+{LOWER}*{CONTRACTIONS}?|\p{{N}}{{1,3}}" + GPT4O_END
TEKKEN = rf"{BEFORE}{UPPER}*{LOWER}+|{BEFORE}{UPPER}+{LOWER}*|\p{{N}}" + GPT4O_END


def make_text(rng):
    parts = []
    for _ in range(rng.choice([1, 2, 3, 4, 5, 6, 8, 10, 14])):
        kind = rng.random()
        if kind < 0.45:
            parts.append(rng.choice(ENGLISH))
        elif kind < 0.8:
            parts.append(rng.choice(rng.choice(list(WORDS.values()))))
        elif kind < 0.88:
            parts.append(rng.choice(CODE))
        elif kind < 0.94:
            parts.append(rng.choice(ADDED))
        else:
            # Any characters, surrogates apart.
            first, end = rng.choice([(0, 0x80), (0, 0x250), (0, 0x3000), (0, 0xD800), (0xE000, 0x1FB00)])
            parts.append("".join(chr(rng.randrange(first, end)) for _ in range(rng.randint(1, 4))))
        parts.append(rng.choice(SPACES))
    text = "".join(parts)
    return text[: rng.randint(0, 12)] if rng.random() < 0.1 else text


def added(content, special=True, **flags):
    return AddedToken(content, special=special, normalized=flags.pop("normalized", False), **flags)


def begin_with(token, token_id):
    return processors.TemplateProcessing(single=f"{token}:0 $A:0", pair=f"{token}:0 $A:0 {token}:1 $B:1", special_tokens=[(token, token_id)])


def byte_level(split, *, normalizer=None, ignore_merges=False, after=None):
    steps = split if isinstance(split, list) else [
        pre_tokenizers.Split(Regex(split), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]  # fmt: skip
    return {
        "model": models.BPE(ignore_merges=ignore_merges),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizers.Sequence(steps),
        "decoder": decoders.ByteLevel(),
        "post_processor": after,
        "alphabet": pre_tokenizers.ByteLevel.alphabet(),
        "first": [],
    }


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def sentence_piece(normalizer, pre_tokenizer, first, *, strip, after=None, unk="<unk>"):
    strips = [decoders.Strip(content=" ", left=1)] if strip else []
    return {
        "model": models.BPE(unk_token=unk, fuse_unk=True, byte_fallback=True),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "decoder": decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strips]),
        "post_processor": after,
        "alphabet": ["▁", "\ufffd"],
        "first": [*first, *BYTES],
    }


def prepended():
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def unigram():
    return {
        "model": models.Unigram(),
        "normalizer": normalizers.Sequence([normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]),
        "pre_tokenizer": pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        "decoder": decoders.Metaspace(replacement="▁", prepend_scheme="always"),
        "post_processor": processors.TemplateProcessing(single="$A:0 </s>:0", special_tokens=[("</s>", 1)]),
        "alphabet": [],
        "first": ["<pad>", "</s>", "<unk>"],
    }


def families():
    """Pipeline, added tokens (behind the vocabulary, or in it where "first" has them), tokenizer_config.json."""
    chat_ml = [added(token) for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    llama_specials = [added(token) for token in ("<unk>", "<s>", "</s>")]
    llama_names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    gpt2_words = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return {
        "llama2": (
            sentence_piece(prepended(), None, ["<unk>", "<s>", "</s>"], strip=True, after=begin_with("<s>", 1)),
            llama_specials,
            {**llama_names, "add_bos_token": True, "add_eos_token": False},
        ),
        "llama3": (
            byte_level(GPT4, ignore_merges=True, after="<|begin_of_text|>"),
            [added(token) for token in ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|eot_id|>")],
            {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        ),
        "smollm2": (
            {**byte_level(gpt2_words), "first": [token.content for token in chat_ml]},
            chat_ml,
            {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>", "add_prefix_space": False},
        ),
        "mistral": (
            sentence_piece(
                None,
                pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False),
                ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
                strip=True,
                after=begin_with("<s>", 1),
            ),
            [*llama_specials, added("[INST]"), added("[/INST]")],
            {**llama_names, "add_bos_token": True},
        ),
        "mistral_nemo": (
            {**byte_level(TEKKEN, ignore_merges=True, after=begin_with("<s>", 1)), "first": ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]},
            [*llama_specials, added("[INST]"), added("[/INST]")],
            llama_names,
        ),
        "qwen": (
            byte_level(QWEN, normalizer=normalizers.NFC(), after=processors.ByteLevel(add_prefix_space=False, trim_offsets=False)),
            [*chat_ml, *(added(token, False) for token in ("<tool_call>", "</tool_call>", "<think>", "</think>"))],
            {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "add_bos_token": False},
        ),
        "gemma3": (
            sentence_piece(
                normalizers.Replace(" ", "▁"),
                pre_tokenizers.Split(" ", behavior="merged_with_previous"),
                ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<table>"],
                strip=False,
                after=begin_with("<bos>", 2),
            ),
            [
                *(added(token) for token in ("<pad>", "<eos>", "<bos>", "<unk>")),
                added("<mask>", False),
                *(added(token) for token in ("<start_of_turn>", "<end_of_turn>")),
                *(added(token, False) for token in ("\n", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "▁▁▁▁", "<table>")),
            ],
            {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>", "add_bos_token": True},
        ),
        "phi3": (
            sentence_piece(prepended(), None, ["<unk>", "<s>", "</s>"], strip=True, after=processors.TemplateProcessing(single="$A:0")),
            [
                *llama_specials[:2],
                added("</s>", False, rstrip=True),
                added("<|endoftext|>"),
                *(added(token, rstrip=True) for token in ("<|assistant|>", "<|user|>", "<|end|>")),
            ],
            {"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>", "add_bos_token": False},
        ),
        "phi4mini": (
            byte_level(GPT4O, after=processors.ByteLevel(add_prefix_space=False, trim_offsets=False)),
            [
                added("<|endoftext|>"),
                *(added(token, rstrip=True) for token in ("<|assistant|>", "<|user|>", "<|end|>")),
                added("<tool_call>", False, rstrip=True),
            ],
            {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "add_bos_token": False},
        ),
        "olmo2": (
            byte_level(GPT4),
            [added("|||IP_ADDRESS|||", False, normalized=True), added("<|endoftext|>"), *chat_ml[1:], added("<extra_id_0>", False)],
            {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
        ),
        "unigram": (
            unigram(),
            [added(token) for token in ("<pad>", "</s>", "<unk>", "<extra_id_0>")],
            {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        ),
    }  # fmt: skip


def train(parts, texts):
    """The vocabulary that these parts make of the texts, the tokens that must stand first in front of it."""
    scratch = Tokenizer(models.Unigram() if isinstance(parts["model"], models.Unigram) else models.BPE())
    if parts["normalizer"]:
        scratch.normalizer = parts["normalizer"]
    if parts["pre_tokenizer"]:
        scratch.pre_tokenizer = parts["pre_tokenizer"]
    else:
        # SentencePiece does not merge across words.
        scratch.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    if isinstance(scratch.model, models.Unigram):
        trainer = trainers.UnigramTrainer(vocab_size=VOCAB_SIZE, special_tokens=parts["first"], unk_token="<unk>", show_progress=False)
        frequent = {character for character, _ in collections.Counter("".join(texts)).most_common(ALPHABET_SIZE)}
        known = [text for text in texts if frequent.issuperset(text) and not any(token in text for token in parts["first"])]
        scratch.train_from_iterator(known, trainer)
        model = json.loads(scratch.to_str())["model"]
        # As short as they are exact to.
        return models.Unigram([(token, round(score, 4)) for token, score in model["vocab"]], unk_id=model["unk_id"])
    taken = len(parts["first"])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - taken, initial_alphabet=parts["alphabet"], limit_alphabet=ALPHABET_SIZE, show_progress=False
    )
    scratch.train_from_iterator(texts, trainer)
    model = json.loads(scratch.to_str())["model"]
    kept = [token for token in model["vocab"] if token not in parts["first"]]
    vocab = {token: i for i, token in enumerate([*parts["first"], *kept])}
    merges = [tuple(merge) for merge in model["merges"]]
    if parts["model"].byte_fallback:
        # As transformers converts SentencePiece: every pair that makes a piece, in the order of the pieces' scores.
        scores = {left + right: -rank for rank, (left, right) in enumerate(merges)}
        merges = generate_merges(vocab, scores, skip_tokens=parts["first"])
    options = {name: getattr(parts["model"], name) for name in ("unk_token", "fuse_unk", "byte_fallback", "ignore_merges")}
    return models.BPE(vocab=vocab, merges=merges, **options)


def build(parts, added_tokens, texts):
    tokenizer = Tokenizer(train(parts, texts))
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        if parts[part]:
            setattr(tokenizer, part, parts[part])
    tokenizer.add_tokens(added_tokens)
    tokenizer.add_special_tokens([token for token in added_tokens if token.special])
    after = parts["post_processor"]
    if isinstance(after, str):  # the name of a token behind the vocabulary
        template = begin_with(after, tokenizer.token_to_id(after))
        after = processors.Sequence([processors.ByteLevel(add_prefix_space=True, trim_offsets=False), template])
    if after:
        tokenizer.post_processor = after
    return tokenizer


def fnv1a(text):
    """32-bit FNV-1a of the UTF-8, in base 36."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    digits = ""
    while value:
        value, digit = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"


def without_second(ids, bos):
    """A text that begins with BOS gets another one from transformers, and none from us."""
    return ids[1:] if ids[:2] == [bos, bos] else ids


def hashes(texts):
    return " ".join(fnv1a(text) for text in texts)


def joined(ids):
    return ",".join(map(str, ids))


def main():
    rng = random.Random(20260301)
    training = [make_text(rng) for _ in range(6000)]
    strings = list(dict.fromkeys(["", " ", "a", " a", *(make_text(rng) for _ in range(3 * STRINGS))]))[:STRINGS]
    sequences = [[rng.randrange(10**6) for _ in range(rng.randint(1, 16))] for _ in range(RANDOM_DECODINGS)]
    TOKENIZERS.mkdir(exist_ok=True)
    (TOKENIZERS / "strings.json").write_text(json.dumps({"strings": strings, "sequences": sequences}, ensure_ascii=False, separators=(",", ":")) + "\n")

    for family, (parts, added_tokens, config) in families().items():
        folder = TOKENIZERS / family
        folder.mkdir(exist_ok=True)
        tokenizer = build(parts, added_tokens, training)
        (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
        # The pipeline of the file. The class that a family's tokenizer_config.json names may put another in its place.
        reference = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **config)
        size = len(reference)
        ids = [without_second(reference.encode(text), reference.bos_token_id) for text in strings]
        bare = [reference.encode(text, add_special_tokens=False) for text in strings]
        random_ids = [[number % size for number in sequence] for sequence in sequences]

        def decode(tokens, skip):
            return reference.decode(tokens, skip_special_tokens=skip, clean_up_tokenization_spaces=False)

        expected = {
            "vocabSize": size,
            "ids": ids[:WRITTEN_OUT],
            "idHashes": hashes(map(joined, ids)),
            "bareIdHashes": hashes(map(joined, bare)),
            "decodedHashes": hashes(decode(tokens, True) for tokens in ids),
            "randomDecodedHashes": hashes(decode(tokens, True) for tokens in random_ids),
            "tokenHashes": hashes(decode([token], False) for token in range(size)),
        }
        (folder / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
        print(f"{family}: {size} tokens, {sum(map(len, ids)) / len(ids):.1f} per string")


if __name__ == "__main__":
    main()
