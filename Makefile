# `make run` and `make test` need only Python 3.11 or newer; each target installs what it lacks.
PYTHON ?= python3
VENV ?= .venv
TRAIN_VENV ?= .venv-train
RAY_VENV ?= .venv-ray
HAAR_VENV ?= .venv-haar
AUDIT_VENV ?= .venv-audit
FUZZ_VENV ?= .venv-fuzz
PEERS_VENV ?= .venv-peers
DATA ?= ../shared/data
RUNS ?= runs
MODEL ?= balanced
COMPOSE ?= $(shell docker compose version > /dev/null 2>&1 && docker info > /dev/null 2>&1 \
	&& echo docker compose || echo podman-compose)
BIN := $(VENV)/bin
TRAIN := $(TRAIN_VENV)/bin
# Folders of tests with targets of their own.
SEPARATE := training browser faults image manifests observability ray

.PHONY: run load fuzz image image-test observability-test dashboard up down manifests-test test test-faults audit sbom test-browser ray-test ray-figures screenshots lint format openapi lock detector train export quantize test-training evaluate-emotion evaluate-robustness haar report evaluate-detection evaluate-container clean

run: $(VENV)/.service
	$(BIN)/fer-service serve

test: $(VENV)/.dev
	$(BIN)/pytest -q $(SEPARATE:%=--ignore=tests/%)

# Real processes, starved, struck and killed; some need strace or bwrap: skipped without, a failure with REQUIRE=1.
test-faults: $(VENV)/.dev
	$(BIN)/pytest -q tests/faults

