# Every target sets up what it needs in .venv, once. A fresh machine needs Python 3.11 or newer with pip, make and a
# C compiler. Another Python: make PYTHON=python3.12 test (makes .venv anew if it is of another version).
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --constraint constraints.txt
# A process a core, each with one thread. A file's tests stay together: most files share what is costly to make.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile
READY := .venv/ready-$(VERSION)

.PHONY: demo demo-train test test-all coverage lint docs bench clean

demo: $(READY)
	$(BIN)/python examples/demo.py

demo-train: $(READY)
	$(BIN)/python examples/demo_train.py

test: $(READY)
	$(PYTEST) -m 'not slow'

test-all: $(READY)
	$(PYTEST)

# Lines and branches of the package that the whole suite reaches, in processes that it starts as well.
coverage: $(READY)
	$(PYTEST) --cov

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A warning, such as a link that leads nowhere, fails. The page that restores in the browser needs npm for onnxruntime-web.
docs: $(READY)
	$(PIP_INSTALL) --no-build-isolation --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html
	if command -v npm >/dev/null; then $(BIN)/python tools/build_page.py docs/_build/html/try --force; \
	else echo 'npm is not installed: the site is built without its page that restores in the browser'; fi

bench: $(READY)
	$(BIN)/python tools/benchmark.py

clean:
	rm -rf .venv bench build demo demo-train docs/_build *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find manet_basicsr scripts tools examples tests -name __pycache__ -type d -exec rm -rf {} +

# torch comes first and alone decides between CPU and CUDA. basicsr is built against it without build isolation, which
# would fetch a second one. The package is installed editable, so that only these files call for another installation.
$(READY): pyproject.toml setup.py constraints.txt tools/install_basicsr.py
	test -x $(BIN)/python$(VERSION) -a -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(PIP_INSTALL) cython numpy setuptools torch wheel
	$(PIP_INSTALL) --no-deps torchvision
	$(BIN)/python tools/install_basicsr.py --constraint constraints.txt
	$(PIP_INSTALL) --no-build-isolation --editable '.[test]'
	touch $@
