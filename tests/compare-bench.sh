#!/usr/bin/env bash
# Compares two commits in one run: builds both, lets them take turns (A B B A …) on the same machine, and prints the medians
# of each figure and B by A. Absolute figures drift with the machine; a ratio taken in one run doesn't.
#   tests/compare-bench.sh A B [--rounds N] -- SHAPE [ARGUMENTS OF ecron bench]
#   tests/compare-bench.sh main HEAD --rounds 3 -- herd --n 20000
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$here")
# shellcheck source=deploy/steps.sh
source "$root/deploy/steps.sh"

usage() { sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
[[ $# -ge 2 ]] || usage
a=$1 b=$2 rounds=3
shift 2
while [[ $# -gt 0 && $1 != -- ]]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    *) usage ;;
  esac
done
[[ ${1:-} == -- && $# -ge 2 ]] || usage
shift
have python3 || { refuse "there is no python3 on PATH"; exit 1; }
found=$("$root/deploy/servers.sh") && eval "$found"

# Both builds share one target folder, so that what they have in common is compiled once.
work=$root/target/compare
mkdir -p "$work"
# build COMMIT: prints the binary's path.
build() {
  local sha binary
  sha=$(git -C "$root" rev-parse --short=12 "$1^{commit}")
  binary=$work/ecron-$sha
  if [[ ! -x $binary ]]; then
    rm -rf "$work/tree"
    git -C "$root" worktree prune
    git -C "$root" worktree add --quiet --detach --force "$work/tree" "$sha"
    (cd "$work/tree" && CARGO_TARGET_DIR=$work/target cargo build --release --locked -p ecron-cli >&2)
    cp "$work/target/release/ecron" "$binary"
    git -C "$root" worktree remove --force "$work/tree"
  fi
  printf '%s' "$binary"
}
binary_a=$(build "$a")
binary_b=$(build "$b")

results=$work/results.jsonl
: >"$results"
turn() {
  local last
  last=$("$2" bench "${@:3}" --repeats 1 --json 2>>"$work/log" | tail -n 1)
  printf '{"side": "%s", "figures": %s}\n' "$1" "$last" >>"$results"
}
for ((round = 1; round <= rounds; round++)); do
  say "round $round of $rounds (load $(cut -d' ' -f1-3 /proc/loadavg))"
  if ((round % 2)); then
    turn a "$binary_a" "$@"
    turn b "$binary_b" "$@"
  else
    turn b "$binary_b" "$@"
    turn a "$binary_a" "$@"
  fi
done

python3 - "$results" "$a" "$b" <<'PYTHON'
import json, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
def figures(row):
    for system in ("ours", "floor", "native"):
        for name, value in row["figures"].get(system, {}).items():
            if isinstance(value, (int, float)):
                yield f"{system} {name}", value
sides = {"a": {}, "b": {}}
for row in rows:
    for name, value in figures(row):
        sides[row["side"]].setdefault(name, []).append(value)
print(f"{'figure':36} {sys.argv[2][:14]:>14} {sys.argv[3][:14]:>14} {'B by A':>8}  (each round)")
for name in sides["a"]:
    a, b = sides["a"][name], sides["b"].get(name)
    if not b:
        continue
    ratios = [y / x for x, y in zip(a, b) if x]
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    middle = statistics.median(ratios) if ratios else float("nan")
    print(f"{name:36} {statistics.median(a):14.3f} {statistics.median(b):14.3f} {middle:8.2f}  ({each})")
PYTHON
