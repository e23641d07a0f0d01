# make demo    cells of real tissue, then the main job on synthetic data, from an empty machine
# make app     the page in the browser, from an empty machine
# make test    the tests, from an empty machine
# make setup   only the environment, in .venv
#              EXTRAS="app slides"  further groups of requirements: requirements-app.txt and so on
#              PYTHON=python3.12    another interpreter (3.10 to 3.14)
#              TORCH=2.12.0         another torch release
#              TORCH_INDEX=URL      another package index for torch, e.g. PyTorch's CPU-only one
PYTHON ?= python3
TORCH ?=
TORCH_INDEX ?=
EXTRAS ?=
RUN := .venv/bin/python
SETUP = @$(PYTHON) tools/setup_env.py $(if $(TORCH),--torch $(TORCH)) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX)) $(EXTRAS)
# a process a core, each with one thread; the tests of a file share its trained models, so they stay together, and files
# come in the order of tests/conftest.py
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder
# the groups that the tests import
TESTED := app dev onnx slides tables

.PHONY: setup demo app test test-all test-interop fuzz lint format clean

setup:
	$(SETUP)

demo:
	$(SETUP)
	@$(RUN) tools/demo.py

app:
	$(SETUP) app
	@$(RUN) tools/app.py

test:
	$(SETUP) $(TESTED)
	$(PYTEST) -m 'not slow and not cuda and not interop'

test-all:
	$(SETUP) $(TESTED)
	$(PYTEST) -m 'not interop'

# what others read of our files, by heavy programs of theirs
test-interop:
	$(SETUP) $(TESTED) interop
	$(PYTEST) -m interop

# damaged files, many; FUZZ_EXAMPLES=10000 for more
fuzz:
	$(SETUP) $(TESTED)
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),2000) $(RUN) -m pytest tests/datasets/test_fuzz.py

lint:
	$(SETUP) dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format:
	$(SETUP) dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
