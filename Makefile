# What a developer types. Downloads and built tools go to a cache outside the clone, see tools/.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Two packages at a time: each may run servers of its own.
TESTFLAGS ?= -p 2 -timeout 60m
PACKAGES  ?= ./...
MINUTES   ?= 45
DATABASES := mysql mariadb-11.8 mariadb-10.11
SERVERS   := temporal kopia minio versitygw

.PHONY: help build test lint workflowcheck vulnerabilities check soak torture bench bench-memory bench-switch demo demo-clean clean servers $(DATABASES) $(SERVERS)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

build: ## bin/remora, bin/remora-worker and the Temporal server that `remora up` runs
	go build -trimpath -o bin/remora ./starter
	go build -trimpath -o bin/remora-worker ./worker
	ln -sfn "$$(tools/build-tool temporal)" bin/temporal

test: servers ## every test, against real servers; PACKAGES=./internal/mysql/... for fewer
	go test $(TESTFLAGS) $(PACKAGES)

lint: ## style, mistakes, and which package may import which
	"$$(tools/build-tool golangci-lint)" run ./...

workflowcheck: ## whether workflow code is deterministic
	"$$(tools/build-tool workflowcheck)" -test=false -config tools/workflowcheck/config.yaml ./workflows/...

vulnerabilities: ## known vulnerabilities in code that is called
	tools/check-vulnerabilities ./...

check: lint workflowcheck test vulnerabilities ## all that must hold before a change is taken

soak: servers ## two sources backed up every minute while workers and Temporal are killed; MINUTES=45
	REMORA_SOAK=$(MINUTES) go test ./e2e -run '^TestSoak$$' -v -timeout $$(( $(MINUTES) + 30 ))m

torture: servers ## restores while processes, servers, networks and disks fail; MINUTES=45 REMORA_SEED=1 DB="mysql mariadb" OF="processes networks disks"
	REMORA_TORTURE=$(MINUTES) REMORA_TORTURE_DB="$(DB)" REMORA_TORTURE_OF="$(OF)" go test ./e2e -run '^TestTortureAtRandom$$' -v \
		-timeout $$(( $(MINUTES) + 30 ))m

bench: ## speed beside mydumper, mysqldump and what the machine can do; SIZE=1.5G ROUNDS=3 SERVER=mysql SESSIONS=4
	REMORA_BENCH=bench REMORA_BENCH_SIZE=$(SIZE) REMORA_BENCH_ROUNDS=$(ROUNDS) REMORA_BENCH_SERVER=$(SERVER) \
		REMORA_BENCH_SESSIONS=$(SESSIONS) go test ./bench -run '^TestBench$$' -v -timeout 5h

bench-memory: ## the memory of backups and restores of awkward data; ROWS=5000000 BLOBS=1G TABLES=5000 SERVER=mysql ONLY=narrow
	REMORA_BENCH=bench-memory REMORA_BENCH_ROWS=$(ROWS) REMORA_BENCH_BLOBS=$(BLOBS) REMORA_BENCH_TABLES=$(TABLES) \
		REMORA_BENCH_SERVER=$(SERVER) REMORA_BENCH_ONLY=$(ONLY) go test ./bench -run '^TestMemory$$' -v -timeout 5h

bench-switch: ## for how long a restore and a rollback take an application its data; TABLES=200 TRIGGERS=20 DIRECTORIES=5 OBJECTS=0 ROUNDS=3 SERVER=mysql
	REMORA_BENCH=bench-switch REMORA_BENCH_TABLES=$(TABLES) REMORA_BENCH_DIRECTORIES=$(DIRECTORIES) REMORA_BENCH_OBJECTS=$(OBJECTS) \
		REMORA_BENCH_TRIGGERS=$(TRIGGERS) REMORA_BENCH_ROUNDS=$(ROUNDS) REMORA_BENCH_SERVER=$(SERVER) go test ./bench -run '^TestSwitch$$' -v -timeout 1h

demo: build ## the story: backup, disaster, restore, rollback, on a private MySQL in demo/data; DB=mariadb and REPO=s3 for others
	demo/run

demo-clean: ## stop and remove what the demo left
	demo/clean

clean: ## remove bin/
	rm -rf bin

servers: # what the tests run against, fetched and built side by side
	@+$(MAKE) -j3 $(DATABASES) $(SERVERS)

$(DATABASES):
	@tools/fetch-server $@ >/dev/null

$(SERVERS):
	@tools/build-tool $@ >/dev/null
