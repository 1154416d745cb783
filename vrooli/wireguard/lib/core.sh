# shellcheck shell=bash
# Finds the program, installs it where it is missing, and runs it. Sourced by cli.sh and by lib/test.sh.

WIREGUARD_HOME=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
readonly WIREGUARD_HOME
readonly WIREGUARD_VENV=$WIREGUARD_HOME/.venv
# shellcheck source=../config/defaults.sh
source "$WIREGUARD_HOME/config/defaults.sh"

wireguard::say() { printf '%s\n' "$*" >&2; }

# Whether a word of a command asks for its help: then nothing may be done.
wireguard::asks_for_help() {
    local word
    for word; do
        [[ $word == --help || $word == -h ]] && return 0
    done
    [[ ${1:-help} == help ]]
}

# The checkout of the program that this folder lies in; fails where the folder was copied elsewhere.
wireguard::checkout() {
    local folder
    folder=$(cd "$WIREGUARD_HOME/../.." && pwd)
    grep -qs '^name = "resource-wireguard"$' "$folder/pyproject.toml" && printf '%s' "$folder"
}

# A program on PATH that is neither this drop-in nor a wrapper that calls it. Vrooli installs links to cli.sh under
# the program's own name; a wrapper shows by coming back here, so what was tried already is not tried again.
wireguard::on_path() {
    local candidate
    while read -r candidate; do
        [[ $(readlink -f "$candidate") != "$WIREGUARD_HOME/cli.sh" ]] || continue
        [[ :${WIREGUARD_DROP_IN_TRIED:-}: != *":$candidate:"* ]] || continue
        printf '%s' "$candidate"
        return
    done < <(type -aP resource-wireguard)
    return 1
}

# The program: on PATH, else in the environment that 'manage install' made beside cli.sh, else in the checkout.
wireguard::program() {
    local checkout candidate
    wireguard::on_path && return
    checkout=$(wireguard::checkout) || checkout=
    for candidate in "$WIREGUARD_VENV" ${checkout:+"$checkout/.venv"}; do
        [[ -x $candidate/bin/resource-wireguard ]] || continue
        printf '%s' "$candidate/bin/resource-wireguard"
        return
    done
    return 1
}

# Become the program, or answer for it while it is not installed.
wireguard::run() {
    local program
    program=$(wireguard::program) || wireguard::answer_without_program "$@"
    export WIREGUARD_DROP_IN_TRIED="${WIREGUARD_DROP_IN_TRIED:+$WIREGUARD_DROP_IN_TRIED:}$program"
    exec "$program" "$@"
}

# What is true of a resource whose program is not installed. Exit codes are those of the contract.
wireguard::answer_without_program() {
    wireguard::asks_for_help "$@" && wireguard::help_without_program
    case "$* " in
        "info "*) cat "$WIREGUARD_HOME/config/runtime.json" && exit 0 ;;
        "status "*"json "*) printf '{"running": false, "healthy": false, "installed": false}\n' && exit 2 ;;
        "status "* | "manage stop "* | "manage uninstall "*) wireguard::not_installed 2 ;;
        *) wireguard::not_installed 1 ;;
    esac
}

wireguard::not_installed() {
    wireguard::say "error: the program resource-wireguard is not installed"
    wireguard::say "hint: $WIREGUARD_HOME/cli.sh manage install"
    exit "$1"
}

wireguard::help_without_program() {
    local name
    printf 'resource-wireguard owns the WireGuard networking of this host. Its program is not installed yet.\n'
    printf '\nUsage examples:\n  cli.sh manage install\n  cli.sh manage start --wait\n  cli.sh status\n'
    printf '\nAvailable commands:\n'
    for name in "${!COMMANDS[@]}"; do printf '  %-12s %s\n' "$name" "${COMMANDS[$name]}"; done | sort
    printf '\nDefault configuration:\n'
    for name in "${!WIREGUARD_DEFAULT_@}"; do printf '  WIREGUARD_%s=%s\n' "${name#WIREGUARD_DEFAULT_}" "${!name}"; done
    exit 0
}

# Before the program's own 'manage install': see that there is a program.
wireguard::install_program() {
    local source
    ! wireguard::program >/dev/null || return 0
    source=$(wireguard::source) || {
        wireguard::say "error: the program resource-wireguard is not on PATH, and there is nothing here to install it from"
        wireguard::say "hint: pipx install WHEEL-OR-CHECKOUT of the program, or put its wheel into $WIREGUARD_HOME, or link this folder from a checkout"
        exit 1
    }
    wireguard::make_venv "$source" || {
        rm -rf "$WIREGUARD_VENV"
        wireguard::say "error: $source could not be installed into $WIREGUARD_VENV (see above)"
        wireguard::say "hint: it needs Python 3.11 or newer with venv (Debian: apt-get install python3-venv)"
        exit 1
    }
}

# What the program can be installed from: the latest wheel beside cli.sh, else the checkout.
wireguard::source() {
    local wheels
    mapfile -t wheels < <(compgen -G "$WIREGUARD_HOME/resource_wireguard-*.whl" | sort --version-sort)
    if ((${#wheels[@]})); then
        printf '%s' "${wheels[-1]}"
    else
        wireguard::checkout
    fi
}

wireguard::make_venv() {
    local python
    for python in python3 /usr/bin/python3; do
        "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        wireguard::say "installing $1 into $WIREGUARD_VENV"
        "$python" -m venv --clear "$WIREGUARD_VENV" >&2 || return
        printf '*\n' >"$WIREGUARD_VENV/.gitignore"
        "$WIREGUARD_VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$1" >&2
        return
    done
    return 1
}

# The environment beside cli.sh goes with what the program has installed; a program from elsewhere stays.
wireguard::uninstall() {
    local program
    program=$(wireguard::program) || wireguard::answer_without_program "$@"
    "$program" "$@" || exit
    [[ $program != "$WIREGUARD_VENV"/* ]] || rm -rf "$WIREGUARD_VENV"
    exit 0
}
