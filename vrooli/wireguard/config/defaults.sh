# shellcheck shell=bash disable=SC2034
# The program's defaults, by the names of the variables that change them: WIREGUARD_DEFAULT_PORT is that of WIREGUARD_PORT.
# They are for reading; the program has them itself. To change one on this host, add a line here such as
#   export WIREGUARD_PORT=51830

WIREGUARD_DEFAULT_PORT=51820
WIREGUARD_DEFAULT_NETWORK=10.13.13.0/24
WIREGUARD_DEFAULT_KEEPALIVE=25
WIREGUARD_DEFAULT_MTU=auto
WIREGUARD_DEFAULT_LOG_LEVEL=info
WIREGUARD_DEFAULT_ENGINE=auto
