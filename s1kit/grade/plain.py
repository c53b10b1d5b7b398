r"""Plain and Unicode mathematics as LaTeX, so that one parser reads all spellings.

>>> to_latex("3√2 + x²"), to_latex("1½"), to_latex("sqrt(5)/2"), to_latex("3×10⁻⁴")
('3\\sqrt{2} + x^{2}', '1\\frac{1}{2}', '\\sqrt{5}/2', '3\\times 10^{-4}')
>>> to_latex("1\\,234\\,567"), to_latex("(-infinity, 5)"), to_latex("2*cos(x)")
('1234567', '(-\\infty , 5)', '2\\cdot \\cos (x)')
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MAX_LENGTH = 20000
"""Characters of a text that is converted; a longer one is returned as it is."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+")
_VULGAR = re.compile("[¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_WIDE = re.compile("[！-～]")
_SYMBOLS = {
    "×": "\\times ",
    "·": "\\cdot ",
    "⋅": "\\cdot ",
    "∙": "\\cdot ",
    "÷": "/",
    "⁄": "/",
    "∕": "/",
    "∞": "\\infty ",
    "±": "\\pm ",
    "≤": "\\le ",
    "≥": "\\ge ",
    "≡": "\\equiv ",
    "≠": "\\ne ",
    "∪": "\\cup ",
    "∩": "\\cap ",
    "∈": "\\in ",
    "ℤ": "\\mathbb{Z}",
    "ℝ": "\\mathbb{R}",
    "ℕ": "\\mathbb{N}",
    "∅": "\\emptyset ",
    "π": "\\pi ",
    "θ": "\\theta ",
    "α": "\\alpha ",
    "β": "\\beta ",
    "λ": "\\lambda ",
    "−": "-",
    "–": "-",
    "…": "\\ldots ",
    "，": ",",
    "；": ";",
    "、": ",",
    "。": ".",
}
_SYMBOL = re.compile("|".join(_SYMBOLS))
_SPACES = "\u00a0\u2009\u202f\u2007\u2008"
_GROUPED = re.compile(
    rf"(?<![\d.])(?!0[,{{])\d{{1,3}}(?:(?:\{{,\}}|,\s?(?:\\!\s?)?|\\[,;: !]\s?|~|[{_SPACES}'’])\d{{3}})+(?!\d)"
    r"(?![,.]\d{3},)"
)
_SPACE_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?: \d{3})+(?:\.\d+)?(?!\d)")
_UNDERSCORED = re.compile(r"\d{1,3}(?:_\d{3})+")
_SIGNED_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[a-zA-Z]|(?=[({]))")
_WORD = re.compile(
    r"(?<![\\a-zA-Z])(?:(arc(?:sin|cos|tan)|a(?:sin|cos|tan)(?=\s*\()|sinh|cosh|tanh|sin|cos|tan|cot|sec(?=\s*\()|csc|ln|log|exp|pi|infinity|infty|theta)"
    r"(?![a-zA-Z])|(sin|cos|tan|ln|log)(?=[xyzuvABC](?![a-zA-Z])))"
)
_CALL = re.compile(r"(?<![\\a-zA-Z])(sqrt|cbrt)\s*\(")
_ABS = re.compile(r"(?<![\\a-zA-Z])abs\s*\(([^()|]*)\)")
_LOG_OF = re.compile(r"(?<![\\a-zA-Z])log_?(2|10)(?=\s*\()")
_BRACED = re.compile(r"(?<![\\a-zA-Z])sqrt\s*(?=\{|\d)")
_INVERSE = re.compile(r"\\?(?<![a-zA-Z])(sin|cos|tan)\s*\^\s*(?:\{\s*-\s*1\s*\}|-1(?!\d)|\(-1\))\s*")
"""`\\sin^{-1}`, the inverse function."""
_CHOSEN = re.compile(
    r"(?<![\\a-zA-Z\d])n?C\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)|(?<![\w\\{^])\{?(\d+)\s*(?:C|\\choose)\s*(\d+)(?![\w.])\}?"
)
"""`C(10, 3)`, `10C3` and `{10 \\choose 3}`: the number of ways to choose."""
_POWER_OF_TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)")
_MODULE = re.compile(r"(?<![\w\\.])(?:np|numpy|math|sympy|sp)\.(?=[a-z])")
"""`np.arcsin(0.5)`: a function as a program calls it."""
_DERIVATIVE = re.compile(r"(?<![a-zA-Z])d([yfu])\s*/\s*d[xt](?![a-zA-Z])|\\frac\s*\{d([yfu])\}\s*\{d[xt]\}")
_CIRCLED = re.compile(r"\\textcircled\s*\{?\s*(\d{1,2})\s*\}?")
_ARRAY = re.compile(
    r"(?:\\left\s*)?[\[(]\s*\\begin\s*\{array\}\s*\{[^{}]*\}(.*?)\\end\s*\{array\}\s*(?:\\right\s*)?[\])]", re.DOTALL
)
"""An array in brackets, which is how textbooks typeset a matrix."""
_TIMES = re.compile(r"(?<!\*)\*(?!\*)")


