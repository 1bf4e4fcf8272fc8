#!/bin/bash
# Names what this machine lacks for the embedded cluster, and installs it from Debian's packages.
set -euo pipefail
declare -A package=(
  [ip]=iproute2                                  # looks at the node's network
  [mmdebstrap]=mmdebstrap [catatonit]=catatonit  # builds its image
)
has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }
missing=()
# Where docker runs and podman is not there, docker runs the node.
if has podman || ! docker version >/dev/null 2>&1; then
  package+=([podman]=podman [runc]=runc [iptables]=iptables [nft]=nftables)
  # podman's network program is no command.
  [ -x /usr/lib/podman/netavark ] || [ -x /usr/libexec/podman/netavark ] || missing+=(netavark aardvark-dns)
fi
for command in "${!package[@]}"; do
  has "$command" || missing+=("${package[$command]}")
done
"${PYTHON:-python3}" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} -gt 0 ] || exit 0
echo "This machine lacks: ${missing[*]}"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "Install these packages as root, then run the command again." >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
