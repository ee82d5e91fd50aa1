"""Reads the text out of a PDF as fpdf2 writes it, page by page."""

import re
import zlib

OBJECT = re.compile(rb"(\d+) 0 obj\n(<<.*?>>)\n(?:stream\n(.*?)\nendstream\n)?endobj", re.DOTALL)
STRING = re.compile(rb"/(F\d+) [\d.]+ Tf|\(((?:[^()\\]|\\.)*)\) Tj", re.DOTALL)
ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
RETURNS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def pages(pdf: bytes) -> list[str]:
    """Return the text of each page: what was written at once, one a line."""
    return ["\n".join("".join(text for _, text in line) for line in page) for page in glyphs(pdf)]


def glyphs(pdf: bytes) -> list[list[list[tuple[int, str]]]]:
    """Return the glyphs of each page: of what was written at once, each glyph's code and the
    letters it stands for. Of several glyphs for the same letters the first one says them all."""
    objects = {
        int(match[1]): (match[2], _unpacked(match[2], match[3])) for match in OBJECT.finditer(pdf)
    }
    letters = _letters(objects)
    found = []
    for dictionary, _ in objects.values():
        contents = re.search(rb"/Contents (\d+) 0 R", dictionary)
        if contents is not None:
            found.append(_lines(objects[int(contents[1])][1], letters))
    return found


def _unpacked(dictionary: bytes, stream: bytes | None) -> bytes:
    if stream is None:
        return b""
    return zlib.decompress(stream) if b"/FlateDecode" in dictionary else stream


def _letters(objects: dict[int, tuple[bytes, bytes]]) -> dict[bytes, dict[int, str]]:
    """What each font's codes stand for, by the font's name on the pages."""
    found: dict[bytes, dict[int, str]] = {}
    for dictionary, _ in objects.values():
        for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", dictionary):
            told = re.search(rb"/ToUnicode (\d+) 0 R", objects[int(number)][0])
            if told is None:
                continue
            table = objects[int(told[1])][1]
            found[name] = {
                int(code, 16): bytes.fromhex(text.decode()).decode("utf-16-be")
                for code, text in re.findall(rb"^<(\w+)> <(\w+)>$", table, re.MULTILINE)
            }
    return found


def _lines(content: bytes, letters: dict[bytes, dict[int, str]]) -> list[list[tuple[int, str]]]:
    font, lines = b"", []
    for match in STRING.finditer(content):
        if match[1] is not None:
            font = match[1]
            continue
        raw = ESCAPED.sub(lambda escaped: RETURNS.get(escaped[1], escaped[1]), match[2])
        codes = [int.from_bytes(raw[place : place + 2]) for place in range(0, len(raw), 2)]
        lines.append([(code, letters[font].get(code, "")) for code in codes])
    return lines
