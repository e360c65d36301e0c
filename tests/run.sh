#!/usr/bin/env bash
# Everything that must hold, from a fresh clone: installs what is needed, then formats, lints, tests, documents. Stops at the
# first step that fails. Ends with a table of steps and, alone on the last line, "N passed, M failed". CI runs just this.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$here")
cd "$root"
# shellcheck source=deploy/steps.sh
source deploy/steps.sh

# A hung test must not hang CI: a step that takes longer than this is ended. A person at a terminal has Ctrl-C.
readonly STEP_LIMIT=40m
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} RUST_BACKTRACE=${RUST_BACKTRACE:-1}
if [[ ${CI:-} == true ]]; then export CARGO_INCREMENTAL=0 CARGO_TERM_PROGRESS_WHEN=never; fi # built once, then thrown away

log=$(mktemp)
aside=$(mktemp)
beside=''
table=''
failed_step=''

# finish: on every exit, so that a failing or interrupted run is counted too.
finish() {
  local code=$? passed failed ignored
  if [[ -n $beside ]]; then kill "$beside" && wait "$beside" || true; fi
  read -r passed failed ignored < <(sed 's/\x1b\[[0-9;]*m//g' "$log" |
    awk '/^test result: / {for (i = 2; i <= NF; i++) {if ($i ~ /^passed;/) p += $(i-1); if ($i ~ /^failed;/) f += $(i-1); if ($i ~ /^ignored;/) g += $(i-1)}}
         END {print p + 0, f + 0, g + 0}')
  rm -f "$log" "$aside"
  printf '\n%-32s %10s  %s\n%b' step seconds result "$table"
  if ((ignored > 0)); then printf '%d tests were ignored\n' "$ignored"; fi
  if [[ -n $failed_step ]]; then printf 'stopped at the step: %s\n' "$failed_step"; fi
  printf '\n%d passed, %d failed\n' "$passed" "$failed"
  if ((failed > 0 || passed == 0)); then code=1; fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

bounded() { if [[ -t 0 ]]; then "$@"; else timeout --kill-after=30s "$STEP_LIMIT" "$@"; fi; }

# step NAME COMMAND...
step() {
  local name=$1 start code=0
  shift
  printf '\n== %s\n' "$name"
  start=$(now_us)
  failed_step=$name
  "$@" || code=$?
  if ((code == 124 || code == 137)); then say "ended: the step \"$name\" took longer than $STEP_LIMIT"; fi
  table+=$(printf '%-32s %10s  %s' "$name" "$(took "$start" | sed 's/ s//')" "$( ((code == 0)) && echo ok || echo FAILED)")'\n'
  if ((code != 0)); then exit 1; fi
  failed_step=''
}

# meanwhile COMMAND...: begins what waits more than it computes, beside the steps that follow; the step `joined` is its end.
meanwhile() {
  "$@" >"$aside" 2>&1 &
  beside=$!
}
joined() {
  local code=0
  wait "$beside" || code=$?
  beside=''
  cat "$aside"
  return "$code"
}

servers() {
  local found
  found=$(deploy/servers.sh) && eval "$found"
}
python_client() {
  local found
  found=$(tests/install.sh) && eval "$found"
}
toolchain() {
  if ! have cargo; then
    refuse "there is no cargo on PATH" "Install Rust with rustup."
    return 1
  fi
  cargo --version
  if ! cargo fmt --version || ! cargo clippy --version; then
    refuse "cargo lacks rustfmt or clippy" "With rustup: rustup component add rustfmt clippy."
    return 1
  fi
  if ! have cc; then
    if can_apt_install; then apt_install gcc libc6-dev; else
      refuse "there is no C compiler (cc) on PATH; Rust links with it" "As root: apt-get install gcc libc6-dev."
      return 1
    fi
  fi
}
scripts() {
  local script
  for script in deploy/*.sh tests/*.sh .ci/run; do bash -n "$script" || return 1; done
  echo "all scripts parse"
}
format() { cargo fmt --all --check; }
lint() { bounded cargo clippy --workspace --all-targets --locked -- -D warnings; }
# --no-fail-fast: one failing test must not hide the others, nor their count. Doctests are among them.
# The end-to-end tests wait for real processes more than they compute: more of them at once than there are cores.
tests() {
  if RUST_TEST_THREADS=${RUST_TEST_THREADS:-4} bounded cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log"; then
    return 0
  fi
  alone
}
# alone: an end-to-end test that failed beside the others gets one more try by itself, and is named as flaky if it passes. On a busy
# machine real processes miss deadlines. Any other failure stands.
alone() {
  local names name count=0 sum
  names=$(sed -n '/Running suites\/e2e/,/^test result/s/^test \(.*\) \.\.\. FAILED$/\1/p' "$log")
  sum=$(awk '/^test result: / {for (i = 2; i <= NF; i++) if ($i ~ /^failed;/) f += $(i-1)} END {print f + 0}' "$log")
  for name in $names; do
    if ! bounded cargo test -p ecron-tests --locked --test e2e -- --exact "$name"; then return 1; fi
    printf 'flaky: %s failed beside the others and passed alone\n' "$name"
    count=$((count + 1))
  done
  if ((count == 0 || count != sum)) || grep -q '^error: could not compile' "$log"; then return 1; fi
  printf 'test result: ok. %d passed; %d failed;\n' "$count" "-$count" >>"$log"
}
# SMOKE ONLY: each benchmark runs once, so that it cannot rot; nothing is measured here. Without benchmarks, nothing to do.
benches() {
  if ! compgen -G '*/benches/*.rs' >/dev/null; then
    echo "no benches yet"
    return
  fi
  bounded cargo test --workspace --locked --bench '*'
}
# A short campaign of many nodes under fire, always the same one; docs/reliability.md tells of the longer ones. Its binaries are
# built already. What it says is one line, and where evidence is kept if the promise doesn't hold.
chaos() { bounded tests/chaos.sh --minutes 2 --seed 1 --json; }
docs() { RUSTDOCFLAGS='-D warnings' bounded cargo doc --workspace --no-deps --locked; }

step scripts scripts
step toolchain toolchain
step format format
step servers servers
step "python client" python_client
step lint lint
step tests tests
meanwhile chaos
step "benches (smoke)" benches
step docs docs
step "chaos (2 minutes)" joined
