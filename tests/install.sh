#!/usr/bin/env bash
# Installs what the tests need beyond the servers: a Python environment in .ecron/venv with the NATS client that nobody here
# wrote. Prints "export ECRON_PYTHON=..."; instant when everything is there already.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$here")
# shellcheck source=deploy/steps.sh
source "$root/deploy/steps.sh"

readonly venv=$root/.ecron/venv requirements=$here/requirements.txt
stamp=$venv/installed-requirements.txt

need_venv() {
  if have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; then return 0; fi
  if can_apt_install; then
    apt_install python3 python3-venv
    return
  fi
  refuse "the tests speak to NATS from Python, and this machine lacks $(have python3 && echo "python3's venv" || echo python3)" \
    "As root: apt-get install python3-venv. Then run this again."
  return 1
}

if ! cmp -s "$requirements" "$stamp" || ! "$venv/bin/python" -c 'import nats' 2>/dev/null; then
  need_venv
  start=$(now_us)
  say "installing $(grep -o '^[a-z].*==[0-9.]*' "$requirements" | paste -sd ' ') into $venv ..."
  rm -rf "$venv"
  mkdir -p "$(dirname -- "$venv")"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if ! { python3 -m venv "$venv" &&
    "$venv/bin/python" -m pip install --disable-pip-version-check --retries 2 --require-hashes --only-binary=:all: -r "$requirements"; } >"$log" 2>&1; then
    indented "$log"
    refuse "the tests' Python packages could not be installed" \
      "pip's last words are above. No network: connect, or set the proxy that this machine needs, and run this again."
    exit 1
  fi
  cp "$requirements" "$stamp" # last: only a finished installation counts
  say "installed ($(took "$start"))"
fi
say "python: $venv/bin/python, $("$venv/bin/python" -c 'from importlib.metadata import version; print("nats-py", version("nats-py"))')"
printf 'export ECRON_PYTHON=%q\n' "$venv/bin/python"
