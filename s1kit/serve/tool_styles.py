r"""The forms in which models' chat templates teach them to call tools.

| families | a call |
|---|---|
| Hermes, Qwen2.5, Qwen3, Granite 4, Bielik | `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` |
| Apriel, MiniMax-M1, Nemotron v2 | the same, several between `<tool_calls>` or `<TOOLCALL>` and their ends |
| Apertus | `<\|tools_prefix\|>[{NAME: {...}}]<\|tools_suffix\|>` |
| GigaChat 3.1 | `<\|function_call\|>{"name": ..., "arguments": {...}}`, to the end |
| Llama 3 | the whole answer is `{"name": ..., "parameters": {...}}`, perhaps after `<\|python_tag\|>` |
| Qwen3-Coder, Qwen3.5, Nemotron 3, StepFun | `<tool_call><function=NAME><parameter=KEY>value</parameter>` |
| Seed-OSS | the same between `<seed:tool_call>` and its end |
| MiniMax-M2, DeepSeek V3.2 and V4 | `<invoke name="NAME"><parameter name="KEY">value</parameter>` between marks |
| GLM, Laguna, Ling, Spark, Hunyuan 3 | `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>value</arg_value>` |
| Mistral | `[TOOL_CALLS][{"name": ..., "arguments": {...}}]` or `[TOOL_CALLS]NAME[ARGS]{...}`, to the end |
| DeepSeek V3, R1 | `<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{...}<｜tool▁call▁end｜>`, several between marks |
| Kimi K2 | `<\|tool_call_begin\|>functions.NAME:0<\|tool_call_argument_begin\|>{...}<\|tool_call_end\|>`, likewise |
| LFM 2.5 | `<\|tool_call_start\|>[NAME(KEY='value')]<\|tool_call_end\|>` |
| Gemma 4 | `<\|tool_call>call:NAME{KEY:<\|"\|>value<\|"\|>}<tool_call\|>` |
| gpt-oss | `<\|channel\|>commentary to=functions.NAME<\|message\|>{...}<\|call\|>` |

Read off the published templates' own rendering of a call, which `make test-real` holds them to.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from s1kit.serve.tool_calls import AnswerReader, Call, ToolStyle, loaded, new_call, possible_start

_BODY = "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_ROLE = re.compile(r"^\s*(?:<\|start\|>)?(?:assistant)?\s*")


class HarmonyReader(AnswerReader):
    """Splits an answer in gpt-oss's response format (harmony) into content and calls, which headers address.

        <|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>
        <|channel|>final<|message|>It is 3.<|return|>

    An answer begins with the header of its first message. Source: OpenAI's "harmony response format" guide; the
    recipient may stand in the role part of a header too. Messages of the channels final and commentary are content, as
    are those of analysis: thinking was over.

    >>> reader = HarmonyReader()
    >>> reader.feed("<|channel|>final<|message|>It is")
    ('It is', [])
    """

    def __init__(self) -> None:
        super().__init__()
        self._header = ""
        """That of the message being read, with its mark."""
        self._recipient: str | None = None
        self._is_body = False

    def _step(self, content: list[str], calls: list[Call]) -> bool:
        if not self._is_body:
            header, mark, rest = self._held.partition(_BODY)
            if not mark:
                if not _may_be_header(self._held):
                    # A model that left the format: its text is shown as it is.
                    self._is_body, self._header, self._recipient = True, "", None
                    return True
                return False
            found = _RECIPIENT.search(header)
            self._recipient = found[1].removeprefix("functions.") if found is not None else None
            self._header, self._held, self._is_body = header + mark, rest, True
            return True
        at, end = min(((i, e) for e in _ENDS if (i := self._held.find(e)) >= 0), default=(-1, ""))
        if at >= 0:
            self._close(self._held[:at], content, calls)
            # The next header may begin with either of these.
            keeps = end in ("<|start|>", "<|channel|>")
            self._held = self._held[at if keeps else at + len(end) :]
            return True
        if self._recipient is not None:
            return False
        sure = len(self._held) - max(possible_start(self._held, end) for end in _ENDS)
        content.append(self._held[:sure])
        self._held = self._held[sure:]
        return False

    def _close(self, body: str, content: list[str], calls: list[Call]) -> None:
        self._is_body = False
        if self._recipient is None:
            content.append(body)
        elif isinstance(loaded(body or "{}"), dict):
            calls.append(new_call(self._recipient, body.strip() or "{}"))
        else:
            content.append(self._header + body)

    def finish(self) -> tuple[str, list[Call]]:
        """What was held back. A call that was never closed counts if it is whole."""
        held, self._held = self._held, ""
        if not self._is_body:
            return ("" if _ROLE.fullmatch(held) else held), []
        content: list[str] = []
        calls: list[Call] = []
        self._close(held, content, calls)
        return "".join(content), calls


def _may_be_header(text: str) -> bool:
    """Whether a text without `<|message|>` may be the beginning of a header."""
    begun = _ROLE.sub("", text, count=1)
    marks = ("<|channel|>", "to=", "<|start|>", "assistant")
    return begun.startswith(marks[:2]) or any(mark.startswith(begun) for mark in marks)


def _read_json(text: str) -> list[Call] | None:
    """One object, a list of them, or one a line."""
    body = text.strip()
    parsed = loaded(body)
    if parsed is None and "\n" in body:
        parsed = [loaded(line) for line in body.splitlines() if line.strip()]
    return _calls_of(parsed)


def _read_tags(text: str) -> list[Call] | None:
    body = text.strip()
    return _read_json(body) if body.startswith("{") else _read_functions(body)


def _read_by_name(text: str) -> list[Call] | None:
    """A list of objects whose only key is the name of the tool."""
    parsed = loaded(text)
    if not isinstance(parsed, list) or not all(isinstance(e, dict) and len(e) == 1 for e in parsed):
        return None
    return [new_call(name, arguments) for entry in parsed for name, arguments in entry.items()] or None


def _read_arg_keys(text: str) -> list[Call] | None:
    """A name, alone where the call has no arguments: which is a call in this family only."""
    body = text.replace(":opensource>", ">").strip()
    parts = re.findall(r"<tool_call>(.*?)<tool_sep>(.*?)</tool_call>", body, re.DOTALL)
    if not parts:
        name, mark, rest = body.partition("<arg_key>")
        parts = [(name, mark + rest)]
    calls = []
    for name, rest in parts:
        if not re.fullmatch(r"[\w.-]+", name.strip()):
            return None
        pairs = re.findall(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", rest, re.DOTALL)
        calls.append(new_call(name.strip(), {key.strip(): _value(value) for key, value in pairs}))
    return calls


def _read_functions(body: str) -> list[Call] | None:
    found = re.fullmatch(r"\s*<function=([\w.-]+)>(.*?)(?:</function>)?\s*", body, re.DOTALL)
    if found is None:
        return None
    pairs = re.findall(r"<parameter=([\w.-]+)>\n?(.*?)\n?(?:</parameter>|(?=<parameter=)|$)", found[2], re.DOTALL)
    return [new_call(found[1], {key: _value(value) for key, value in pairs})]


def _read_invokes(text: str) -> list[Call] | None:
    body = text.replace("｜DSML｜", "")
    calls = []
    for name, rest in re.findall(r'<invoke name="([^"]+)">(.*?)</invoke>', body, re.DOTALL):
        pairs = re.findall(r'<parameter name="([^"]+)"([^>]*)>(.*?)</parameter>', rest, re.DOTALL)
        arguments = {key: value if 'string="true"' in more else _value(value) for key, more, value in pairs}
        calls.append(new_call(name, arguments))
    return calls or None


def _read_mistral(text: str) -> list[Call] | None:
    body = text.strip()
    if body.startswith(("[{", "{")):
        return _read_json(body)
    calls = []
    for part in filter(None, body.split("[TOOL_CALLS]")):
        name, begun, rest = part.partition("{")
        arguments = loaded(begun + rest)
        name = re.sub(r"\[(?:ARGS|CALL_ID).*", "", name, flags=re.DOTALL).strip()
        if not isinstance(arguments, dict) or not name:
            return None
        calls.append(new_call(name, arguments))
    return calls or None


def _read_deepseek(text: str) -> list[Call] | None:
    calls = []
    for head, rest in re.findall(r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)<｜tool▁call▁end｜>", text, re.DOTALL):
        fenced = re.fullmatch(r"\s*([\w.-]+)\s*```json\s*(.*?)\s*```\s*", rest, re.DOTALL)
        name, arguments = (fenced[1], loaded(fenced[2])) if fenced is not None else (head.strip(), loaded(rest))
        if not isinstance(arguments, dict):
            return None
        calls.append(new_call(name, arguments))
    return calls or None


def _read_kimi(text: str) -> list[Call] | None:
    pattern = r"<\|tool_call_begin\|>(.*?)<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>"
    calls = []
    for head, rest in re.findall(pattern, text, re.DOTALL):
        name = re.sub(r":\d+$", "", head.strip()).removeprefix("functions.")
        arguments = loaded(rest)
        if not isinstance(arguments, dict):
            return None
        calls.append(new_call(name, arguments))
    return calls or None


def _read_python(text: str) -> list[Call] | None:
    """A list of Python calls with literals as keyword arguments. It is parsed, never run."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        found = tree.elts if isinstance(tree, ast.List) else [tree]
        calls = []
        for one in found:
            if not isinstance(one, ast.Call) or one.args or any(k.arg is None for k in one.keywords):
                return None
            arguments = {str(k.arg): ast.literal_eval(k.value) for k in one.keywords}
            calls.append(new_call(ast.unparse(one.func), arguments))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return calls or None


