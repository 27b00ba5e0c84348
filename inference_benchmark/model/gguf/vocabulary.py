"""Vocabularies for written GGUF files: none, or one in which every token id is one character.

An engine that takes text only, such as Ollama, is given ids through text: each id is a character of
Unicode's private planes, which no tokenizer splits, joins or normalises. So a prompt's characters
are its tokens, and the characters of an answer are the tokens that were generated.
"""

from inference_benchmark.errors import CannotRun

_PLANES = (
    range(0xF0000, 0xFFFFE),
    range(0x100000, 0x10FFFE),
)  # private use, 65,534 characters each
_LARGEST = sum(map(len, _PLANES))
_NORMAL, _CONTROL = 1, 3  # types of tokens, as llama.cpp numbers them
# These engines stop at the end of the text and can't be told not to. So that no token of the model
# ends it, a further one does: its row of the head is zero, so its logit is 0, and as long as any
# other is positive, it is never the largest.
NUM_ADDED = {"none": 0, "characters": 1}


def text_of(ids: list[int]) -> str:
    return "".join(map(_character, ids))


def ids_of(text: str) -> list[int]:
    """
    Raises:
        ValueError: a character is none of the vocabulary's.
    """
    return [_id(character) for character in text]


def _character(token: int) -> str:
    first, second = _PLANES
    return chr(first[token] if token < len(first) else second[token - len(first)])


def _id(character: str) -> int:
    first, second = _PLANES
    code = ord(character)
    if code in first:
        return code - first.start
    if code in second:
        return len(first) + code - second.start
    raise ValueError(f"U+{code:04X} is no token's character")


def add_vocabulary(writer, vocabulary: str, size: int) -> None:
    """Write the tokenizer's part of the metadata.

    writer: a gguf.GGUFWriter. size: tokens of the model, without those that are added.

    Raises:
        CannotRun: more tokens than there are characters.
    """
    if vocabulary == "none":
        writer.add_tokenizer_model("none")
        return
    if size >= _LARGEST:
        raise CannotRun(f"{size} tokens: only {_LARGEST} characters of Unicode are for private use")
    writer.add_tokenizer_model("llama")  # SentencePiece: joins only what the vocabulary has joined
    writer.add_token_list([_character(token) for token in range(size + 1)])
    writer.add_token_scores([0.0] * (size + 1))
    writer.add_token_types([_NORMAL] * size + [_CONTROL])
    for add_role in (writer.add_unk_token_id, writer.add_bos_token_id, writer.add_eos_token_id):
        add_role(size)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
