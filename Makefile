# What one does most with docker-compose.yml. `make demo` and `make test-latency` need the binary only, the rest Docker
# with Compose.
COMPOSE ?= docker compose
ASSAY ?= cargo run --release --locked --
EVENTS ?= 200000
SET ?= fraud_features

.PHONY: help up seed run train serve drift-check replay warehouse verify test-latency demo health logs down

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target says; do printf '  %-14s %s\n' "$$target" "$$says"; done

.env: .env.example ## settings and secrets of this machine; a .env that is there is left alone
	@test -f .env && touch .env || { umask 077; deploy/env > .env; }

up: .env ## build and start everything; then: make health
	$(COMPOSE) up -d --build

seed: .env ## 40 simulated days of transactions into Kafka (EVENTS=…)
	$(COMPOSE) run --rm assay generate --events $(EVENTS) --event-rate 0.06 --users 20000

run: .env ## start the writer of the lake, and what it needs
	$(COMPOSE) up -d assay-run

train: .env ## learn a model from the lake; it becomes the champion when it passes the gate and is better (GATE="-e ASSAY_TRAIN_F1_MIN=0.7")
	$(COMPOSE) run --rm $(GATE) assay train --set $(SET)

serve: .env ## start the service that scores
	$(COMPOSE) up -d assay-serve

drift-check: .env ## compare the newest days with what the champion learned from
	$(COMPOSE) run --rm assay drift

replay: .env ## send dead letters to their topic again (REPLAY="--dry-run" says how many, REPLAY="--reason unknown_schema_id" picks)
	$(COMPOSE) run --rm assay replay $(REPLAY)

warehouse: .env ## bring the tables of PostgreSQL to the newest epoch
	$(COMPOSE) up -d --wait warehouse
	$(COMPOSE) run --rm assay warehouse

verify: .env ## prove the lake; the writer is stopped meanwhile
	$(COMPOSE) stop assay-run
	$(COMPOSE) run --rm assay verify; status=$$?; $(COMPOSE) start assay-run; exit $$status

test-latency: ## latency and throughput of scoring on this machine (BENCH="--rate 2000")
	$(ASSAY) bench serve $(BENCH)

demo: ## all of it in one process, with an embedded broker; tables in ./lake (EVENTS=…)
	$(ASSAY) demo --events $(EVENTS)

health: ## whether everything answers
	@deploy/health

logs: .env ## logs of all services, or of SERVICE=…
	$(COMPOSE) logs -f --tail 100 $(SERVICE)

down: .env ## stop everything; the data stays (docker compose down -v removes it)
	$(COMPOSE) down
