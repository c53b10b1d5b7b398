#!/usr/bin/env bash
# Build the wheel and the source archive, and look at what is in them.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$python" -m build --outdir "$out" . >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
"$python" -m twine check --strict "$out"/*.whl "$out"/*.tar.gz
"$python" - "$out" <<'PY'
import re, sys, tarfile, zipfile
from pathlib import Path
(wheel,), (sdist,) = Path(sys.argv[1]).glob("*.whl"), Path(sys.argv[1]).glob("*.tar.gz")
names = zipfile.ZipFile(wheel).namelist()
source = [name.partition("/")[2] for name in tarfile.open(sdist).getnames()]
wanted = ["s1kit/py.typed", "s1kit/tiny/model/model.safetensors", "s1kit/recipes/tiny.toml", "s1kit/serve/page/index.html"]
missing = [name for name in wanted if name not in names]
missing += [name for name in ("LICENSE", "THIRD_PARTY.md") if not any(n.endswith(f"licenses/{name}") for n in names)]
missing += [name for name in ("tests/test_forcing.py", "constraints.txt", "docs/index.md") if name not in source]
extra = [name for name in names if re.match(r"(tests|docs|bench|runs)/", name) or "__pycache__" in name]
metadata = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("METADATA"))).decode()
relative = re.findall(r"\]\((?!https?://|#)([^)]+)\)", metadata)
if missing or extra or relative:
    sys.exit(f"missing: {missing}\nnot wanted: {extra}\nlinks that do not work on the package index: {relative}")
print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e6:.1f} MB; {sdist.name}: {sdist.stat().st_size / 1e6:.1f} MB")
PY