_GEMMA = re.compile(r'<\|"\|>(.*?)<\|"\|>|([{,]\s*)([\w.-]+)\s*:', re.DOTALL)


def _read_gemma(text: str) -> list[Call] | None:
    """An object whose keys are bare and whose strings are between `<|"|>`."""
    found = re.fullmatch(r"\s*call:([\w.-]+)(\{.*\})\s*", text, re.DOTALL)
    if found is None:
        return None
    quoted = _GEMMA.sub(lambda m: _quoted(m[1]) if m[1] is not None else f"{m[2]}{_quoted(m[3])}:", found[2])
    arguments = loaded(quoted)
    return [new_call(found[1], arguments)] if isinstance(arguments, dict) else None


def _read_llama(text: str) -> list[Call] | None:
    found = [_calls_of(loaded(part)) for part in text.removesuffix("<|eom_id|>").split("; ")]
    return [call for calls in found if calls for call in calls] if None not in found else None


def _never(_: str) -> list[Call] | None:
    return None


TAGS = ToolStyle("<tool_call>", "</tool_call>", _read_tags, arguments_key="arguments")
FUNCTIONS = ToolStyle("<tool_call>", "</tool_call>", _read_functions)
GLM = ToolStyle("<tool_call>", "</tool_call>", _read_arg_keys)
MISTRAL = ToolStyle("[TOOL_CALLS]", "", _read_mistral)
LLAMA = ToolStyle("<|python_tag|>", "", _read_llama, only_at_start=True, arguments_key="parameters")
HARMONY = ToolStyle(
    "<|channel|>commentary",
    "<|call|>",
    _never,
    make_reader=HarmonyReader,
    shared_end="<|end|><|start|>assistant",
    stops=("<|call|>",),
)