# Needs a Chromium on the PATH: skipped without one, a failure with REQUIRE=1.
test-browser: $(VENV)/.browser
	$(BIN)/mypy tests/browser/*.py
	$(BIN)/pytest -q tests/browser

# Known vulnerabilities of everything that is locked; exit code 2 where they could not be asked for.
audit: $(AUDIT_VENV)/.audit
	$(AUDIT_VENV)/bin/python -m tools.audit requirements/*.txt

# A CycloneDX bill of what the service is made of, with versions and hashes.
sbom: $(AUDIT_VENV)/.audit
	mkdir -p build
	$(AUDIT_VENV)/bin/cyclonedx-py requirements requirements/service.txt --pyproject pyproject.toml \
		--output-reproducible -o build/sbom.cdx.json

# Two Ray nodes on this machine, in a private network where one can be made. RAY_PHOTOS=5000 for a larger bulk job.
# Skipped where Ray cannot be installed or started; a failure with REQUIRE=1.
ray-test:
	@if $(MAKE) -s $(RAY_VENV)/.ray; then $(PRIVATE) $(RAY_VENV)/bin/pytest -q -rs tests/ray; \
	else echo "ray-test: skipped, Ray cannot be installed here"; test "$(REQUIRE)" != 1; fi

# Ray Serve beside plain uvicorn, two replicas beside one: ratios for docs/ray.md.
ray-figures: $(RAY_VENV)/.ray
	$(PRIVATE) $(RAY_VENV)/bin/python -m benchmarks.ray_serve

PRIVATE = $(shell unshare -rn ip link set lo up 2>/dev/null && \
	echo "unshare -rnpf --kill-child --mount-proc sh -c 'ip link set lo up; exec \"\$$@\"' sh")

# The same tests, their pictures kept for the documentation.
screenshots: export PICTURES = docs/images
screenshots: test-browser
	$(BIN)/python -m tests.media.picture $(PICTURES)/timeline.png

# BUILDER, IMAGE, BASE and CA choose; see docker/build.sh.
image:
	docker/build.sh

# Needs docker or podman: skipped without them, a failure with REQUIRE=1.
image-test: $(VENV)/.deploy
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/pytest -q tests/image

# What docs/reliability.md promises under load, on a real server; some five minutes, on an otherwise idle machine.
load: $(VENV)/.load
	$(BIN)/mypy benchmarks/load
	$(BIN)/pytest -q tests/test_benchmarks.py
	$(BIN)/python -m benchmarks.load --page docs/reliability.md

# Hostile input for a real server, for so many seconds; what is found lies in runs/fuzz.
FUZZ_SECONDS ?= 180
fuzz: $(FUZZ_VENV)/.fuzz
	$(FUZZ_VENV)/bin/mypy benchmarks/fuzz
	$(FUZZ_VENV)/bin/python -m benchmarks.fuzz --seconds $(FUZZ_SECONDS) --data $(DATA)/hostile

manifests-test: $(VENV)/.deploy
	$(BIN)/pytest -q tests/manifests

# Needs Prometheus and Alertmanager, on the PATH or as Debian's packages: skipped without, a failure with REQUIRE=1.
# Some five minutes: an alert takes its time to be delivered.
observability-test: $(VENV)/.observability
	$(BIN)/mypy docker/grafana/dashboard.py
	$(BIN)/pytest -q tests/observability

dashboard: $(VENV)/.observability
	$(BIN)/python docker/grafana/dashboard.py > docker/grafana/dashboards/fer-service.json

# The service, Prometheus, Alertmanager and Grafana; see docker/compose.yaml.
up: image
	$(COMPOSE) -f docker/compose.yaml up -d

down:
	$(COMPOSE) -f docker/compose.yaml down

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openapi: $(VENV)/.service
	$(BIN)/fer-service openapi > openapi/openapi.json

COMPILE := uv pip compile --universal --generate-hashes --no-header -q
# Needs uv; writes the exact versions and hashes that every other target installs.
lock:
	$(COMPILE) pyproject.toml -o requirements/service.txt
	$(COMPILE) pyproject.toml --group dev -c requirements/service.txt -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra tracing -c requirements/dev.txt -o requirements/tracing.txt
	$(COMPILE) --group build -c requirements/service.txt -o requirements/build.txt
	$(COMPILE) pyproject.toml --group deploy -c requirements/dev.txt -o requirements/deploy.txt
	$(COMPILE) pyproject.toml --group browser -c requirements/dev.txt -o requirements/browser.txt
	$(COMPILE) --group audit -o requirements/audit.txt
	$(COMPILE) pyproject.toml --group load -c requirements/dev.txt -o requirements/load.txt
	$(COMPILE) pyproject.toml --group fuzz -c requirements/dev.txt -o requirements/fuzz.txt
	$(COMPILE) pyproject.toml --group observability -c requirements/dev.txt -o requirements/observability.txt
	$(COMPILE) pyproject.toml --extra media --extra ray --group dev --group ray -c requirements/dev.txt -o requirements/ray.txt

# About an hour and a half; the store itself changes at the end. The three photos of the benchmark are kept out of it.
PICTURES ?= $(filter-out %/multiface.jpg %/phone-12mp.jpg %/group-1.jpg,$(sort $(wildcard $(DATA)/photos/*))) $(DATA)/videos
SHOWN = --pictures $(PICTURES) --faces $(DATA)/fer2013 --halved $(DATA)/detection/wider_subset/images --store build/detector
detector: $(TRAIN_VENV)/.training
	mkdir -p build
	rm -rf build/detector
	cp -r model_store build/detector
	$(TRAIN)/python -m training.mtcnn.distill pnet $(SHOWN)
	$(TRAIN)/python -m training.mtcnn.distill rnet $(SHOWN)
	$(TRAIN)/python -m training.mtcnn.opinion $(SHOWN)
	$(TRAIN)/python -m training.mtcnn.filter $(SHOWN)
	$(TRAIN)/python -m training.mtcnn.register --store build/detector

train: $(TRAIN_VENV)/.training
	$(TRAIN)/python -m training.recipe --variant $(MODEL) --data $(DATA)/fer2013 --runs $(RUNS)
	$(MAKE) export

export: $(TRAIN_VENV)/.training
	$(TRAIN)/python -m training.export --variant $(MODEL) --data $(DATA)/fer2013 --runs $(RUNS)

# The 8-bit form of a variant that is in the store.
quantize: $(TRAIN_VENV)/.training
	$(TRAIN)/python -m training.quantize --variant $(MODEL) --data $(DATA)/fer2013

# One thread: the networks are tiny, and two stall each other where anything else is running.
test-training: $(TRAIN_VENV)/.training
	$(TRAIN)/mypy training benchmarks tests/training/*.py
	OMP_NUM_THREADS=1 $(TRAIN)/pytest -q tests/training

evaluate-emotion: $(TRAIN_VENV)/.training
	$(TRAIN)/python -m training.evaluate --model $(MODEL) --data $(DATA)/fer2013

evaluate-robustness: $(TRAIN_VENV)/.training
	$(TRAIN)/python -m training.robustness --model $(MODEL) --data $(DATA)/fer2013 --out docs/report/robustness.json

# Run `make haar` first to have the comparison with Haar cascades in it.
report: $(TRAIN_VENV)/.training
	$(TRAIN)/python -m training.report --model $(MODEL) --data $(DATA)/fer2013 --runs $(RUNS) \
		--haar-python $(HAAR_VENV)/bin/python

evaluate-detection: $(VENV)/.service
	$(BIN)/python -m benchmarks.detection --data $(DATA)/detection/wider_subset

# Of the image that `make image` has built.
evaluate-container: $(VENV)/.dev
	$(BIN)/python -m benchmarks.container

clean:
	rm -rf $(VENV) $(TRAIN_VENV) $(RAY_VENV) $(HAAR_VENV) $(PEERS_VENV) $(AUDIT_VENV) $(FUZZ_VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

# Exactly the versions of a list, whose hashes must be right.
LOCKED := pip install -q --disable-pip-version-check --require-hashes -r

$(VENV)/.service: requirements/service.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(LOCKED) requirements/service.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/.dev: $(VENV)/.service requirements/dev.txt
	$(BIN)/$(LOCKED) requirements/dev.txt
	touch $@

# .deploy, .browser, .observability and .load.
$(VENV)/.%: $(VENV)/.dev requirements/%.txt
	$(BIN)/$(LOCKED) requirements/$*.txt
	touch $@

$(FUZZ_VENV)/.fuzz: requirements/dev.txt requirements/fuzz.txt
	$(PYTHON) -m venv $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/$(LOCKED) requirements/dev.txt
	$(FUZZ_VENV)/bin/$(LOCKED) requirements/fuzz.txt
	$(FUZZ_VENV)/bin/pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

$(AUDIT_VENV)/.audit: requirements/audit.txt
	$(PYTHON) -m venv $(AUDIT_VENV)
	$(AUDIT_VENV)/bin/$(LOCKED) requirements/audit.txt
	touch $@

$(RAY_VENV)/.ray: requirements/ray.txt pyproject.toml
	$(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/$(LOCKED) requirements/ray.txt
	$(RAY_VENV)/bin/pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

$(TRAIN_VENV)/.training: pyproject.toml
	$(PYTHON) -m venv $(TRAIN_VENV)
	$(TRAIN)/pip install -q --upgrade 'pip>=25.1'
	$(TRAIN)/pip install -q -e . --group dev --group training
	touch $@

haar: $(HAAR_VENV)/.haar

$(HAAR_VENV)/.haar: pyproject.toml
	$(PYTHON) -m venv $(HAAR_VENV)
	$(HAAR_VENV)/bin/pip install -q --upgrade 'pip>=25.1'
	$(HAAR_VENV)/bin/pip install -q --group haar
	touch $@

.PHONY: peers bench soak growth

# Each peer of the benchmark in an environment of its own; deepface only where its weights are.
PEERS := facenet mtcnn opencv fer $(if $(wildcard $(HOME)/.deepface/weights/facial_expression_model_weights.h5),deepface)
peers: $(PEERS:%=$(PEERS_VENV)/%/.ready)

# NAME.txt is installed with what it needs, NAME.alone.txt without: its pins are older than this Python's wheels.
$(PEERS_VENV)/%/.ready: benchmarks/peers/%.txt
	$(PYTHON) -m venv $(PEERS_VENV)/$*
	$(PEERS_VENV)/$*/bin/pip install -q --disable-pip-version-check -r $<
	$(if $(wildcard benchmarks/peers/$*.alone.txt),$(PEERS_VENV)/$*/bin/pip install -q --disable-pip-version-check --no-deps -r benchmarks/peers/$*.alone.txt)
	touch $@

# Peers that `make peers` has not installed are left out, with a line that says so.
bench: $(VENV)/.load
	$(BIN)/python -m benchmarks.speed --photos $(DATA)/photos --peers $(PEERS_VENV)

# `make soak REQUESTS=20000` is the whole one; it takes as long as so many answers do.
REQUESTS ?= 2000
soak: $(VENV)/.load
	$(BIN)/python -m benchmarks.soak --requests $(REQUESTS)

# The plots of docs/performance.md.
growth: $(VENV)/.dev
	$(BIN)/python -m benchmarks.growth
