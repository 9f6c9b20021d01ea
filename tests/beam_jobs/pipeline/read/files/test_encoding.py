"""Encodings: every one Python has, guessed where the wrong one was given."""

from __future__ import annotations

import encodings.aliases
from pathlib import Path

import pytest

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.read.files.encoding import (
    check_encoding,
    is_line_safe,
    line_encoding,
    suggest_encoding,
)
from tests.support.runs.reading import COMPRESS, csv_bytes, ids, read_checked, read_unchecked, reasons, texts

SAMPLES = {
    "utf-8": "Ça coûte très cher, là-bas.",
    "cp1252": "Ça coûte très cher, là-bas. „Größe“ — naïve façade",
    "cp1251": "Съешь же ещё этих мягких французских булок, да выпей чаю",
    "shift_jis": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "euc_jp": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "gb18030": "我们的国家是一个大国,人民在这里生活和工作,他们都有自己的家。",
    "big5": "我們的國家是一個大國,人民在這裡生活和工作,他們都有自己的家。",
    "euc_kr": "모든 국민은 인간으로서의 존엄과 가치를 가지며 행복을 추구할 권리를 가진다.",
    "utf-16": "Ça coûte très cher, là-bas.",
    "utf-32": "Ça coûte très cher, là-bas.",
    "utf-16-le": "Ça coûte très cher, là-bas.",
    "utf-16-be": "Ça coûte très cher, là-bas.",
}
ALL_ENCODINGS = sorted(set(encodings.aliases.aliases.values()))


def usable(name: str) -> bool:
    try:
        check_encoding(name)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("encoding", SAMPLES)
def test_the_guess_is_right(encoding: str) -> None:
    assert suggest_encoding(f"{SAMPLES[encoding]}\n".encode(encoding)) == encoding
    assert (
        suggest_encoding((f"{SAMPLES[encoding]}\n" * 20).encode(encoding)[:301]) == encoding
    )  # cut anywhere


@pytest.mark.parametrize("encoding", [name for name in SAMPLES if name != "utf-8"])
@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "txt.gz"])
def test_a_file_that_is_mostly_not_utf8_is_refused_with_the_encoding_that_fits(
    tmp_path: Path, encoding: str, suffix: str
) -> None:
    lines = [SAMPLES[encoding].replace('"', "") for _ in range(10)]
    text = {
        "csv": csv_bytes([["text"], *([line] for line in lines)]).decode(),
        "jsonl": "".join(f'{{"text": "{line}"}}\n' for line in lines),
    }.get(suffix, "".join(f"{line}\n" for line in lines))
    path = tmp_path / f"a.{suffix}"
    content = text.encode(encoding)
    path.write_bytes(COMPRESS["gz"](content) if suffix.endswith("gz") else content)
    with pytest.raises(UsageError, match=f"--encoding {encoding},"):
        read_checked(path)
    assert texts(read_checked(path, encoding=encoding)) == lines


def test_a_few_bad_lines_are_dead_letters_not_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\n" * 6 + b"b\xe9d\n" * 4)
    assert reasons(read_checked(tmp_path / "a.txt")) == ["ok"] * 6 + ["invalid_encoding"] * 4


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-32-le", "ascii", "euc_kr"])
def test_utf8_taken_for_something_else_is_noticed(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Ça coûte très cher\n".encode() * 20)
    with pytest.raises(UsageError, match=r"Try --encoding utf-8,"):
        read_checked(path, encoding=encoding)
    if encoding in ("utf-16", "utf-32"):
        (dead,) = read_unchecked(path, path.read_bytes(), encoding=encoding)
        assert reasons([dead]) == ["no_byte_order_mark"]


@pytest.mark.parametrize("name", ["no-such", "rot13", "base64", "hex", "", "a\0b", "undefined"])
def test_what_is_no_text_encoding_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--encoding"):
        check_encoding(name)


@pytest.mark.parametrize("name", [name for name in ALL_ENCODINGS if usable(name)])
def test_in_a_line_safe_encoding_no_character_but_the_line_feed_holds_its_byte(name: str) -> None:
    if not is_line_safe(name):
        return
    for first in range(0, 0x110000, 0x1000):
        if first != 0xD000:  # of the surrogates, which are no characters
            characters = "".join(map(chr, range(first, first + 0x1000))).replace("\n", "")
            assert b"\n" not in characters.encode(name, "ignore"), hex(first)


@pytest.mark.parametrize("name", [name for name in ALL_ENCODINGS if usable(name)])
def test_every_encoding_gives_the_text_back(tmp_path: Path, name: str) -> None:
    wanted = ["plain", "", "Grüße", "Привет", "日本", "カナ", "한국", "a\rb", "c"]
    lines = [line for line in wanted if line.encode(name, "ignore").decode(name, "ignore") == line]
    content = "".join(f"{line}\n" for line in lines).encode(name)
    assert texts(read_unchecked(tmp_path / "a.txt", content, encoding=name, split_bytes=7)) == lines


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037"])
def test_encodings_that_cannot_be_cut_are_one_span_named_by_number(tmp_path: Path, name: str) -> None:
    content = "a\n\u0a0a b\nc".encode(name, "ignore")
    outcomes = read_unchecked(tmp_path / "a.txt", content, encoding=name, split_bytes=1)
    assert ids(outcomes) == ["a.txt#0", "a.txt#1", "a.txt#2"]
    assert line_encoding(name) == "utf-8"


def test_bad_bytes_in_utf16_are_one_dead_letter(tmp_path: Path) -> None:
    content = "good\n".encode("utf-16-le") + b"b\0\x00\xd8d\0\n\0" + "fine\n".encode("utf-16-le")
    outcomes = read_unchecked(tmp_path / "a.txt", content, encoding="utf-16-le")
    assert reasons(outcomes) == ["ok", "invalid_encoding", "ok"]
    assert texts(outcomes) == ["good", "fine"]
    rows = "text\ngood\n".encode("utf-16-be") + b"\xd8\x00\0\n" + '"fi\nne"'.encode("utf-16-be")
    outcomes = read_unchecked(tmp_path / "a.csv", rows, encoding="utf-16-be")
    assert reasons(outcomes) == ["ok", "invalid_encoding", "ok"]
    assert texts(outcomes) == ["good", "fi\nne"]


def test_a_utf8_mark_is_left_out_under_any_name(tmp_path: Path) -> None:
    for name in ("utf-8", "UTF8", "utf-8-sig", "utf_8"):
        assert texts(read_unchecked(tmp_path / "a.txt", b"\xef\xbb\xbfa\nb\n", encoding=name)) == ["a", "b"]
