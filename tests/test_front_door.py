"""Slips of people who come from other tools: each is told with what to write, before anything is decoded or paid."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1kit.cli import main
from s1kit.cli.preflight import check_reference
from s1kit.cli.references import check_price
from s1kit.errors import InputError
from s1kit.forcing.request import Request
from s1kit.providers.terms import terms_of
from s1kit.questions import find_files
from s1kit.recipe import load_recipe


@pytest.mark.parametrize(("name", "text"), [("r.yaml", "evaluate:\n  model: tiny\n"), ("r.json", '{"name": "x"}')])
def test_a_recipe_in_another_language_is_told_what_one_is(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="A recipe is TOML"):
        load_recipe(str(tmp_path / name))


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ({"input": 2.5e-6, "output": 1e-5}, "Prices are for a million tokens: input=2.5, if it was for one token"),
        ({"input": 1.0, "output": 1e-5}, "output=10, if it was"),
        ({"input": 1.0}, "cannot be used"),
        ({"input": 0.0, "output": 0.01}, ""),
    ],
)
def test_a_price_for_one_token_is_told_from_one_for_a_million(price: dict[str, float], said: str) -> None:
    if not said:
        check_price("chat:openai/gpt-4o", price=price)
        return
    with pytest.raises(InputError, match=said):
        check_price("chat:openai/gpt-4o", price=price)


def test_a_missing_key_does_not_hide_the_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    given = [f"out={tmp_path}", "distill.teacher=chat:deepseek/deepseek-chat", "distill.price=3/15"]
    found = "\n".join(map(str, check_reference("tiny", given, ["distill"])[1]))
    assert "there is no key for deepseek" in found
    assert found.count("the price is '3/15'") == 1


def test_a_setting_with_dashes_is_told_how_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "tiny", "--evaluate.model=tiny"])
    assert "a setting is written without dashes: evaluate.model=tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--to", "nowhere/rule.json"], "there is no folder 'nowhere'"),
        (["--every", "64", "--max-tokens", "64"], "--every is 64 and --max-tokens 64"),
    ],
)
def test_calibrate_says_before_it_decodes_what_it_could_not_write_or_ask(
    given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"question": "1+1?", "answer": "2"}\n')
    to = [] if "--to" in given else ["--to", str(tmp_path)]
    assert main(["calibrate", "hf:nowhere/model", "--questions", str(questions), *to, *given]) == 2
    assert said in capsys.readouterr().err


def test_a_question_of_bytes_that_are_no_utf8_is_refused_by_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    # Python makes half characters of what the terminal sent in another encoding.
    assert main(["ask", "caf\udce9?"]) == 2
    assert "character 4 of the question is '\\udce9', half of one" in capsys.readouterr().err
    with pytest.raises(InputError, match="of the wait"):
        Request("1+1?", wait=("Wait", "\ud83d"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('path="https://huggingface.co/datasets/openai/gsm8k/resolve/main/a.jsonl"', 'write hub = "openai/gsm8k"'),
        ('path="openai/gsm8k"', 'write hub = "openai/gsm8k"'),
        ('path="https://example.org/a.jsonl"', "download it"),
        ('path="data/questions.csv"', "Give a file that ends in"),
        ('hub="https://huggingface.co/datasets/openai/gsm8k"', 'Write hub = "openai/gsm8k"'),
        ('hub="https://huggingface.co/datasets/openai/gsm8k/tree/main"', 'Write hub = "openai/gsm8k"'),
    ],
)
def test_a_source_that_is_an_address_is_told_how_the_hub_is_named(source: str, said: str, tmp_path: Path) -> None:
    given = [f"out={tmp_path}", f"collect.sources=[{{{source}}}]"]
    (fault,) = check_reference("tiny", given, ["collect"])[1]
    assert said in str(fault)


def test_a_file_below_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "q.csv").write_text("question\n1+1?\n")
    assert find_files("~/q.csv") == [tmp_path / "q.csv"]


def test_a_trace_of_deepseek_s_own_server_keeps_its_terms() -> None:
    assert terms_of("deepseek-reasoner").terms == terms_of("chat:deepseek/deepseek-reasoner").terms == "permits"
    assert terms_of("chat:http://localhost/v1#deepseek-chat-tuned").terms == "unknown"
