PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
EVERYTHING := $(VENV)/.everything-installed
RUNTIME := $(VENV)/.runtime-installed
SOURCES := pyproject.toml LICENSE
TESTED := service-kit client console order-service processor-service standalone
# pip's notices about itself are no news to somebody who only wants to run this.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq --no-compile --no-deps
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --quiet $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help setup run test chaos simulate mutations bench check format lint types contracts documents rules manifests \
	observability-test compose-test cluster-test fuzz races audit secrets sbom lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12 chooses the Python, VENV=.venv-3.12 where it installs to,"
	@echo "  ARGS=… is handed on by 'make run', 'make test' and 'make bench', UPGRADE=1 lets 'make lock' take newer versions"

setup: $(EVERYTHING) ## make .venv with everything locked; at once when nothing changed

run: $(if $(wildcard $(EVERYTHING)),$(EVERYTHING),$(RUNTIME)) ## start everything on embedded parts, nothing else needed (Ctrl-C stops it)
	@$(BIN)/order-processor up $(ARGS)

test: $(EVERYTHING) ## pass every test, on real servers wherever there are any
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal $(ARGS)

chaos: $(EVERYTHING) ## do faults to servers of its own, and judge (SECONDS= SEED= RUNS= FAULTS=a,b+c or all, OUT=file)
	@$(BIN)/python -m chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) \
		$(if $(FAULTS),--faults $(FAULTS)) $(if $(OUT),--out $(abspath $(OUT)))

simulate: $(EVERYTHING) ## run the same code on model servers under a virtual clock (SEEDS= START= JOBS=, or SEED= to see one)
	@$(BIN)/python -m simulation $(if $(SEED),--seed $(SEED) --trace,--seeds $(or $(SEEDS),1000) \
		--start $(or $(START),0) --jobs $(or $(JOBS),1))

mutations: $(EVERYTHING) ## bring known bugs back, one at a time: which seed catches each, after how many runs
	@$(BIN)/python -m simulation --mutations --seeds $(or $(SEEDS),2000)

rules: $(EVERYTHING) ## check metrics, dashboard and alert rules with promtool, where there is one
	@$(BIN)/python -m infra.checks.rules

manifests: $(EVERYTHING) ## build the Kubernetes overlays, check each object against its API's schema, offline
	@$(BIN)/python -m infra.checks.manifests $(ARGS)

observability-test: $(EVERYTHING) ## show in a real Prometheus that the dashboard has data and that alerts fire
	@$(BIN)/python -m infra.checks.observability

compose-test: $(EVERYTHING) ## run infra/docker-compose.yml for real: up, orders, tests inside, restarts, down
	@$(BIN)/python -m infra.checks.compose

cluster-test: $(EVERYTHING) ## lose a node of a RabbitMQ cluster, fail PostgreSQL over, update rolling, under load (PHASES=a,b SEED=)
	@$(BIN)/python -m cluster $(if $(PHASES),--phases $(PHASES)) $(if $(SEED),--seed $(SEED))

fuzz: $(EVERYTHING) ## send what nobody should to both services: 20,000 made of the documents, 20,000 raw (REQUESTS= RAW= SEED= HEADER=)
	@$(BIN)/python -m fuzz $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(RAW),--raw $(RAW)) $(if $(SEED),--seed $(SEED)) \
		$(if $(HEADER),--header '$(HEADER)')

races: $(EVERYTHING) ## cancel 10,000 orders while they are decided: one winner each, and all agree (RACES=)
	@ACCEPTANCE_RACES=$(or $(RACES),10000) $(BIN)/python -m pytest acceptance/test_orders_api.py -q \
		-k exactly_one_wins --timeout=1800

bench: $(EVERYTHING) ## measure everything in about 35 minutes, write bench/report.md (ARGS='--quick': under 3; '--only intake,drain')
	@$(BIN)/python -m bench $(ARGS)

check: lint types contracts secrets audit rules manifests test ## what CI runs: all of these

lint: $(EVERYTHING) ## look at format and common mistakes, change nothing
	@$(BIN)/ruff format --check --quiet || { echo "the format differs: run 'make format'" >&2; exit 1; }
	@$(BIN)/ruff check --quiet

types: $(EVERYTHING) ## check the types, strictly
	@$(BIN)/mypy
	@for folder in $(TESTED:=/tests) acceptance bench chaos cluster contracts fuzz infra simulation tools; do $(BIN)/mypy $$folder || exit 1; done

contracts: $(EVERYTHING) ## check who may import whom
	@$(BIN)/lint-imports

documents: $(EVERYTHING) ## make each service's openapi.json of contracts/ (RELEASE=1: it becomes what may not be broken)
	@$(BIN)/python -m tools.documents $(if $(RELEASE),--release)

audit: $(EVERYTHING) ## look for known vulnerabilities of what runs in production (REQUIRED=1: fail when that cannot be found out)
	@$(BIN)/python -m tools.audit $(if $(REQUIRED),--required)

secrets: $(EVERYTHING) ## look for secrets in what git knows
	@$(BIN)/python -m tools.secrets_scan

sbom: $(EVERYTHING) ## write build/sbom.json (CycloneDX): what runs in production, with hashes
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml --output-reproducible \
		--of JSON -o build/sbom.json 2> /dev/null
	@echo "build/sbom.json: $$(grep -c '"type": "library"' build/sbom.json) components"

format: $(EVERYTHING) ## format the code, and correct what can be corrected safely
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format

lock: $(EVERYTHING) ## write the lock files anew from pyproject.toml
	@$(LOCK) --group test --group check --group fuzz --group security --group browser --group build --group lock -o requirements/dev.txt
	@$(LOCK) --group build -c requirements/dev.txt -o requirements/runtime.txt
	@for service in order-service processor-service; do \
		$(LOCK) --group test -c requirements/dev.txt -o $$service/requirements.txt || exit 1; done

clean: ## remove what was installed and cached; the data of 'make run' stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(TESTED) acceptance bench chaos cluster contracts fuzz infra simulation tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(EVERYTHING): requirements/dev.txt $(SOURCES)
	$(call install,dev.txt)
	@# Compiled here and not at first import, where a library's own SyntaxWarning would fail a test.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@ $(RUNTIME)

$(RUNTIME): requirements/runtime.txt $(SOURCES)
	$(call install,runtime.txt)
	@touch $@

define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, '$(PYTHON)' is not: choose one with make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' lacks the venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "setting up $(VENV), once: $$(grep -c == requirements/$(1)) locked packages, less than a minute …"
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --require-hashes -r requirements/$(1)
	@$(PIP) --no-build-isolation --editable .
endef
