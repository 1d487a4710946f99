#!/bin/bash
# The whole way, on real parts: a Debian container, a registry, a disk, a boot. `make demo` runs it.
#
# It needs no root. Everything it makes lies in build/demo; nothing keeps running afterwards.
set -eu -o pipefail
cd "$(dirname "$0")/../.."

work=$PWD/build/demo
address=127.0.0.1:5055
export IMGBUILD_STORE=$work/store
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*" >&2; "$@"; }

rm -rf "$work"
mkdir -p "$work"

say "1. A Debian container, as mmdebstrap makes it"
run mmdebstrap --quiet --format=tar --variant=minbase bookworm - > "$work/debian.tar"
run ./imgbuild stash --root "$work/debian.tar" --container-name debian --tag 12

say "2. A registry on this machine"
cat > "$work/registry.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: $address}
YAML
docker-registry serve "$work/registry.yml" > "$work/registry.log" 2>&1 &
registry=$!
trap 'kill $registry 2> /dev/null || true' EXIT
for _ in $(seq 50); do
	(exec 3<> "/dev/tcp/${address/:/\/}") 2> /dev/null && break
	sleep 0.1
done
run ./imgbuild push debian:12 "docker://$address/debian:12"
run ./imgbuild rm debian:12
run ./imgbuild prune

say "3. From the registry to a disk"
run ./imgbuild stackbuild --stash debian:12 --from-registry "$address" \
	--description examples/container-to-vm/debian --target-dir "$work/out"
ls -lh "$work/out"

say "4. The disk boots"
run ./imgbuild boot "$work"/out/*.qcow2 --firmware uefi --password linux --run 'uname -a; df -h /'
