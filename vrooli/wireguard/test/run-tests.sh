#!/usr/bin/env bash
# Runs test phases of the resource as it is installed on this host. Exit code: 0 if all passed, 1 if not.
# Usage: run-tests.sh [smoke|--smoke] [unit|--unit] [integration|--integration] [all|--all]    (default: all)
set -euo pipefail

HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
readonly HERE

phases=()
options=()
while (($#)); do
    case ${1#--} in
        smoke | unit | integration) phases+=("${1#--}") ;;
        all) phases+=(smoke unit integration) ;;
        help) sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}" && exit 0 ;;
        format) options+=(--format "${2:-text}") && shift ;;
        format=*) options+=("$1") ;;
        *)
            printf "error: there is no test phase '%s'\nhint: there are smoke, unit, integration and all\n" "$1" >&2
            exit 1
            ;;
    esac
    shift
done
((${#phases[@]})) || phases=(smoke unit integration)

result=0
for phase in "${phases[@]}"; do
    bash "$HERE/phases/test-$phase.sh" "${options[@]}" || result=1
done
exit "$result"
