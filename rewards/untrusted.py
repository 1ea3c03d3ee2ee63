"""How text that nobody vouches for reaches a judge: cleaned, capped, and inside a block that it cannot close.

A policy under training will sooner or later write what a judge obeys. Pure text; the same text always gives the same
block, so that judgements can be kept.
"""

from __future__ import annotations

import json
import re
import unicodedata

MAX_CHARACTERS = 8_000
"""Longer text is shown with its middle left out (about 2,000 tokens of English)."""

# Without a category of their own in Unicode, and yet drawn as nothing: fillers, joiners, variation selectors.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_UNSEEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn"}
_ASCII = str.maketrans({"＜": "<", "﹤": "<", "＞": ">", "﹥": ">", "｜": "|", "［": "[", "］": "]", "▁": "_"})
"""Forms that some tokenizers fold into the ASCII ones, or that their role tokens are written with."""
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")

_ROLE_TOKEN = re.compile(
    r"<\|[^<>]{0,64}?\|>"  # ChatML, Llama 3, Phi, Qwen, DeepSeek: <|...|>
    r"|</?(?:s|bos|eos|pad|unk|cls|sep|mask|sop|eop|start_of_turn|end_of_turn|begin_of_text|end_of_text|system|user"
    r"|assistant|model|human|tool|im_start|im_end|eot_id|start_of_image|end_of_image|image|img|video|tool_call"
    r"|tool_response|extra_id_\d+|unused\d+|reserved_\d+|0x[0-9a-f]{2})>"
    r"|<</?SYS>>"
    r"|\[/?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|IMG|THINK|CLS|SEP|PAD|MASK"
    r"|UNK|BOS|EOS|EOT|gMASK|sMASK)\]",
    re.IGNORECASE,
)
_OBJECT_TAG = r"<c\d+,\s?CAM_[A-Z_]+,\s?-?[\d.]+,\s?-?[\d.]+>"
_TAG_OR_ANGLE = re.compile(f"({_OBJECT_TAG})|<|>")
_BRACKETED_WORD = re.compile(r"\[(/?[^\W\d]\w{0,63})\]")
_BLOCK = re.compile(r'^<([a-z_]+)>\n(".*")\n</\1>$', re.MULTILINE)


def clean(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Text without what a chat template or a reader could take for structure; driving content stays as it is.

    Removed are control, direction and other invisible characters and role tokens (`<|im_start|>`, `[INST]`, `</s>`),
    also those that only form when others are removed. Angle brackets that are not those of an object tag
    (`<c1,CAM_FRONT,800.0,450.0>`) become `‹` and `›`, and `[word]` becomes `(word)`: no special token and no delimiter
    of a block can be written without them.

    Args:
        text: anything at all.
        limit: most characters kept; of longer text the beginning and the end are, as a verdict may stand at either.
    """
    plain = _LINE_ENDS.sub("\n", text).translate(_ASCII)
    seen = "".join(c for c in plain if c in "\n\t" or unicodedata.category(c) not in _UNSEEN_CATEGORIES)
    stripped = _without_role_tokens(_capped(_INVISIBLE.sub("", seen), limit))
    narrow = _TAG_OR_ANGLE.sub(lambda found: found[1] or ("‹" if found[0] == "<" else "›"), stripped)
    return _BRACKETED_WORD.sub(r"(\1)", narrow)


def block(name: str, text: str, limit: int = MAX_CHARACTERS) -> str:
    """Three lines: `<name>`, the cleaned text as one JSON string, `</name>`. `read_blocks` reads it back."""
    return f"<{name}>\n{json.dumps(clean(text, limit), ensure_ascii=False)}\n</{name}>"


def read_blocks(message: str) -> list[tuple[str, str]]:
    """The name and the cleaned text of every block in a message, in order."""
    return [(name, json.loads(text)) for name, text in _BLOCK.findall(message)]


def without_blocks(message: str) -> str:
    """What stands in a message outside its blocks: the part that is ours."""
    return _BLOCK.sub("", message)


def _capped(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = limit - limit // 2
    return f"{text[:head]}\n(... {len(text) - limit} characters left out ...)\n{text[len(text) - limit // 2 :]}"


def _without_role_tokens(text: str) -> str:
    """Until none is left: `<|im_<s>start|>` holds a second token inside the first."""
    while (stripped := _ROLE_TOKEN.sub(" ", text)) != text:
        text = stripped
    return text
