#!/bin/bash
# Names what this machine lacks for the embedded cluster, and installs it from Debian's packages.
set -euo pipefail
declare -A program=([podman]=podman [runc]=runc [mmdebstrap]=mmdebstrap [nft]=nftables [iptables]=iptables [catatonit]=catatonit
  [ip]=iproute2 [conntrack]=conntrack)
[ -x /usr/lib/podman/netavark ] || missing=(netavark aardvark-dns)
missing=("${missing[@]:-}")
for name in "${!program[@]}"; do
  command -v "$name" >/dev/null || [ -x "/usr/sbin/$name" ] || missing+=("${program[$name]}")
done
"${PYTHON:-python3}" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
read -ra missing <<<"${missing[*]}"
[ ${#missing[@]} -gt 0 ] || exit 0
echo "This machine lacks: ${missing[*]}"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "Install these packages as root, then run the command again." >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
