#!/usr/bin/env bash
# From a clone to running jobs: checks what is needed, finds or installs the servers, builds, and runs `ecron up` in the
# foreground. `--help` tells the rest.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$here")
# shellcheck source=deploy/steps.sh
source "$here/steps.sh"

usage() {
  cat <<'HELP'
usage: deploy/quickstart.sh [--crontab FILE] [--data DIR] [--port-base N]

Starts ecron on this machine: private redis-server and nats-server on loopback, planner, dispatcher and the built-in
executor. Applies examples/*.yaml, imports a crontab, and shows what runs. Ctrl-C stops everything and keeps the data;
the next start goes on where this one stopped.

  --crontab FILE   import this crontab instead of examples/crontab. Its commands REALLY run here, as you; cron itself
                   knows nothing of it and goes on running them too
  --data DIR       where Redis and NATS keep their files     (default: .ecron/data in the clone)
  --port-base N    Redis on N, NATS on N+1, console on N+2   (default: 17600)
  --help           this text

Example: deploy/quickstart.sh --crontab /etc/crontab

Jobs stay in the data until deleted (`ecron delete`); for a fresh start take another --data, or remove the folder.
Exit code: 0 stopped cleanly, 1 something failed or is missing, 2 the command line was wrong.
HELP
}

bad_usage() {
  refuse "$1" "See deploy/quickstart.sh --help."
  exit 2
}

# ---- What the user asked for. Paths are theirs, relative to where they stand.

crontab=$root/examples/crontab
own_crontab=no
data=$root/.ecron/data
port_base=17600
while (($# > 0)); do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --crontab=* | --data=* | --port-base=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --crontab | --data | --port-base)
      if [[ -z ${2:-} ]]; then bad_usage "$1 needs a value"; fi
      case $1 in
        --crontab) crontab=$2 own_crontab=yes ;;
        --data) data=$2 ;;
        --port-base) port_base=$2 ;;
      esac
      shift 2
      ;;
    *) bad_usage "unknown argument: $1" ;;
  esac
done
if [[ ! $port_base =~ ^[0-9]{1,5}$ ]] || ((10#$port_base < 1 || 10#$port_base > 65533)); then
  bad_usage "--port-base $port_base is no port between 1 and 65533"
fi
port_base=$((10#$port_base))
if [[ ! -f $crontab || ! -r $crontab ]]; then bad_usage "the crontab $crontab is no file that $(id -un) can read"; fi
crontab=$(cd -- "$(dirname -- "$crontab")" && pwd)/$(basename -- "$crontab")
if [[ $data != /* ]]; then data=$PWD/$data; fi
bin=${ECRON_BIN_DIR:-$root/.ecron/bin}
if [[ $bin != /* ]]; then bin=$PWD/$bin; fi
export ECRON_BIN_DIR=$bin

# ---- What must be there. All of it is looked at before the first minute is spent; every problem is told at once.

problems=0
missing() {
  refuse "$@"
  problems=$((problems + 1))
}

check_cargo() {
  local floor version
  floor=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  local home=${CARGO_HOME:-${HOME:-}/.cargo}
  if ! have cargo && [[ -x $home/bin/cargo ]]; then PATH=$home/bin:$PATH; fi # installed a minute ago, in another shell
  if ! have cargo; then
    missing "there is no cargo on PATH; ecron is built from source with Rust $floor or newer" \
      "Install Rust with rustup (the official installer; a distribution's own cargo is often too old), open a new shell, run this again."
    return
  fi
  version=$(cd "$root" && cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p') || true
  if at_least "$version" "$floor"; then return; fi
  missing "$(command -v cargo) is ${version:-not working}, and ecron needs Rust $floor or newer" \
    "With rustup: rustup update stable. A distribution's cargo: install Rust with rustup, and put its cargo first on PATH."
}

check_linker() { # Rust links with cc, and the crate ring compiles C
  if have cc; then return; fi
  if can_apt_install; then
    apt_install gcc libc6-dev || problems=$((problems + 1))
  else
    missing "there is no C compiler (cc) on PATH; Rust links with it" "As root: apt-get install gcc libc6-dev."
  fi
}

check_folder() {
  if mkdir -p "$1" 2>/dev/null && [[ -w $1 && -x $1 ]]; then return; fi
  missing "the folder $1 cannot be written by $(id -un)" "$2"
}

taken=()
check_port() { # PORT USE
  local owner=''
  if ! (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
  if have ss; then
    owner=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -n '1s/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/, by \1, process \2/p')
  fi
  taken+=("$1 (for $2)$owner")
}

check_ports() {
  check_port "$port_base" Redis
  check_port $((port_base + 1)) NATS
  check_port $((port_base + 2)) "the console"
  if ((${#taken[@]} == 0)); then return; fi
  missing "taken on 127.0.0.1: port $(printf '%s; ' "${taken[@]}" | sed 's/; $//')" \
    "Is ecron running already? Then stop that one first (Ctrl-C there). Otherwise choose other ports: --port-base $((port_base + 100))."
}

check_cargo
check_linker
check_folder "$root/.ecron" "The clone must belong to the user who builds it."
check_folder "$data" "Give that user the folder, or choose another one with --data DIR."
check_ports
if ((problems > 0)); then exit 1; fi

# shellcheck source=deploy/servers.sh
source "$here/servers.sh"

# ---- Build.

cd "$root"
target=$(cargo metadata --locked --offline --no-deps --format-version 1 2>/dev/null | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p') || true
ecron=${target:-$root/target}/release/ecron
if [[ -x $ecron ]]; then say "building what changed ..."; else say "building ecron; the first time this takes minutes (about 5 on 2 cores) ..."; fi
start=$(now_us)
if ! cargo build --release --locked -p ecron-cli; then
  if cargo fetch --locked --quiet 2>/dev/null; then
    refuse "the build failed; cargo's message is above" \
      "Out of disk? It needs 2 GB in ${target:-$root/target}. Out of memory? Try CARGO_BUILD_JOBS=1. Otherwise this is a bug in ecron: tell us."
  else
    refuse "cargo could not fetch ecron's dependencies; its message is above" \
      "The first build needs the network. Connect, or set the proxy that this machine needs (HTTPS_PROXY), and run this again."
  fi
  exit 1
fi
say "built ($(took "$start"))"

# ---- Import the crontab, apply it with the examples, run.

if [[ $own_crontab == yes ]]; then
  say "importing $crontab; its commands will really run here, as $(id -un), besides what cron itself does"
else
  say "importing $crontab"
fi
imported=$root/.ecron/crontab.yaml
code=0
"$ecron" import crontab "$crontab" --out "$imported" || code=$?
if ((code != 0)); then
  refuse "$crontab could not be imported; the reasons are above" \
    "Correct these lines, or give another file with --crontab FILE."
  exit "$code"
fi

say "starting: data in $data, Redis on 127.0.0.1:$port_base, NATS on 127.0.0.1:$((port_base + 1)). Ctrl-C stops everything."
say "in another terminal: $ecron get jobs"
PATH=$bin:$PATH
exec "$ecron" up --data "$data" --port-base "$port_base" --allow-exec --apply "$root"/examples/*.yaml "$imported"
