package main

// The image types, all from one prepared root tree, and each twice: with every program's defaults, and compressed alike.

// makeLive makes a Debian tree of about 520 MB with a kernel and what a live system needs, once, and its copy in memory.
const makeLive = `
if [ ! -e "$CACHE/live.tar" ]; then
	mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,systemd-sysv,udev,dbus,login,passwd,linux-image-cloud-amd64,dracut,dracut-live,kiwi-dracut-live,fdisk,e2fsprogs,grub-pc-bin,grub-efi-amd64-bin,grub-common,shim-signed,grub-efi-amd64-signed,zstd \
		--customize-hook='rm -rf "$1"/var/cache/apt/archives/*.deb' bookworm - > "$CACHE/live.tar.tmp"
	mv "$CACHE/live.tar.tmp" "$CACHE/live.tar"
fi
if [ ! -e "$B/live" ]; then
	mkdir "$B/live.new"
	tar -C "$B/live.new" --xattrs --xattrs-include='*' --numeric-owner -xpf "$CACHE/live.tar"
	rm -rf "$B/live.new/dev" && mkdir "$B/live.new/dev" "$B/live.new/image"
	mv "$B/live.new" "$B/live"
fi
`

// describeTypes writes the description of all types into the tree. ATTRIBUTES are what the type with a squashfs has besides.
const describeTypes = `
cat > "$B/live/image/config.xml" <<XML
<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.4" name="bench">
  <description type="system"><author>imgbuild</author><contact>imgbuild@example.org</contact><specification>Benchmark</specification></description>
  <preferences>
    <version>1.0.0</version><packagemanager>apt</packagemanager>
    <type image="tbz"/>
    <type image="docker"><containerconfig name="bench"/></type>
    <type image="oci"><containerconfig name="bench"/></type>
    <type image="squashfs" $SQUASHFS/>
    <type image="ext4"/>
    <type image="iso" flags="overlay" firmware="efi" volid="BENCH" $ISO/>
    <type image="kis" filesystem="squashfs" $KIS/>
  </preferences>
  <repository type="apt-deb"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="image"><package name="linux-image-cloud-amd64"/></packages>
  <packages type="bootstrap"><package name="apt"/></packages>
</image>
XML
# KIWI's settings for this machine
mkdir -p "$B/home/.config/kiwi"
printf '%b' "$KIWI" > "$B/home/.config/kiwi/config.yml"
`

// Shell variables of describeTypes. With equal compression both use what is imgbuild's default: zstd at level 1 in blocks of 256 KiB for the squashfs in kis, the level
// of xz that makes results of the same size, gzip for the layers of oci, nothing for docker. KIWI's image type squashfs knows only xz, so that imgbuild
// uses that too; in an ISO it takes no options, and gzip is the same in both without any.
const (
	byDefault = `SQUASHFS= ISO= KIS= KIWI=` + "\n"
	alike     = `ZSTD='squashfscompression="zstd" fscreateoptions="-comp zstd -Xcompression-level 1 -b 256K"'; SQUASHFS= ISO='squashfscompression="gzip"' KIS=$ZSTD
KIWI='xz:\n  - options: -1 --threads=0\ncontainer:\n  - compress: none\n'
`
	alikeSquashfs = `SQUASHFS='fscreateoptions="-comp xz -b 1M -Xbcj x86"' ISO= KIS= KIWI=` + "\n"
)

// bareTool is what one would do by hand.
type bareTool struct{ name, run string }

// makeType makes one image type.
func makeType(kind, variant, settings string, bare ...bareTool) job {
	// xorriso writes no file below /dev, which may be where all of this lies: KIWI finds its directories elsewhere. It changes the root tree, and
	// is given a copy.
	kiwi := `unset TMPDIR; HOME="$B/home" unshare -m bash -c 'mount --bind "$B" /mnt; exec kiwi-ng --temp-dir /mnt --type ` + kind +
		` system create --root /mnt/kiwi-root --target-dir /mnt/out > /mnt/kiwi.log'`
	result := "$B/out/bench.x86_64-1.0.0." + kind + "*"
	if kind == "tbz" || kind == "kis" {
		result = "$B/out/*.tar.xz"
	}
	clean := `rm -rf "$B/out" "$B/bare" "$B/kiwi-root"`
	j := job{name: "image types: " + kind + ", " + variant, prepare: makeLive + settings + describeTypes,
		contenders: []contender{
			{name: "imgbuild create", run: `"$IMGBUILD" create --type ` + kind + ` --root "$B/live" --target-dir "$B/out"`, clean: clean, result: result},
			{name: "kiwi-ng system create", once: true, prepare: settings + describeTypes + `cp -a "$B/live" "$B/kiwi-root"`, run: kiwi, clean: clean, result: result},
		}}
	for _, tool := range bare {
		j.contenders = append(j.contenders, contender{name: tool.name, prepare: `mkdir "$B/bare"`, run: `cd "$B/bare"; ` + tool.run, clean: clean, result: "$B/bare/result"})
	}
	return j
}

