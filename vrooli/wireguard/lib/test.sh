# shellcheck shell=bash
# The test phases. Each is a command of the program, which tests itself as it is installed on this host.

# shellcheck source=core.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/core.sh"

wireguard::test::smoke() { wireguard::test::phase smoke 30 "$@"; }
wireguard::test::integration() { wireguard::test::phase integration 120 "$@"; }
wireguard::test::unit() { wireguard::test::phase unit 60 "$@"; }

# A phase passes (0) or does not (1), as the contract has it: one that could not run here (the program says 2) has
# not passed. It keeps its time itself; timeout(1) is for a program that hangs.
wireguard::test::phase() {
    local phase=$1 seconds=$2 program
    program=$(wireguard::program) || wireguard::not_installed 1
    timeout --kill-after=1 "$seconds" "$program" test "$phase" "${@:3}" || return 1
}
