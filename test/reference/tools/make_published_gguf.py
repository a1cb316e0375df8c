"""What reference implementations make of two published GGUF files, for test/nightly/published_gguf.spec.ts and its kin.

    npm run nightly:models
    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make_published_gguf.py

Reads the files from test/nightly/models/ and writes test/reference/data/published_gguf/<name>.json:

- texts: token ids of varied texts, without BOS; prompts: those of the prompts, with BOS where the file asks for it
- prompts: the most likely next token, and its margin over the second, in logits; of the first also the next 32, greedily
- chats: text of the chat template, its ids, the greedy answer up to the end of the turn

- long: a prompt beyond Gemma's sliding window

Weights are those of transformers' GGUF loader, in float32, on the CPU; that it reads the file rightly shows in the mean
loss on ordinary English, printed and checked below, and in the texts. Token ids are those of SentencePiece itself (Gemma)
and of the `tokenizers` library with the steps that SmolLM2's tokenizer.json has. transformers' own conversion of tokenizers
agrees but for two texts, which are printed: it leaves out SmolLM2's cut at every digit and, for Gemma, that long runs of
blanks are taken before anything merges.
"""

import json
import pathlib

import torch
from gguf import GGUFReader
from sentencepiece import SentencePieceProcessor
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODELS = ROOT / "test/nightly/models"
DATA = ROOT / "test/reference/data/published_gguf"

FILES = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": "gemma-3-270m-q4_k_m.gguf"}
# Of these the first 32 tokens are written, of all the first.
GREEDY_COUNT, TOKEN_COUNT = 5, 32
PROMPTS = [
    "Once upon a time, there was a",
    "The three primary colors are",
    "def fibonacci(n):\n    ",
    "Water boils at 100 degrees",
    "Dear Sir or Madam,\n\nI am writing to",
    "The capital of France is",
    "The opposite of hot is",
    "1, 2, 3, 4, 5,",
    "import numpy as",
    "<html>\n<head>\n<title>",
    "The sun rises in the",
    "Monday, Tuesday, Wednesday,",
    "for (let i = 0; i < n; i",
    "A triangle has three",
    "Die Hauptstadt von Deutschland ist",
    "Je m'appelle Marie et j'habite à",
    "SELECT name FROM users WHERE",
    "The chemical symbol for gold is",
    "To be, or not to be, that is the",
    "Thank you very",
]
CHATS = [
    [{"role": "user", "content": "Say hello."}],
    [
        {"role": "system", "content": "You answer in one short sentence."},
        {"role": "user", "content": "What is the capital of Italy?"},
    ],
    [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Nice to meet you, Ada!"},
        {"role": "user", "content": "What is my name?"},
    ],
]
CHAT_TOKENS = 48
LONG_PROMPT = "\n".join(f"Box {n} holds {n * 7 % 13} apples and {n * 5 % 11} pears." for n in range(1, 42)) + "\nBox 42 holds"
LONG_TOKENS = 8
TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two spaces before, three within:   and one after ",
    "a\tb\n\nc\r\nd\n\n\n\n  e",
    "In 1984 there were 1,234,567 of them: 3.14159, 0x1F, 10^-9, ½, ², Ⅷ, ٣٤.",
    "I'm sure they'll say it's what we'd've done; DON'T YOU'RE",
    "for (let i = 0; i < items.length; i++) { sum += items[i] ?? 0; } // 合計",
    "def f(x):\n        return {'a': [x, x**2], \"b\": None}\n",
    "Größe, naïve, façade, Dvořák, ñandú, smørrebrød, Łódź",
    "cafe\u0301 versus caf\u00e9, \u212b versus \u00c5, \ufb01",
    "日本語の文章です。東京タワー、カタカナ。",
    "中文字符，标点。繁體字",
    "한국어 문장입니다",
    "Привет, как дела? Київ",
    "שלום עולם, مرحبا بالعالم",
    "नमस्ते दुनिया ক্ষ ไทยไม่มีช่องว่าง",
    "😀👍🏽👩‍👩‍👧‍👦🇫🇷 ✈️ ∑∫√ →⇒",
    "zero\u200bwidth, no\u00a0break, em\u2003space, bom\ufeff, nul\u0000, \u001b[0m",
    "https://example.com/a/b?c=d&e=%20f#g user@example.org",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism",
    "<b>bold</b> <thead><tr><td>1</td></tr></thead> <br/> <!-- no -->",
    "\U00020000\U000e0041\u0e01\u0e33 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ﷽",
    "$E = mc^2$ \\frac{1}{2} \\n \\u0041 C:\\temp",
    "x" + " " * 40 + "y" + "\n" * 40 + "z" + "\t" * 10,
    "Ġ and Ċ are letters",
    "<0x0A> <s> </s> [INST]",
]
ENGLISH = (
    "The water cycle describes how water moves above, on, and below the surface of the Earth. The sun heats the oceans, and "
    "some of the water evaporates into the air. Rising air takes the vapor up into the atmosphere, where cooler temperatures "
    "cause it to condense into clouds."
)
# Nats per token; a wrong rotation, norm or scale gives more than 5.
LARGEST_LOSS = 3.0


