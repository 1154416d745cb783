#!/usr/bin/env bash
# The wireguard resource of a Vrooli checkout: hands every command to the program resource-wireguard.
# Only the tests take a way round (test/), and what can be said while the program is not installed (lib/core.sh).
set -euo pipefail

HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
readonly HERE
# shellcheck source=lib/core.sh
source "$HERE/lib/core.sh"

# Vrooli finds a resource's commands by these lines. The words are shown while the program is not installed; then
# its own help is the source.
declare -A COMMANDS=()
cli::register_command() { COMMANDS[$1]=$2; }

cli::register_command "help" "Show commands, examples and defaults"
cli::register_command "info" "Facts for a supervisor, from config/runtime.json"
cli::register_command "manage" "Install, uninstall, start, stop, restart"
cli::register_command "test" "Test the resource: smoke, unit, integration, all"
cli::register_command "content" "Store, list, show, remove and activate tunnels"
cli::register_command "status" "What runs, and what is wrong"
cli::register_command "logs" "What the agent has logged"
cli::register_command "credentials" "What another program needs to reach the tunnels"

wireguard::asks_for_help "$@" && wireguard::run "$@"
case "${1:-} ${2:-}" in
    "test all") exec "$HERE/test/run-tests.sh" all "${@:3}" ;;
    "test smoke" | "test unit" | "test integration") exec bash "$HERE/test/phases/test-$2.sh" "${@:3}" ;;
    "manage install") wireguard::install_program ;;
    "manage uninstall") wireguard::uninstall "$@" ;;
esac
wireguard::run "$@"