STYLES: tuple[ToolStyle, ...] = (
    FUNCTIONS,
    TAGS,
    GLM,
    MISTRAL,
    ToolStyle("<seed:tool_call>", "</seed:tool_call>", _read_functions),
    ToolStyle("<tool_calls:opensource>", "</tool_calls:opensource>", _read_arg_keys),
    ToolStyle("<tool_calls>", "</tool_calls>", _read_json),
    ToolStyle("<TOOLCALL>", "</TOOLCALL>", _read_json),
    ToolStyle("<|tools_prefix|>", "<|tools_suffix|>", _read_by_name),
    ToolStyle("<|function_call|>", "", _read_json),
    ToolStyle("<minimax:tool_call>", "</minimax:tool_call>", _read_invokes),
    ToolStyle("<｜DSML｜function_calls>", "</｜DSML｜function_calls>", _read_invokes),
    ToolStyle("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", _read_invokes),
    ToolStyle("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", _read_deepseek),
    ToolStyle("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", _read_kimi),
    ToolStyle("<|tool_call_start|>", "<|tool_call_end|>", _read_python),
    ToolStyle("<|tool_call>", "<tool_call|>", _read_gemma),
    HARMONY,
    LLAMA,
)
"""In the order in which they are tried on a template."""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _value(text: str) -> Any:
    """A parameter's value: JSON where it is, else the text itself."""
    parsed = loaded(text)
    return text if parsed is None and text.strip() != "null" else parsed


def _calls_of(parsed: Any) -> list[Call] | None:
    entries = parsed if isinstance(parsed, list) else [parsed]
    if not entries or not all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries):
        return None
    return [new_call(e["name"], e.get("arguments", e.get("parameters", {}))) for e in entries]
