"""python -m resource_wireguard: the same as the installed command."""

from resource_wireguard.cli.main import main

main()