def to_latex(text: str) -> str:
    """`text` with Unicode and plain-text mathematics spelled as LaTeX, digit groups joined."""
    if len(text) > MAX_LENGTH or text.isdecimal():
        return text
    text = with_percent_signs(with_single_backslashes(without_bold(text)))
    if "." in text:
        text = _MODULE.sub("", text)
    if "textcircled" in text:
        text = _CIRCLED.sub(lambda match: chr(ord("①") - 1 + int(match[1])), text)
    text = re.sub(r"\\bmod(?![a-zA-Z])", r"\\mod", text)
    text = with_repetends(text)
    text = _ARRAY.sub(r"\\begin{pmatrix}\1\\end{pmatrix}", text)
    text = text.replace("{bmatrix}", "{pmatrix}").replace("{smallmatrix}", "{pmatrix}")
    if not text.isascii():
        text = join_words(text)
        text = _from_unicode(text)
    text = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", text)
    if "/" in text or "{d" in text:
        text = _DERIVATIVE.sub(lambda match: f"{match[1] or match[2]}'", text)
    text = _POWER_OF_TEN.sub(r"\\times ", join_digit_groups(text))
    text = re.sub(r"\^\s*(-?\d{2,}|-\d)(?![\d.])", r"^{\1}", text)
    text = _INVERSE.sub(r"\\arc\1 ", text)
    text = _CHOSEN.sub(lambda match: f"\\binom{{{match[1] or match[3]}}}{{{match[2] or match[4]}}}", text)
    text = _ABS.sub(r"|\1|", text)
    text = _LOG_OF.sub(r"\\log_{\1}", text)
    text = _replace_calls(_BRACED.sub(r"\\sqrt", text))
    text = _WORD.sub(lambda match: _command(match[1] or match[2]), text)
    text = re.sub(r"\b(?:oo|inf)\b(?=\s*[,)\]])", r"\\infty ", text)
    return _TIMES.sub(r"\\cdot ", text.replace("**", "^")) if re.search(r"[\w)}]\s*\*\*?\s*[\w(\\-]", text) else text


_DOUBLED = re.compile(
    r"\\\\(?=(?:[dt]?frac|sqrt|boxed|text|mathrm|left|right|infty|pi|leq?|geq?|neq?|cdot|times|cup|in|pm|begin|end)(?![a-zA-Z]))"
)


def with_single_backslashes(text: str) -> str:
    r"""`text` with one backslash before each command where it was escaped twice, as in JSON within JSON.

    >>> with_single_backslashes(r"-2 \\le x"), with_single_backslashes(r"1 & 2 \\ 3 & 4")
    ('-2 \\le x', '1 & 2 \\\\ 3 & 4')
    """
    if "\\\\" not in text:
        return text
    if "\\\\begin" in text:
        return text.replace("\\\\", "\\")
    return text if "\\begin" in text else _DOUBLED.sub(r"\\", text)


_PERCENT_WORD = r"(?<![a-zA-Z])(?:per\s?cent|percentage|pct)(?![a-zA-Z])(?!\s+points?)\.?"
_PERCENT = re.compile(rf"(?<=[\d}})$])\s*(?:\\(?:text|mathrm|mbox)\s*\{{\s*{_PERCENT_WORD}\s*\}}|{_PERCENT_WORD})")


def with_percent_signs(text: str) -> str:
    r"""`text` with the percent sign after a number in place of its word.

    >>> with_percent_signs("33.5 percent"), with_percent_signs(r"\frac{1}{2}\text{ percent}"), with_percent_signs("%")
    ('33.5\\%', '\\frac{1}{2}\\%', '%')
    """
    return _PERCENT.sub(r"\\%", text) if "pct" in text or "cent" in text else text


_BOLD = re.compile(r"(?<![\w*)])\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*(?![\w*(])")


