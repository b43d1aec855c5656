# Each goal sets up what it needs, redis-server included; see tests/servers/setup. `make` alone shows the list.

export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help
help:
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

.PHONY: demo
demo: ## two throw-away servers, a migration killed half-way, resumed, and checked key by key
	tests/servers/setup demo
	cargo run --release --locked -- demo

.PHONY: test
test: setup ## everything that must hold before a change is merged
	cargo fmt --all --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo test --locked --all-features --no-fail-fast
	cargo test --locked --all-features --bench resp --bench state --bench rdb --bench digest --bench end_to_end --bench compare
	cargo deny --locked check bans licenses sources

.PHONY: soak
soak: setup ## the crash and fault tests with ten times the repetitions
	REDKNOT_REPEAT=10 cargo test --locked --all-features --no-fail-fast --lib --test crash --test integration --test power_cut -- --nocapture --include-ignored

.PHONY: bench
bench: setup ## micro benches, then source floor, target floor and redknot on the same data
	cargo bench --locked

FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= rdb_walk reencode lzf resp_decode

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZ_SECONDS (600), beginning with the recorded payloads
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	for target in $(FUZZ_TARGETS); do \
	    mkdir -p tests/fuzz/corpus/$$target && \
	    cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none $$target \
	        tests/fuzz/corpus/$$target tests/payloads/* -- -max_total_time=$(FUZZ_SECONDS) -max_len=16384 \
	        -malloc_limit_mb=64 -rss_limit_mb=512 -timeout=10 -print_final_stats=1 || exit; \
	done

.PHONY: setup
setup: ## servers for the tests under .servers/, cargo-deny, system packages (as root)
	tests/servers/setup
