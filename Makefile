# make demo   cells of real tissue, then the main job on synthetic data, from an empty machine
# make test   the tests, from an empty machine
# make setup  only the environment, in .venv
#             PYTHON=python3.12   another interpreter (3.10 to 3.12)
#             TORCH=2.12.0        another torch release
#             TORCH_INDEX=URL     another package index for torch, e.g. PyTorch's CPU-only one
PYTHON ?= python3
TORCH ?=
TORCH_INDEX ?=
RUN := .venv/bin/python
# a process a core, each with one thread; the tests of a file share its trained models, so they stay together
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile

.PHONY: setup demo test test-all fuzz lint format clean

setup:
	@$(PYTHON) tools/setup_env.py $(if $(TORCH),--torch $(TORCH)) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

demo: setup
	@$(RUN) tools/demo.py

test: setup
	$(PYTEST) -m 'not slow and not cuda'

test-all: setup
	$(PYTEST)

# damaged files, many; FUZZ_EXAMPLES=10000 for more
fuzz: setup
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),2000) $(RUN) -m pytest tests/datasets/test_fuzz.py

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: setup
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
