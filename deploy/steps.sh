# shellcheck shell=bash
# Sourced by our scripts: how they speak, measure, compare versions and install a Debian package. Runs nothing by itself.
# Everything for a person goes to stderr, so that stdout stays free for results.

say() { printf '%s\n' "$*" >&2; }

# refuse WHAT [DO...]: says what is missing and, indented, what to do about it. The caller decides whether to stop.
refuse() {
  say "problem: $1"
  shift
  local line
  for line in "$@"; do say "         $line"; done
}

# The clock, in microseconds. EPOCHREALTIME has the locale's decimal mark, hence the substitution.
now_us() { printf '%s' "${EPOCHREALTIME//[!0-9]/}"; }

# took START_US: "1.4 s" since then.
took() {
  local us=$(($(now_us) - $1))
  printf '%d.%d s' $((us / 1000000)) $((us / 100000 % 10))
}

have() { command -v "$1" >/dev/null 2>&1; }

# at_least VERSION FLOOR
at_least() { [[ -n $1 && $(printf '%s\n%s\n' "$2" "$1" | sort -V | sed -n 1p) == "$2" ]]; }

# indented FILE [N]: the last N lines of another program's words.
indented() { tail -n "${2:-8}" "$1" | sed 's/^/    | /' >&2; }

# Prints the words to put before a command that needs root; fails where root cannot be had without a password.
root_prefix() {
  if [[ $EUID -eq 0 ]]; then return 0; fi
  have sudo && sudo -n true 2>/dev/null && printf 'sudo -n'
}

can_apt_install() { have apt-get && root_prefix >/dev/null; }

# apt_install PACKAGE...: says what it does and how long it took. Package lists are refreshed only if the first try fails.
apt_install() {
  local start log prefix
  start=$(now_us)
  log=$(mktemp)
  prefix=$(root_prefix)
  # Unquoted on purpose: empty, or two words.
  # shellcheck disable=SC2206
  local apt=($prefix env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120)
  say "installing Debian's $* with apt-get ..."
  if "${apt[@]}" install -y --no-install-recommends "$@" >"$log" 2>&1 ||
    { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
    say "installed $* ($(took "$start"))"
    rm -f "$log"
    return 0
  fi
  indented "$log"
  rm -f "$log"
  refuse "apt-get could not install: $*" \
    "Its last words are above. Without a network it cannot work; otherwise try: apt-get update && apt-get install $*"
  return 1
}
