"""How text that nobody vouches for reaches a judge: cleaned, capped, and inside a block that it cannot close.

A policy under training will sooner or later write what a judge obeys. Three things stand against it: known role tokens
are removed; a character that role tokens are made of is written as a JSON escape, which reads the same and makes none;
and where the judge's tokenizer is known, it is asked whether it still finds a special token. Pure text; the same text
always gives the same block, so that judgements can be kept.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import regex

MAX_CHARACTERS = 8_000
"""Longer text is shown with its middle left out (about 2,000 tokens of English)."""

# Without a category of their own in Unicode, and yet drawn as nothing: fillers, joiners, variation selectors.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_UNSEEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn"}
_LOOK_ALIKES = (*range(0xFE30, 0xFE70), *range(0xFF01, 0xFFF0))
"""Where Unicode keeps the vertical, small and full-width forms of punctuation."""
_READ_AS = {code: form for code in _LOOK_ALIKES if (form := unicodedata.normalize("NFKC", chr(code))) in set("<>[]|/_")}
_UNFOLDED = _READ_AS | {ord("▁"): "_"}
"""Forms that tokenizers fold into the ASCII ones, or that their role tokens are written with."""
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")

_ROLE_TOKEN = re.compile(
    r"<\|[^<>]{0,64}?\|>"  # ChatML, Llama 3, Phi, Qwen, DeepSeek: <|...|>
    r"|\[\|[^\[\]|]{0,64}\|\]"  # EXAONE: [|assistant|]
    r"|\]~!?[a-z]{1,8}[\[\]]|\]![a-z]~\[|\[e~\[|\]<\][a-z ]{1,40}\[>\["  # MiniMax: ]~b]  ]!p~[  ]<]image[>[
    r"|◁[^◁▷\n]{0,64}▷"  # Kimi: ◁/think▷
    r"|\|\|\|[A-Z_]{1,32}\|\|\|"  # GPT-NeoX, OLMo: |||EMAIL_ADDRESS|||
    r"|</?(?:s|bos|eos|pad|unk|cls|sep|mask|sop|eop|start_of_turn|end_of_turn|begin_of_text|end_of_text|system|user"
    r"|assistant|model|human|tool|im_start|im_end|eot_id|start_of_image|end_of_image|image|img|video|tool_call"
    r"|tool_response|extra_id_\d+|unused\d+|reserved_\d+|0x[0-9a-f]{2})>"
    r"|<</?SYS>>"
    r"|\[/?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|IMG|THINK|CLS|SEP|PAD|MASK"
    r"|UNK|BOS|EOS|EOT|gMASK|sMASK)\]",
    re.IGNORECASE,
)
_NESTED = 4
"""How deep tokens may lie in each other and still all go; deeper ones lose their brackets, as any text does."""
_BLUNT = {ord("["): "(", ord("]"): ")", ord("|"): "¦", ord("◁"): "‹", ord("▷"): "›"}
_OBJECT_TAG = r"<c\d+,\s?CAM_[A-Z_]+,\s?-?[\d.]+,\s?-?[\d.]+>"
_TAG_OR_ANGLE = re.compile(f"({_OBJECT_TAG})|<|>")
_BRACKETED_WORD = re.compile(r"\[(/?[^\W\d]\w{0,63})\]")
_BLOCK = re.compile(r'^<([a-z_]+)>\n(".*")\n</\1>$', re.MULTILINE)

_PLAIN_SYMBOLS = r"\x00-\u205e\u20a0-\u22ff\u3001-\u301f\ufe30-\uff65\U0001f000-\U0001faff"
_LISTS = r'\[[\d\s.,-]*\]|\[(?=\\?")|(?<=")\]'
_NO_TOKEN_OR_SYMBOL = regex.compile(
    rf"({_OBJECT_TAG}|{_LISTS}|(?<= )\|(?= ))|[<>\[\]|]|[[\p{{S}}\p{{P}}]--[{_PLAIN_SYMBOLS}]]", regex.V1
)
"""What a block shows as it is (object tags, lists of numbers or strings), or else a character of role tokens."""
_MOST_ESCAPES = 512
"""More such characters than this are replaced, since escapes are six times as long and a judge's prompt is bounded."""


class Tokenizer(Protocol):
    """What is asked of a judge's tokenizer; those of transformers have it."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Id to each token that is found in a text before it is cut."""
        ...

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        """An object with `input_ids`."""
        ...


