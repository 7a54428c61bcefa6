# The entry points. Each is a short call; what it does is in scripts/ or in cargo.
# A Rust toolchain that is installed but not in PATH is found too.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help build run test check fix fuzz bench doc soak image up down test-containers

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

build: ## Build the binary, optimised: target/release/thalweg.
	cargo build --release -p thalweg

run: ## Build, start the whole system, move a real file through it, leave it running.
	scripts/demo

test: ## Run all tests, those with real client programs included.
	scripts/test

check: ## Check form, lints, layers and docs; changes nothing.
	cargo fmt --all -- --check
	cargo xtask layers
	cargo xtask tidy
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

fix: ## Format, and apply the lints' own suggestions.
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

fuzz: ## Fuzz one target, guided by coverage: make fuzz TARGET=name SECONDS=60; TARGET=all for each.
	scripts/fuzz $(or $(TARGET),list) $(SECONDS)

bench: ## Measure a fresh system beside Apache Kafka: rates, latency, CPU, memory, ratios.
	scripts/bench

doc: ## Build the API documentation.
	cargo doc --workspace --no-deps

soak: ## Run the simulated cluster on new seeds for SECONDS (default 600).
	cargo run --release -p thalweg-sim -- run --from $$(date +%s)000 --seconds $(or $(SECONDS),600)

image: ## Build the container image thalweg:latest.
	scripts/cluster image

up: ## Bring up a whole cluster in containers: Kafka on 9092, gRPC on 50051.
	scripts/cluster up

down: ## Stop that cluster; what it stored is kept.
	scripts/cluster down

test-containers: ## Try the cluster in containers from outside: break, scale, restart it under load.
	scripts/test-containers