def gemma_ids(reader):
    """Google's SentencePiece over the pieces in the file."""
    proto = sentencepiece_model.ModelProto()
    proto.trainer_spec.model_type = proto.trainer_spec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    fields = [reader.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type")]
    unknown = reader.fields["tokenizer.ggml.unknown_token_id"].contents()
    for index, (token, score, type_) in enumerate(zip(*fields)):
        # The converter wrote spaces into these.
        piece = token.replace(" ", "\u2581") if type_ == proto.SentencePiece.USER_DEFINED else token
        kind = proto.SentencePiece.UNKNOWN if index == unknown else type_
        proto.pieces.add(piece=piece, score=score, type=kind)
    processor = SentencePieceProcessor(model_proto=proto.SerializeToString())
    return lambda text: processor.encode(text), processor.decode


def smollm2_ids(reader):
    """SmolLM2's tokenizer.json, made of the vocabulary and the merges in the file."""
    tokens, types, merges = (
        reader.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges")
    )
    vocab = {token: id_ for id_, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(merge.split(" ", 1)) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, type_ in zip(tokens, types) if type_ == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids, tokenizer.decode


def margin_of(logits):
    top = logits.topk(2)
    return int(top.indices[0]), round(float(top.values[0] - top.values[1]), 4)


@torch.inference_mode()
def greedy(model, ids, count, stop=()):
    tokens, margins, cache, fed = [], [], None, torch.tensor([ids])
    while len(tokens) < count and not (tokens and tokens[-1] in stop):
        out = model(fed, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        token, margin = margin_of(out.logits[0, -1])
        tokens.append(token)
        margins.append(margin)
        fed = torch.tensor([[token]])
    return {"tokens": tokens, "margins": margins}


@torch.inference_mode()
def loss_of(model, ids):
    fed = torch.tensor([ids])
    return float(model(fed, labels=fed).loss)


def make(name):
    path = MODELS / FILES[name]
    reader = GGUFReader(path)
    encode, decode = (gemma_ids if name == "gemma3" else smollm2_ids)(reader)
    hub = AutoTokenizer.from_pretrained(MODELS, gguf_file=path.name)
    adds_bos = reader.fields["tokenizer.ggml.add_bos_token"].contents()
    lead = [reader.fields["tokenizer.ggml.bos_token_id"].contents()] if adds_bos else []

    for text in TEXTS + PROMPTS:
        theirs = hub.encode(text, add_special_tokens=False)
        if theirs != encode(text):
            print(f"{name}: transformers has other ids for {text!r}: {theirs}, not {encode(text)}")
    model = AutoModelForCausalLM.from_pretrained(MODELS, gguf_file=path.name, dtype=torch.float32).eval()
    loss = loss_of(model, lead + encode(ENGLISH))
    print(f"{name}: mean loss on English {loss:.3f}")
    assert loss < LARGEST_LOSS, "the reference itself has read the file wrongly"

    prompts = []
    for index, prompt in enumerate(PROMPTS):
        ids = lead + encode(prompt)
        result = greedy(model, ids, TOKEN_COUNT if index < GREEDY_COUNT else 1)
        text = decode(result["tokens"])
        print(f"{name}: {prompt!r} -> {text!r} (least margin {min(result['margins'])})")
        prompts.append({"prompt": prompt, "ids": ids, **result, "text": text})
    long = None
    if name == "gemma3":
        ids = lead + encode(LONG_PROMPT)
        result = greedy(model, ids, LONG_TOKENS)
        print(f"{name}: {len(ids)} tokens -> {decode(result['tokens'])!r} (least margin {min(result['margins'])})")
        long = {"prompt": LONG_PROMPT, "ids": ids, **result, "text": decode(result["tokens"])}
    chats = []
    if hub.chat_template:
        end = hub.convert_tokens_to_ids("<|im_end|>")
        for messages in CHATS:
            rendered = hub.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            result = greedy(model, encode(rendered), CHAT_TOKENS, {end})
            text = decode([token for token in result["tokens"] if token != end])
            print(f"{name}: {messages[-1]['content']!r} -> {text!r} (least margin {min(result['margins'])})")
            chats.append({"messages": messages, "rendered": rendered, "ids": encode(rendered), **result, "text": text})
    DATA.mkdir(parents=True, exist_ok=True)
    data = {
        "file": path.name,
        "meanLoss": round(loss, 4),
        "texts": [{"text": text, "ids": encode(text)} for text in TEXTS],
        "prompts": prompts,
        "long": long,
        "chats": chats,
    }
    # One entry a line: nobody reads these, and diffs stay short.
    lists = ",\n".join(
        f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]"
        if isinstance(value, list) and value
        else f"{json.dumps(key)}: {json.dumps(value)}"
        for key, value in data.items()
    )
    (DATA / f"{name}.json").write_text("{\n" + lists + "\n}\n")


if __name__ == "__main__":
    torch.manual_seed(0)
    for each in FILES:
        make(each)
