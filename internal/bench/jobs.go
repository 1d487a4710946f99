package main

import "slices"

// The scripts see B, the work directory; CACHE, where inputs are kept from run to run; IMGBUILD, the program.

// setUpScript makes the inputs: a Debian root tree of about 560 MB with a kernel, a copy of it in memory, and crane from the Go proxy.
const setUpScript = `
mkdir -p "$CACHE/work" "$B"
if [ ! -e "$CACHE/root.tar" ]; then
	mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,systemd-sysv,udev,dbus,login,passwd,iproute2,linux-image-cloud-amd64,initramfs-tools,grub-pc-bin,grub-efi-amd64-bin,grub-common,grub2-common,zstd,python3,perl,git,gcc \
		--customize-hook='rm -rf "$1"/var/cache/apt/archives/*.deb' bookworm - > "$CACHE/root.tar.tmp"
	mv "$CACHE/root.tar.tmp" "$CACHE/root.tar"
fi
mkdir "$B/root"
tar -C "$B/root" --xattrs --xattrs-include='*' --numeric-owner -xpf "$CACHE/root.tar"
rm -rf "$B/root/dev" && mkdir "$B/root/dev"
mkdir -p "$B/root/image"
cat > "$B/root/image/config.xml" <<XML
<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.4" name="bench">
  <description type="system"><author>imgbuild</author><contact>imgbuild@example.org</contact><specification>Benchmark</specification></description>
  <preferences>
    <version>1.0.0</version><packagemanager>apt</packagemanager>
    <type image="oem" filesystem="ext4" firmware="uefi" format="qcow2"><oemconfig><oem-resize>false</oem-resize></oemconfig></type>
  </preferences>
  <repository type="apt-deb"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="image"><package name="linux-image-cloud-amd64"/></packages>
</image>
XML
if [ ! -x "$CACHE/crane" ]; then GOBIN="$CACHE" go install github.com/google/go-containerregistry/cmd/crane@v0.22.1; fi
`

const tearDownScript = `
[ ! -e "$B/registry.pid" ] || kill "$(cat "$B/registry.pid")" 2> /dev/null || true
$PODMAN umount --all > /dev/null 2>&1 || true
for dir in "$B/podman" "$B/buildah" "$CACHE/work/podman"; do umount "$dir/overlay" 2> /dev/null || true; done
rm -rf "$CACHE/work"
`

// kiwiChain is what KIWI's stash runs; the new layer goes into the container of $1 or, if there is none, into a new one.
const kiwiChain = `
W="$B/kiwi"; rm -rf "$W"; mkdir "$W"; A="$B/kiwi.tar"
if [ -e "$A" ]; then skopeo copy -q "oci-archive:$A:bench:latest" "oci:$W/oci_layout:base_layer"
else umoci init --layout "$W/oci_layout"; umoci new --image "$W/oci_layout:base_layer"; fi
umoci unpack --image "$W/oci_layout:base_layer" "$W/oci_root"
rsync --archive --hard-links --xattrs --acls --one-file-system --inplace --filter '-x! user.*' --filter '-x! security.ima*' --filter '-x! security.capability*' \
	--delete --exclude '/dev/*' --exclude '/sys/*' --exclude '/proc/*' "$B/root/" "$W/oci_root/rootfs/"
umoci repack --history.comment='KIWI Root Tree Stash' --image "$W/oci_layout:base_layer" "$W/oci_root"
umoci config --config.entrypoint=/bin/sh --no-history --image "$W/oci_layout:base_layer" --tag latest
umoci gc --layout "$W/oci_layout"
rm -f "$A"
skopeo copy -q "oci:$W/oci_layout:latest" "oci-archive:$A:bench:latest"
$PODMAN load -q -i "$A"
`

const changeThree = `echo "$RANDOM" > "$B/root/etc/motd"; rm -f "$B/root/etc/changed-$PPID"; rm -rf "$B/root/srv/new"; mkdir "$B/root/srv/new"; echo "$RANDOM" > "$B/root/srv/new/file"; rm -rf "$B/kiwi"`

func jobs() []job {
	list := []job{firstStash(), stashAgain(), pullAndStack("pull two gzip layers and write the tree", "$B"),
		pullAndStack("pull two gzip layers with the store on disk and write the tree to memory", "$CACHE/work"), toDisk(),
		prepare("prepare a minimal Debian", ""), prepare("prepare a Debian server", userland), prepare("prepare a Debian server with a kernel", userland+","+kernel)}
	return slices.Concat(list, typesTogether(), imageTypes())
}

func firstStash() job {
	return job{name: "first stash of a root tree", contenders: []contender{
		{name: "imgbuild stash", run: `"$IMGBUILD" stash --root "$B/root" --container-name bench`, clean: `rm -rf "$B/store"`},
		{name: "tar | zstd -3 -T2 | sha256sum", run: `tar -C "$B/root" --xattrs --xattrs-include='*' --acls -cf - . | zstd -q -3 -T2 | tee "$B/bare.tar.zst" | sha256sum`, clean: `rm "$B/bare.tar.zst"`},
		{name: "buildah from, copy, commit", run: `c=$($BUILDAH from scratch); $BUILDAH copy -q "$c" "$B/root" /; $BUILDAH commit -q "$c" bench; $BUILDAH rm "$c"`, clean: `$BUILDAH rmi -a -f`},
		{name: "KIWI's chain", run: kiwiChain, clean: `rm -rf "$B/kiwi" "$B/kiwi.tar"; $PODMAN rmi -a -f`},
	}}
}