def clean(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Text without what a chat template or a reader could take for structure; driving content stays as it is.

    Removed are control, direction and other invisible characters and role tokens (`<|im_start|>`, `[INST]`, `</s>`,
    `[|assistant|]`, `◁think▷`), also those that only form when others are removed. Angle brackets that are not those of
    an object tag (`<c1,CAM_FRONT,800.0,450.0>`) become `‹` and `›`, `[word]` becomes `(word)` and `[|` `(|`. Characters
    that Unicode's form NFKC makes into brackets or bars are read as these.

    Args:
        text: anything at all.
        limit: most characters kept; of longer text the beginning and the end are, as a verdict may stand at either.
    """
    plain = _LINE_ENDS.sub("\n", text).translate(_UNFOLDED)
    unseen = [c for c in set(plain) if c not in "\n\t" and unicodedata.category(c) in _UNSEEN_CATEGORIES]
    seen = plain.translate(dict.fromkeys(map(ord, unseen))) if unseen else plain
    stripped = _without_role_tokens(_capped(_INVISIBLE.sub("", seen), limit))
    narrow = _TAG_OR_ANGLE.sub(lambda found: found[1] or ("‹" if found[0] == "<" else "›"), stripped)
    worded = _BRACKETED_WORD.sub(r"(\1)", narrow).replace("[|", "(|").replace("|]", "|)")
    if sum(not found[1] for found in _NO_TOKEN_OR_SYMBOL.finditer(worded)) <= _MOST_ESCAPES:
        return worded
    return str(_NO_TOKEN_OR_SYMBOL.sub(lambda found: found[1] or _BLUNT.get(ord(found[0]), "·"), worded))


def block(name: str, text: str, limit: int = MAX_CHARACTERS) -> str:
    """Three lines: `<name>`, the cleaned text as one JSON string, `</name>`. `read_blocks` reads it back.

    In the string, a character that role tokens are made of is an escape (`\\u005b`), so that it reads the same and
    makes none.
    """
    return f"<{name}>\n{_encoded(clean(text, limit))}\n</{name}>"


def read_blocks(message: str) -> list[tuple[str, str]]:
    """The name and the cleaned text of every block in a message, in order."""
    return [(name, json.loads(text)) for name, text in _BLOCK.findall(message)]


def without_blocks(message: str) -> str:
    """What stands in a message outside its blocks: the part that is ours."""
    return _BLOCK.sub("", message)


def shielded(message: str, tokenizer: Tokenizer) -> str:
    """The message with blocks of which this tokenizer makes no special token; they read the same.

    Whatever the tokenizer still finds is written with an escape in it. Tokens of white space alone are no danger.
    """
    special = {id_: str(token) for id_, token in tokenizer.added_tokens_decoder.items() if str(token).strip()}

    def found(string: str) -> list[str]:
        ids = tokenizer(string, add_special_tokens=False).input_ids
        return [special[id_] for id_ in ids if id_ in special]

    return _BLOCK.sub(lambda at: f"<{at[1]}>\n{_without_special(at[2], found)}\n</{at[1]}>", message)


def _without_special(string: str, found: Callable[[str], Collection[str]]) -> str:
    """A JSON string of the same text in which no token is found."""
    text, escaped = json.loads(string), set[str]()
    while tokens := set(found(string)):
        # A character of the token that is no letter, so that words stay readable; one that the tokenizer itself
        # folded is not in the text, and then everything but letters is escaped, and in the end these too.
        new = {next((c for c in token if not c.isalnum()), token[0]) for token in tokens} & set(text) - escaped
        new = new or {c for c in text if not c.isalnum() and c != " "} - escaped or set(text) - escaped
        if not new:
            break  # nothing is left but escapes
        escaped |= new
        string = _encoded(text, escaped)
    return string


def _encoded(text: str, escaped: Collection[str] = ()) -> str:
    """Text as a JSON string, without the characters that role tokens are made of, and without some others."""
    plain = json.dumps(text, ensure_ascii=False)
    if escaped:
        pieces = (_escape(c) if c in escaped else json.dumps(c, ensure_ascii=False)[1:-1] for c in text)
        plain = f'"{"".join(pieces)}"'
    return str(_NO_TOKEN_OR_SYMBOL.sub(lambda found: found[1] or _escape(found[0]), plain))


def _escape(character: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(character.encode("utf-16-le")).cast("H"))


def _capped(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = limit - limit // 2
    return f"{text[:head]}\n(... {len(text) - limit} characters left out ...)\n{text[len(text) - limit // 2 :]}"


def _without_role_tokens(text: str) -> str:
    """Also those inside others: `<|im_<s>start|>` holds a second token inside the first."""
    for _ in range(_NESTED):
        if (stripped := _ROLE_TOKEN.sub(" ", text)) == text:
            return text
        text = stripped
    return text.translate(_BLUNT) if _ROLE_TOKEN.search(text) else text
