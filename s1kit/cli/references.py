"""Model references and optional packages, checked without loading or asking anything.

A check of a reference returns the base URLs of the servers that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from s1kit.completions.roster import read_urls
from s1kit.engines import SCHEMES, suggested
from s1kit.engines.gguf.architectures import config_of
from s1kit.engines.gguf.reading import read_gguf
from s1kit.engines.gguf.unpacking import is_gguf
from s1kit.engines.machine import has_gpu
from s1kit.engines.references import joined, looks_local, read_reference, with_dtype
from s1kit.errors import InputError, MissingExtra, nearest
from s1kit.forcing.formats import find_format
from s1kit.forcing.switches import check_switches
from s1kit.forcing.tokenizer import read_chat_template
from s1kit.train.reference import base_folder

_ENGINE_PACKAGES = {
    "hf": (("torch", "torch"), ("transformers", "torch")),
    "tiny": (("torch", "torch"), ("transformers", "torch")),
    "tiny-base": (("torch", "torch"), ("transformers", "torch")),
    "vllm": (("vllm", "vllm"),),
    "llama.cpp": (("llama_cpp", "llama-cpp"),),
}


def require(package: str, purpose: str, extra: str) -> None:
    """Raises MissingExtra where a package is not installed; imports nothing."""
    if find_spec(package) is None:
        raise MissingExtra(purpose, package.replace("_", "-"), extra=extra)


def check_engine(
    reference: str,
    where: str,
    *,
    format: str = "",
    template: Mapping[str, Any] | None = None,
    dtype: str = "",
) -> list[str]:
    """Raises InputError for a reference that no engine knows, a folder that is no model, a missing package.

    `format`, `template`, `dtype`: what the stage loads the engine with, beside what the reference states.
    """
    read = read_reference(with_dtype(reference, dtype))
    given = {"template": template or {}} | ({"format": format} if format else {})
    options = joined(read.options, given, reference)
    if name := options.get("format"):
        find_format(name)
    scheme, rest = read.scheme, read.target
    known = [s.partition(":")[0] for s in SCHEMES]
    if scheme not in known:
        fix = suggested(reference) + nearest(scheme, known)
        raise InputError(f"no engine knows the model {reference!r}", where=where, fix=fix)
    if scheme not in ("tiny", "tiny-base") and not rest:
        raise InputError(f"{reference!r} names no model", where=where, fix=f"Known: {', '.join(SCHEMES)}.")
    for package, extra in _ENGINE_PACKAGES.get(scheme, ()):
        require(package, f"{where} = {reference}", extra)
    if str(read.options.get("device", "")).startswith("cuda") and not has_gpu():
        fix = "Give device=cpu, or leave it out."
        raise InputError("there is no GPU that torch can use here", where=f"{where} = {reference}", fix=fix)
    _check_files(scheme, rest, where)
    if switches := options["template"]:
        source = chat_template_of(scheme, options.get("tokenizer") or rest)
        if source is not None:
            check_switches(switches, source, f"{where}, template")
    return read_urls(rest.partition("#")[0], where) if scheme == "completions" else []


def _check_files(scheme: str, target: str, where: str) -> None:
    """Raises InputError for a model's file or folder that is not there, or not of a kind that the engine takes."""
    path = Path(target).expanduser()
    if scheme in ("llama.cpp", "scripted") and not path.is_file():
        fix = "Give a .gguf file." if scheme == "llama.cpp" else "Give a script of replies."
        raise InputError(f"there is no file {target!r}", where=where, fix=fix)
    if scheme not in ("hf", "vllm"):
        return
    if is_gguf(target):
        config_of(read_gguf(path))
    elif looks_local(target) and not (path / "config.json").is_file():
        raise InputError(
            f"{target!r} is no model folder: it has no config.json",
            where=where,
            fix="Give a model folder or a Hub id.",
        )


def chat_template_of(scheme: str, target: str) -> str | None:
    """The chat template of a model whose files are on this machine; None where it has none or is elsewhere."""
    path = Path(base_folder(scheme)[1] if scheme in ("tiny", "tiny-base") else target).expanduser()
    if is_gguf(path.name) and path.is_file():
        return read_gguf(path).metadata.get("tokenizer.chat_template")
    return read_chat_template(path) if path.is_dir() else None


def check_chat(
    reference: str,
    where: str,
    *,
    base_url: str | list[str] = "",
    headers: dict[str, str] | None = None,
    key_file: str = "",
    price: str | dict[str, float] = "",
    prices_path: str = "",
) -> list[str]:
    """Raises InputError for an unknown provider, a key that is missing or no key, a model without a price, and for a
    proxy or a file of certificates that cannot be used. Nothing is sent."""
    from s1kit.providers.catalog import find_model
    from s1kit.providers.connections import certificates, usable_proxy
    from s1kit.providers.credentials import credentials_of
    from s1kit.providers.keys import find_key, read_headers

    if prices_path and not Path(prices_path).is_file():
        raise InputError(f"there is no file of prices {prices_path!r}", where=where, fix="Give a TOML file of prices.")
    urls = [base_url] if isinstance(base_url, str) else base_url
    models = [find_model(reference, url) for url in urls or [""]]
    model = models[-1]
    secret = find_key(model, key_file, headers)
    credentials_of(model, has_key=bool(secret))
    read_headers(headers or {})
    check_price(reference, urls, price=price, prices_path=prices_path)
    servers = [each.base_url for each in models]
    for url in servers:
        usable_proxy(url, has_key=bool(secret))
        if url.startswith("https"):
            certificates()
    return servers


def check_price(
    reference: str, base_urls: Sequence[str] = (), *, price: str | dict[str, float] = "", prices_path: str = ""
) -> None:
    """Raises InputError for a model without a price, or a price that cannot be used; whatever is wrong with its key."""
    from s1kit.providers.catalog import find_model
    from s1kit.providers.money import price_of

    price_of(find_model(reference, base_urls[-1] if base_urls else ""), setting=price, prices_path=prices_path)


def check_model(reference: str, where: str, *, format: str = "") -> list[str]:
    """Raises InputError for a reference that names neither an engine nor a provider's chat model.

    `format`: as in `check_engine`.
    """
    if reference.startswith("chat:"):
        return check_chat(reference, where)
    return check_engine(reference, where, format=format)
