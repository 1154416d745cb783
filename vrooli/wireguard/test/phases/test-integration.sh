#!/usr/bin/env bash
# The integration phase: exit code 0 if it passed, 1 if not.
set -euo pipefail
# shellcheck source=../../lib/test.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../lib/test.sh"

wireguard::test::integration "$@"
