"""Vocabularies for written GGUF files: none, or one in which every token id is one character.

An engine that takes text only, such as Ollama, is given ids through text: each id is a character of
Unicode's private planes, which no tokenizer splits, joins or normalises. So a prompt's characters
are its tokens, and the characters of an answer are the tokens that were generated.
"""

from inference_benchmark.errors import CannotRun

VOCABULARIES = ("none", "characters")
_PLANES = (
    range(0xF0000, 0xFFFFE),
    range(0x100000, 0x10FFFE),
)  # private use, 65,534 characters each
_LARGEST = sum(map(len, _PLANES))
_NORMAL = 1  # a token that is neither unknown, control, user-defined nor a byte
# The model needs tokens of these roles. Being ordinary ones, they can be generated: the end of the
# text then ends an answer early, which is what its length has to be looked at for.
END_OF_TEXT = 2
_UNKNOWN = 0


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
    """Write the tokenizer's part of the metadata. writer: a gguf.GGUFWriter.

    Raises:
        CannotRun: more tokens than there are characters.
    """
    if vocabulary == "none":
        writer.add_tokenizer_model("none")
        return
    if size > _LARGEST:
        raise CannotRun(f"{size} tokens: only {_LARGEST} characters of Unicode are for private use")
    writer.add_tokenizer_model("llama")  # SentencePiece: joins only what the vocabulary has joined
    writer.add_token_list([_character(token) for token in range(size)])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([_NORMAL] * size)
    writer.add_unk_token_id(_UNKNOWN)
    writer.add_bos_token_id(min(1, size - 1))
    writer.add_eos_token_id(min(END_OF_TEXT, size - 1))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
