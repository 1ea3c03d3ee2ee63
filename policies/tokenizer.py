"""A small tokenizer for driving text: byte-level BPE whose pieces are whole sentences, numbers and object tags.

Ordinary BPE never merges across a space; here a piece reaches to the end of its sentence, so that a phrase DriveLM
repeats word for word becomes one token. Any text can be written: what was never seen falls apart into bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

IMAGE_TOKEN = "<image>"
END_OF_TURN = "<|im_end|>"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", END_OF_TURN, "<|pad|>", IMAGE_TOKEN)

PIECES = (
    r"<c\d+,[A-Z_]+,"  # the head of an object tag
    r"|\d+\.\d"  # a coordinate
    r"|[A-D](?=\.(\s|$))"  # an option's letter, the same token as the letter alone in an answer
    r"|\. The ego vehicle is [a-z ]+\. The ego vehicle is [a-z ]+\.\s*"  # one of the behaviors, as an option
    r"|[.?!:;>]*\s*(?:(?! and )[^\d<>.?!:;])+[.?!:;]*\s*"  # a sentence or a clause of it, with the blank behind it
    r"|[^\d]|\d"
)
"""What a token may at most span. An option's text keeps its blank, so it looks the same in every place of the list."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<image>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% if message['role'] == 'user' %} {% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML. The blank that ends a user turn lets the last option be written like the others."""


def train_tokenizer(corpus: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocabulary` entries, special tokens included. Deterministic in the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL_TOKENS),
        special_tokens=[],
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    texts = [text for line in corpus for text in (line, f"{line} ")]
    tokenizer.train_from_iterator([*texts, *["user\n", "assistant\n"] * 2, "\n"], trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=4096,
        padding_side="left",
        bos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        eos_token=END_OF_TURN,
        pad_token="<|pad|>",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