func stashAgain() job {
	return job{name: "stash again after 3 changed entries",
		prepare: `"$IMGBUILD" stash --root "$B/root" --container-name bench` + "\n" + kiwiChain,
		contenders: []contender{
			{name: "imgbuild stash", prepare: changeThree, run: `"$IMGBUILD" stash --root "$B/root" --container-name bench`},
			{name: "KIWI's chain", prepare: changeThree, run: kiwiChain},
		},
		clean: `rm -rf "$B/store" "$B/kiwi" "$B/kiwi.tar"; $PODMAN rmi -a -f`}
}

// pullAndStack pulls with stores and podman's storage below the directory that the shell calls place, and writes the tree into memory.
func pullAndStack(name, place string) job {
	const address = "127.0.0.1:5056"
	use := `IMGBUILD_STORE="` + place + `/pulled"; export IMGBUILD_STORE; PODMAN="podman --root ` + place + `/podman --runroot $B/podman-run --cgroup-manager cgroupfs"
`
	return job{name: name,
		prepare: `
cat > "$B/registry.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $B/registry}}
http: {addr: ` + address + `}
YAML
docker-registry serve "$B/registry.yml" > "$B/registry.log" 2>&1 & echo $! > "$B/registry.pid"
for i in $(seq 50); do (exec 3<> /dev/tcp/127.0.0.1/5056) 2> /dev/null && break; sleep 0.1; done
"$IMGBUILD" stash --root "$B/root" --container-name two --compression none --exclude /usr/lib
"$IMGBUILD" stash --root "$B/root" --container-name two --compression none
skopeo copy -q --dest-tls-verify=false "oci:$B/store:two:latest" docker://` + address + `/two:latest # compresses as everybody does
rm -rf "$B/store"`,
		contenders: []contender{
			{name: "imgbuild export", run: use + `"$IMGBUILD" export --pull always docker://` + address + `/two:latest --output "$B/out"`, clean: `rm -rf "$B/out" "` + place + `/pulled"`},
			{name: "crane export | tar x", run: `mkdir "$B/out"; "$CACHE/crane" export --insecure ` + address + `/two:latest - | tar -C "$B/out" --xattrs --xattrs-include='*' -xpf -`, clean: `rm -rf "$B/out"`},
			{name: "skopeo copy, umoci unpack", run: `skopeo copy -q --src-tls-verify=false docker://` + address + `/two:latest oci:"` + place + `/layout":two; umoci unpack --image "` + place + `/layout:two" "$B/out"`, clean: `rm -rf "$B/out" "` + place + `/layout"`},
			{name: "podman pull, mount, rsync", run: use + `$PODMAN pull -q --tls-verify=false ` + address + `/two:latest; m=$($PODMAN image mount ` + address + `/two:latest); rsync --archive --hard-links --xattrs --acls --one-file-system --inplace "$m/" "$B/out"; $PODMAN image umount -f ` + address + `/two:latest`,
				clean: use + `rm -rf "$B/out"; $PODMAN rmi -a -f`},
		},
		clean: `kill "$(cat "$B/registry.pid")"; rm -rf "$B/registry" "$B/registry.pid"`}
}

func toDisk() job {
	return job{name: "a local container with kernel to a bootable qcow2",
		prepare: `"$IMGBUILD" stash --root "$B/root" --container-name bench`,
		contenders: []contender{
			{name: "imgbuild stackbuild", run: `"$IMGBUILD" stackbuild --stash bench --target-dir "$B/out"`, clean: `rm -rf "$B/out"`},
			{name: "mke2fs -d, qemu-img -c of an unpacked tree", run: `truncate -s 2G "$B/bare.raw"; mke2fs -q -t ext4 -d "$B/root" "$B/bare.raw"; qemu-img convert -c -O qcow2 -o compression_type=zstd "$B/bare.raw" "$B/bare.qcow2"`, clean: `rm "$B"/bare.*`},
			{name: "mke2fs -d, qemu-img uncompressed", run: `truncate -s 2G "$B/bare.raw"; mke2fs -q -t ext4 -d "$B/root" "$B/bare.raw"; qemu-img convert -O qcow2 "$B/bare.raw" "$B/bare.qcow2"`, clean: `rm "$B"/bare.*`},
			{name: "virt-make-fs", prepare: `mkdir -p /lib/modules`, run: `export SUPERMIN_KERNEL=$(ls "$B"/root/boot/vmlinuz-*) SUPERMIN_MODULES=$(ls -d "$B"/root/lib/modules/*)
export SUPERMIN_KERNEL_VERSION=$(basename "$SUPERMIN_MODULES")
virt-make-fs --format=qcow2 --type=ext4 --size=+200M "$B/root" "$B/virt.qcow2"`, clean: `rm -f "$B/virt.qcow2"`},
		},
		clean: `rm -rf "$B/store"`}
}
