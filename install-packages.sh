#!/bin/sh
# Names what this machine lacks for an inventory, or installs it: plugins/module_utils/node/host.py knows what, and what each package
# manager calls it. The Makefile's variables come by the environment. Any shell must do, and tell which Python is needed.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
case ${PACKAGES:-name} in
  no) exit 0 ;;
  name) ;;
  install) set -- --install ;;
  *) echo "PACKAGES is '$PACKAGES': use name, install or no." >&2; exit 2 ;;
esac
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  version=$("$python" --version 2>/dev/null) || version="not there"
  also=
  [ "$(uname -s)" = Linux ] || also=" A cluster made here needs Linux: name one of kind or Docker Desktop by INVENTORY=inventories/kind."
  echo "flaskops needs Python 3.11 or newer, and $python is $version: install one, or name one, such as PYTHON=python3.12.$also" >&2
  exit 1
fi
exec "$python" -m plugins.module_utils.node.host --inventory "${INVENTORY:-inventories/local}" "--args=${ARGS:-}" "$@"
