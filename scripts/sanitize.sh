#!/usr/bin/env bash
# Runs the tests of the kernels and of the executor under AddressSanitizer, and under Miri where it is installed.
#
# Needs a nightly toolchain (`rustup toolchain install nightly`; for Miri also
# `rustup +nightly component add miri rust-src`). The sanitizer's build goes to its own folder below the target folder.
#
# What it does not see: data races (that would need a standard library built for ThreadSanitizer), and code of an
# instruction set that this machine lacks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=x86_64-unknown-linux-gnu
if ! cargo +nightly --version >/dev/null 2>&1; then
  printf 'sanitize: no nightly toolchain; install it with: rustup toolchain install nightly\n' >&2
  exit 1
fi

printf '== AddressSanitizer\n'
# Leaks are not looked for: the process ends with the test harness, which keeps what it likes.
RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}" \
  CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/sanitize" \
  cargo +nightly test --target "$target" --package gptjc-runtime --lib -- kernels executor

printf '== Miri\n'
if ! cargo +nightly miri --version >/dev/null 2>&1; then
  printf 'skipped: Miri is not installed (rustup +nightly component add miri rust-src)\n'
  [ -z "${GPTJC_REQUIRE_MIRI:-}" ] || exit 1
  exit 0
fi
# Few and small cases: Miri is some hundred times slower. Memory maps are foreign calls, so the executor is left out.
MIRIFLAGS="-Zmiri-disable-isolation" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/sanitize" \
  cargo +nightly miri test --package gptjc-runtime --lib -- kernels
