#!/usr/bin/env bash
# Many nodes under fire: three planners, three dispatchers, four executors and both servers, killed, paused, cut off and wiped by a
# seed's plan, and a checker that reads nothing but files which the cluster didn't write.
#
#   tests/chaos.sh [--minutes N] [--seed S] [--json] [--rate RUNS_PER_S] [--only KIND,…] [--without KIND,…] [--out FOLDER]
#
# Prints what is wrong, then one JSON object on the last line; fails if the promise doesn't hold. Three minutes unless told
# otherwise. docs/reliability.md says what is injected and what each number means.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cd "$(dirname -- "$here")"

found=$(deploy/servers.sh)
eval "$found"
# The whole workspace's binaries: then features are those of `cargo test`, and nothing is built twice.
cargo build --quiet --locked --workspace --bins
target=$(cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
export ECRON_BIN=$target/debug/ecron
exec "$target/debug/ecron-chaos" run "$@"
