#!/usr/bin/env bash
# Simulated hours of a whole cluster under fire (tests/suites/simulation, docs/reliability.md): one seed is one history, and repeats.
#
#   tests/sim.sh [--hours N] [--seed FIRST] [--threads N] [--length SECONDS] [--trace]
#
# Seeds from FIRST on, each so long, until N hours have been lived through. Without --seed those that failed once come first. With
# --hours 0 it is one seed. The exit code is 0 only if every invariant held.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cd "$(dirname -- "$here")"
# shellcheck source=deploy/steps.sh
source deploy/steps.sh

export ECRON_SIM_HOURS=2000
while (($# > 0)); do
  case $1 in
    --hours) export ECRON_SIM_HOURS=${2:?hours} && shift 2 ;;
    --seed) export ECRON_SIM_SEED=${2:?a seed} && shift 2 ;;
    --threads) export ECRON_SIM_THREADS=${2:?a number} && shift 2 ;;
    --length) export ECRON_SIM_LENGTH_S=${2:?seconds} && shift 2 ;;
    --trace) export ECRON_SIM_TRACE=1 ECRON_SIM_THREADS=1 && shift ;;
    *) refuse "$1 isn't an option" "See the first lines of tests/sim.sh." && exit 2 ;;
  esac
done
exec cargo test --profile sim -p ecron-tests --test simulation --locked -- --nocapture nothing_is_lost
