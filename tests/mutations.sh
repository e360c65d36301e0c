#!/usr/bin/env bash
# Do the tests notice? Each patch in tests/mutations puts one deliberate bug into a copy of this repository and names the
# suite that has to fail because of it. A patch says in its first lines
#
#   bug: what it breaks
#   suite: arguments of `cargo test`
#
#   tests/mutations.sh [NAME…]      all of them, or those whose file names begin so
#
# The copy is of the last commit. Ends with a table and "N of M caught". A patch that doesn't apply, or a copy that doesn't
# compile, is a failure of this script's and not a catch. ECRON_MUTATIONS_DIR keeps the copy and its build between two runs.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$here")
cd "$root"
# shellcheck source=deploy/steps.sh
source deploy/steps.sh

found=$(deploy/servers.sh)
eval "$found"
work=${ECRON_MUTATIONS_DIR:-$root/target/mutations}
copy=$work/copy
# Never the repository's own: cargo names what it builds by the path within the workspace, and would take what was built
# from the copy for what is built from here.
export CARGO_TARGET_DIR=$work/target
unset ECRON_BIN # the end-to-end tests must build the copy's own binary
mkdir -p "$work"
# A copy of an older commit goes. The files of a new one are newer than whatever was built.
commit=$(git rev-parse HEAD)
if [[ $(cat "$work/commit" 2>/dev/null) != "$commit" ]]; then
  rm -rf "$copy" "$work/commit"
  mkdir -p "$copy"
  git archive HEAD | tar -x -m -C "$copy"
  printf '%s\n' "$commit" >"$work/commit"
fi

# What comes from registries is the same for every workspace: it is taken from the repository's own build, if there is one.
if [[ ! -d $work/target/debug && -d target/debug/.fingerprint ]]; then
  mkdir -p "$work/target/debug/deps"
  find target/debug/deps -maxdepth 1 ! -name '*ecron*' ! -name '*harness*' \
    \( -name '*.rlib' -o -name '*.rmeta' -o -name '*.so' -o -name '*.d' \) \
    -exec cp --preserve=timestamps --reflink=auto -t "$work/target/debug/deps" {} +
  cp -r --preserve=timestamps target/debug/build target/debug/.fingerprint "$work/target/debug/"
fi

selected() { # FILE NAME…: whether a patch was asked for
  local file=$1 name
  shift
  if (($# == 0)); then return 0; fi
  for name in "$@"; do if [[ $file == "$name"* ]]; then return 0; fi; done
  return 1
}

field() { sed -n "s/^$2: //p" "$1" | head -n 1; }

caught=0 all=0 table=''
for patch in "$here"/mutations/*.patch; do
  name=$(basename "$patch" .patch)
  if ! selected "$name" "$@"; then continue; fi
  all=$((all + 1))
  read -r -a suite <<<"$(field "$patch" suite)"
  say "== $name: $(field "$patch" bug)"
  log=$work/$name.log
  verdict='NOT CAUGHT' by=''
  rm -f "$work/commit" # a copy that was left patched is worth nothing
  if ! patch --quiet --dry-run --directory="$copy" --strip=1 <"$patch" >/dev/null; then
    verdict='does not apply'
  else
    patch --quiet --directory="$copy" --strip=1 --no-backup-if-mismatch <"$patch"
    if ! (cd "$copy" && cargo test --quiet --no-run "${suite[@]}") >"$log" 2>&1; then
      verdict='does not compile'
      indented "$log" 12
    elif ! (cd "$copy" && cargo test "${suite[@]}") >"$log" 2>&1; then
      by=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | head -n 3 | paste -sd ' ')
      if [[ -n $by ]]; then
        verdict=caught
        caught=$((caught + 1))
      fi
    fi
    patch --quiet --directory="$copy" --strip=1 --reverse --no-backup-if-mismatch <"$patch"
  fi
  printf '%s\n' "$commit" >"$work/commit"
  say "   $verdict ${by:+by $by}"
  table+=$(printf '%-34s %-16s %s' "$name" "$verdict" "$by")'\n'
done
printf '\n%-34s %-16s %s\n%b' bug verdict by "$table"
printf '\n%d of %d caught\n' "$caught" "$all"
((all > 0 && caught == all))
