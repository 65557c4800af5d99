# The only list of checks: `make ci` is what CI runs.

.PHONY: ci test fmt clippy docs demo core codegen bench nightly

ci: test fmt clippy docs core codegen demo

# What the README tells a newcomer to run. It includes the suites that need other programs (interop, differential);
# they skip aloud where a program is missing, and fail for it when CI=true.
test:
	cargo test --workspace

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The broker's core must hold no runtime, socket, clock or OS randomness.
core:
	bash .ci/core-is-pure

# The generated codec is what the generator writes.
codegen:
	cargo run -q -p rehearsal-mockbroker-codegen -- check

# What a newcomer sees first.
demo:
	cargo run --release

bench:
	cargo bench -p benches

# Long searches: how soon every planted bug is found, more cases of every property than CI has time for, three hundred
# random sequences beside Apache Kafka, another client's own test suite, a million inputs a fuzz target, two hundred tests
# a hundred times over, and ten thousand seeds of the simulator, each run twice with equal steps.
nightly:
	cargo run --release -p rehearsal -- sim --mutants sim/MUTANTS.md --seeds 500
	PROPTEST_CASES=20000 cargo test --workspace --release
	REHEARSAL_RANDOM_SEQUENCES=300 REHEARSAL_RANDOM_SEED=$$(date +%s) \
		cargo test -p tests --release --test differential random -- --nocapture
	bash .ci/franz-go
	bash .ci/fuzz
	cargo test -p tests --release --test parallel --no-run
	for round in $$(seq 100); do cargo test -q -p tests --release --test parallel || exit 1; done
	seeds=$$(mktemp -d) && for run in one other; do \
	  cargo run -q --release -- sim --seeds 10000 --keep-going --hashes $$seeds/$$run || exit 1; \
	done && cmp $$seeds/one $$seeds/other
