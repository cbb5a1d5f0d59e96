"""Text without a download: made up from a seed, the same bytes on every machine.

Words are invented from syllables and used with Zipf's frequencies; sentences follow a small
grammar, and a word likes some followers more than others. So there is something to learn at every
length: letters within syllables, spelling, word order, punctuation.
"""

import functools

import numpy as np

from l2ljax.checks import check_positive_int

ONSETS = [*"bdfgklmnprstvz", "br", "dr", "gr", "kl", "pl", "pr", "sk", "st", "tr"]
NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "ou"]
CODAS = ["", "", "", "n", "r", "s", "l", "t", "nd", "st"]

NUM_WORDS = 400
"""Invented words, in three classes."""

PATTERNS = ["the N V the N", "a A N V", "the A N V a N", "N V and N V", "if a N V, the N V"]


@functools.cache
def invented_text(num_bytes: int = 200_000, seed: int = 0) -> np.ndarray:
    """Made-up sentences as bytes.

    Args:
        num_bytes: how many.
        seed: of the words and the sentences.

    Returns:
        uint8 `[num_bytes]`, ASCII: lower-case letters, space, comma, full stop, newline.

    Raises:
        ValueError: for a `num_bytes` that is no positive integer.

    Example:
        >>> text = bytes(invented_text(1000)).decode()
        >>> len(text), set(text) <= set("abcdefghijklmnopqrstuvwxyz ,.\\n")
        (1000, True)
    """
    check_positive_int("num_bytes", num_bytes)
    rng = np.random.Generator(np.random.PCG64(seed))
    words = _words(rng)
    shares = 1 / np.arange(1, NUM_WORDS // 3 + 1)
    # Each word has twelve followers of each class that it prefers.
    liked = {kind: rng.integers(0, NUM_WORDS // 3, (NUM_WORDS, 12)) for kind in "NVA"}
    lines, size, last = [], 0, 0
    while size < num_bytes:
        sentence = []
        for token in PATTERNS[rng.integers(len(PATTERNS))].split():
            kind, comma = token.rstrip(","), "," * token.endswith(",")
            if kind in "NVA":
                if rng.random() < 0.6:
                    chosen = liked[kind][last, rng.integers(12)]
                else:
                    chosen = rng.choice(NUM_WORDS // 3, p=shares / shares.sum())
                last = int(chosen) + "NVA".index(kind) * (NUM_WORDS // 3)
                token = words[last] + comma
            sentence.append(token)
        end = ".\n" if rng.random() < 0.2 else ". "
        lines.append(" ".join(sentence) + end)
        size += len(lines[-1])
    return np.frombuffer("".join(lines).encode()[:num_bytes], np.uint8)


def _words(rng: np.random.Generator) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < NUM_WORDS:
        syllables = rng.choice([1, 2, 3], p=[0.3, 0.5, 0.2])
        parts = [
            rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(CODAS) for _ in range(syllables)
        ]
        found["".join(parts)] = None
    return list(found)