def without_bold(text: str) -> str:
    """`text` without the asterisks around what is set in bold; powers stay.

    >>> without_bold("**v = 3 m/s**"), without_bold("2**3**2")
    ('v = 3 m/s', '2**3**2')
    """
    return _BOLD.sub(r"\1", text) if "**" in text else text


def join_words(text: str) -> str:
    """`text` with the Chinese for `and` and `or` between formulas in English.

    >>> join_words("x=3或x=-1")
    'x=3 or x=-1'
    """
    return _BETWEEN.sub(lambda match: " or " if match[0].strip() == "或" else " and ", text)


_BETWEEN = re.compile(r"(?<=[a-zA-Z\d)}$])\s*[或和与及]\s*(?=[a-zA-Z\d($\\-])")


def join_digit_groups(text: str) -> str:
    """Numbers without their thousands separators, of whatever kind; a decimal comma is left alone.

    >>> join_digit_groups("1,234.5"), join_digit_groups("11,\\\\! 111,\\\\! 100"), join_digit_groups("(1,200)")
    ('1234.5', '11111100', '(1,200)')
    """
    # "(1,200)" and "[1,200]" may be pairs: `normalise` decides there, as the solution has it.
    if re.fullmatch(r"\s*[(\[{\\].*,\d{3}\s*[)\]}]\s*", text) and not re.search(r"\\[,;:! ]", text):
        return text
    text = _GROUPED.sub(lambda match: re.sub(rf"\{{,\}}|\\[,;:! ]|[,~'’\s{_SPACES}]", "", match[0]), text)
    if _SPACE_GROUPED.fullmatch(text.strip().strip("$").strip()):
        return text.replace(" ", "")
    return text.replace("_", "") if _UNDERSCORED.fullmatch(text.strip()) else text


_REPEATED = re.compile(r"(?<![\d.])(\d*)\.(\d*?)(\d)\3*\s*(?:repeating|recurring|\((?:repeating|recurring)\))")


def with_repetends(text: str) -> str:
    """`text` with decimals that are said to repeat as fractions: the last digit, if alone or written twice, repeats.

    >>> with_repetends("0.1666 repeating"), with_repetends("0.3 (recurring)"), with_repetends("0.16 repeating")
    ('1/6', '1/3', '0.16 repeating')
    """
    return _REPEATED.sub(_with_repetend, text) if "repeating" in text or "recurring" in text else text


def _with_repetend(match: re.Match[str]) -> str:
    whole, once, digit = match[1], match[2], match[3]
    if once and not re.search(rf"{digit}{digit}\s*\(?r", match[0]):
        return match[0]
    value = Fraction(int(f"{whole}{once}" or 0)) + Fraction(int(digit), 9)
    value /= 10 ** len(once)
    return str(value)


def _from_unicode(text: str) -> str:
    text = _WIDE.sub(lambda match: chr(ord(match[0]) - 0xFEE0), text)
    text = re.sub(r"[△▲](?=\d)", "-", text)  # a loss, in Japanese accounts
    text = _RAISED.sub(lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda match: "_{" + match[0].translate(_SUBSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda match: _fraction(match[0]), text)
    text = re.sub(r"(\d)\s+(?=\\frac\{\d+\}\{\d+\})", r"\1", text)
    text = _SIGNED_ROOT.sub(_root, text)
    return _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], text)


def _fraction(character: str) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", character).partition("⁄")
    return f"\\frac{{{top}}}{{{bottom}}}"


def _root(match: re.Match[str]) -> str:
    if match[1] == "√":
        return f"\\sqrt{{{match[2]}}}" if match[2] else "sqrt"
    index = {"∛": "3", "∜": "4"}[match[1]]
    return f"\\sqrt[{index}]{{{match[2]}}}" if match[2] else ("cbrt" if index == "3" else match[0])


def _replace_calls(text: str) -> str:
    """`sqrt(...)` as `\\sqrt{...}`, the brackets balanced."""
    while match := _CALL.search(text):
        depth, at = 1, match.end()
        while at < len(text) and depth:
            depth += (text[at] == "(") - (text[at] == ")")
            at += 1
        if depth:
            return text
        command = "\\sqrt" if match[1] == "sqrt" else "\\sqrt[3]"
        text = f"{text[: match.start()]}{command}{{{text[match.end() : at - 1]}}}{text[at:]}"
    return text


def _command(word: str) -> str:
    if word in ("asin", "acos", "atan"):
        return f"\\arc{word[1:]} "
    return "\\infty " if word == "infinity" else f"\\{word} "