// onceEach is for a job in which everything takes minutes.
func onceEach(j job) job {
	for i := range j.contenders {
		j.contenders[i].once = true
	}
	return j
}

// The bare tools read the tree and write one file; none of them makes lists of packages, check sums, or what an ISO needs for booting.
const (
	bareTar      = `tar -C "$B/live" --xattrs --xattrs-include='*' --exclude=./image -c .`
	bareExt4     = `truncate -s 640M result; mke2fs -q -t ext4 -d "$B/live" result`
	bareLists    = `dpkg --root="$B/live" --verify > verified; sha256sum result > sums`
	bareSquashfs = `mksquashfs "$B/live" system -quiet -no-progress -comp zstd -Xcompression-level 1 -b 256K`
)

// imageTypes are the jobs.
func imageTypes() []job {
	const defaults, equal = "with defaults", "compressed alike"
	tbz := bareTool{"tar | xz -1 -T0", bareTar + ` | xz -1 -T0 > result`}
	docker := bareTool{"buildah from, copy, push docker-archive", `c=$($BUILDAH from scratch); $BUILDAH copy -q "$c" "$B/live" /; i=$($BUILDAH commit -q "$c"); $BUILDAH push -q "$i" "docker-archive:$B/bare/result:bench"; $BUILDAH rmi -a -f > /dev/null`}
	oci := bareTool{"umoci init, new, insert; tar", `umoci init --layout layout; umoci new --image layout:bench; umoci insert --image layout:bench "$B/live" / > /dev/null; tar -C layout -cf result .`}
	kis := bareTool{"mksquashfs | tar | xz -1 -T0", bareSquashfs + `; md5sum system > system.md5; cp "$B"/live/boot/vmlinuz-* "$B"/live/boot/initrd.img-* .; tar -c * | xz -1 -T0 > ../result.tmp; mv ../result.tmp result`}
	iso := bareTool{"mksquashfs, grub-mkrescue", `mkdir -p m/LiveOS; ` + bareSquashfs + `; mv system m/LiveOS/squashfs.img; cp "$B"/live/boot/vmlinuz-* "$B"/live/boot/initrd.img-* m; grub-mkrescue --directory="$B/live/usr/lib/grub/x86_64-efi" -o stdio:result m`}
	return []job{
		makeType("tbz", defaults, byDefault, tbz),
		makeType("tbz", equal, alike, tbz),
		makeType("docker", defaults, byDefault, docker),
		makeType("docker", equal, alike, docker),
		makeType("oci", defaults, byDefault, oci),
		makeType("oci", equal, alike, oci),
		makeType("squashfs", defaults, byDefault, bareTool{"mksquashfs -comp zstd -Xcompression-level 1 -b 256K", bareSquashfs + `; mv system result`},
			bareTool{"the same, dpkg --verify, sha256sum", bareSquashfs + `; mv system result; ` + bareLists}),
		onceEach(makeType("squashfs", equal+" by xz", alikeSquashfs, bareTool{"mksquashfs -comp xz -b 1M -Xbcj x86", `mksquashfs "$B/live" result -quiet -no-progress -comp xz -b 1M -Xbcj x86`})),
		makeType("ext4", defaults, byDefault, bareTool{"mke2fs -d", bareExt4}, bareTool{"mke2fs -d, dpkg --verify, sha256sum", bareExt4 + `; ` + bareLists}),
		makeType("kis", defaults, byDefault, kis),
		makeType("kis", equal, alike, kis),
		makeType("iso", defaults, byDefault, iso),
		makeType("iso", equal, alike, iso),
	}
}
