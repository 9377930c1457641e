# Short targets for people and CI alike. A fresh machine needs Python >= 3.11 and make; nothing else.
PYTHON ?= python3
BIN := .venv/bin
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet

.PHONY: run test image image-test release-test feast-test judge-image monitoring screenshots sbom audit train bench conformance long-run clients lint format locks clean
.DEFAULT_GOAL := run

run: .frontrow/demo/models  ## train the demo models if there are none, then serve them on 127.0.0.1:8000
	FRONTROW_ALLOW_FORCED_VARIANT=true $(BIN)/frontrow serve

.frontrow/demo/models: | .venv/platform
	$(BIN)/frontrow demo
	touch $@

test: .venv/development lint  ## everything that needs no server outside Python
	$(BIN)/pytest -n 2 --dist loadgroup -o faulthandler_timeout=420 --ignore tests/image --ignore tests/pipeline

image: .frontrow/demo/models  ## the image of this work tree with champion and challenger
	rm -rf build/model
	$(BIN)/frontrow release bundle --model models:/activity-ranker@champion --out build/model/control
	$(BIN)/frontrow release bundle --model models:/activity-ranker@challenger --out build/model/treatment
	.ci/base-image
	.ci/build-image frontrow build/model

image-test: .venv/development  ## the image as a cluster runs it; starts a Docker Engine where none answers
	engine=$$(.ci/docker-engine start) && eval "$$engine" && \
	{ $(BIN)/pytest tests/image; status=$$?; .ci/docker-engine stop; exit $$status; }

train: .venv/platform  ## TABLE=sessions.parquet: train on it and register the model
	$(BIN)/frontrow train $(TABLE)

release-test: .venv/development  ## the whole way with Docker, an OCI registry and Prometheus (15 minutes)
	engine=$$(.ci/docker-engine start) && eval "$$engine" && trap '.ci/oci-registry stop; .ci/docker-engine stop' EXIT && \
	registry=$$(.ci/oci-registry start) && eval "$$registry" && $(BIN)/pytest -s tests/pipeline

monitoring: .venv/development  ## alert rules and dashboard, from their one source
	$(BIN)/python -m k8s.components.monitoring.source

screenshots: .venv/development .frontrow/demo/models  ## pictures of the console; wants Debian's chromium
	PYTHONPATH=.:tests:tests/console $(BIN)/python tests/console/screenshots.py docs/images

judge-image:  ## the canary judge as a job in a cluster
	.ci/base-image
	docker build --network host --tag frontrow-judge --file release/Dockerfile .

sbom: .venv/development  ## CycloneDX, of what the image installs
	mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements/serving.txt --output-reproducible --of JSON --output-file build/sbom.json

audit: .venv/development  ## known vulnerabilities of what the image installs; needs a vulnerability service
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements/serving.txt

feast-test: .venv-feast/installed  ## the Feast adapter against a real local repository, in an environment of its own
	.venv-feast/bin/python -m pytest -p no:cacheprovider tests/features/test_feast_store.py

.venv-feast/installed: requirements/feast.txt
	$(PYTHON) -m venv .venv-feast
	.venv-feast/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

bench: .venv/development  ## Frontrow beside its peers; wants a silent machine, and wrk
	$(BIN)/python -m benchmarks.peers --write

conformance: .venv/development  ## wire attacks and behaviours, against Frontrow and the peers of `make bench`
	$(BIN)/python -m benchmarks.conformance

long-run: .venv/development  ## A=bundle B=bundle: a million requests in 20 minutes
	$(BIN)/python -m benchmarks.long_run $(A) $(B) --write docs/reliability.md

clients: clients/typescript/node_modules  ## what the TypeScript client is made and tested with; needs Node 20 and npm

clients/typescript/node_modules: clients/typescript/package-lock.json
	npm ci --prefix clients/typescript
	touch $@

lint: .venv/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/development
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The environment is a file of the lock it was made from: it is made again when the lock changes.
.venv/platform .venv/development: .venv/%: requirements/%.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

locks: .venv/development  ## pin again what pyproject.toml asks for
	$(LOCK) pyproject.toml --extra dev -o requirements/development.txt
	$(LOCK) pyproject.toml --extra platform -c requirements/development.txt -o requirements/platform.txt
	$(LOCK) pyproject.toml -c requirements/development.txt -o requirements/serving.txt
	$(LOCK) --group judge -c requirements/development.txt -o requirements/judge.txt
	$(LOCK) pyproject.toml --extra feast -o requirements/feast.txt

clean:
	rm -rf .venv .venv-feast .frontrow build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		clients/typescript/node_modules clients/typescript/dist
