"""What Hugging Face transformers makes of the conversations in test/reference/data/chats, for the tests of chat templates.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make_chats.py

Reads <family>.jinja, special_tokens.json and conversations.json there, and writes expected.json: for each family the
rendered text of each conversation, or { "refused": message } where the template raises one.
"""

import datetime
import json
import pathlib

import jinja2
from transformers.utils import chat_template_utils

CHATS = pathlib.Path(__file__).resolve().parent.parent / "data" / "chats"


class FrozenTime(datetime.datetime):
    """Templates print the date: it is always 9 February 2025 here, and in the test."""

    @classmethod
    def now(cls, tz=None):
        return cls(2025, 2, 9, 8, 7, 6)


def render(template, special_tokens, conversation):
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            [conversation], chat_template=template, add_generation_prompt=True, **special_tokens
        )
        return texts[0]
    except jinja2.exceptions.TemplateError as error:
        return {"refused": str(error)}


def main():
    chat_template_utils.datetime = FrozenTime
    special_tokens = json.loads((CHATS / "special_tokens.json").read_text())
    conversations = json.loads((CHATS / "conversations.json").read_text())
    expected = {
        path.stem: [render(path.read_text(), special_tokens[path.stem], chat) for chat in conversations]
        for path in sorted(CHATS.glob("*.jinja"))
    }
    (CHATS / "expected.json").write_text(json.dumps(expected, indent=2, ensure_ascii=False) + "\n")
    refused = sum(isinstance(answer, dict) for answers in expected.values() for answer in answers)
    print(f"{len(expected)} families, {len(conversations)} conversations, {refused} refused")


if __name__ == "__main__":
    main()
