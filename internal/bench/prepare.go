package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// serveMirror serves the part of Debian's mirror that makeMirror keeps, by HTTP on this machine's loopback, so that neither the network nor its cache decides.
// The shell finds its address as MIRROR.
func (b *bench) serveMirror() (stop func(), err error) {
	dir := filepath.Join("build", "bench", "mirror")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serving the mirror: %w", err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // ends with Close
	b.env = append(b.env, fmt.Sprintf("MIRROR=http://%s/", listener.Addr()))
	return func() { _ = server.Close() }, nil
}

// What a small server has besides Debian's required packages, and what it boots with.
const (
	userland = "systemd,systemd-sysv,udev,dbus,login,passwd,iproute2,ifupdown,openssh-server,sudo,ca-certificates,locales,python3,perl,git,gcc"
	kernel   = "linux-image-cloud-amd64,initramfs-tools,zstd,grub-pc-bin,grub-efi-amd64-bin,grub-common"
)

// makeMirror keeps the packages of all lists with an index, once. The index is not signed: none of the contenders checks it.
const makeMirror = `
M="$CACHE/mirror"
if [ ! -e "$M/dists" ]; then
	rm -rf "$M/pool"; mkdir -p "$M/pool"
	mmdebstrap --quiet --variant=minbase --include="` + userland + "," + kernel + `" --skip=download/empty,essential/unlink,cleanup/apt --customize-hook='cp "$1"/var/cache/apt/archives/*.deb '"$M/pool/" bookworm /dev/null
	# Where there is a choice, not all make the same.
	(cd "$M/pool"; apt-get -q download usr-is-merged; rm usrmerge_*
	for f in *%3a*; do mv "$f" "$(echo "$f" | sed 's/_[0-9]*%3a/_/')"; done) # a mirror's files have no epochs
	I="$M/new/bookworm/main/binary-amd64"; mkdir -p "$I"
	(cd "$M"; apt-ftparchive packages pool > "$I/Packages"); gzip -9k "$I/Packages"
	(cd "$M/new/bookworm"; apt-ftparchive -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=bookworm -o APT::FTPArchive::Release::Components=main \
		-o APT::FTPArchive::Release::Architectures=amd64 -o APT::FTPArchive::Release::Origin=Debian release . > "$M/Release"; mv "$M/Release" .)
	mv "$M/new" "$M/dists"
fi
`

// writeDescription writes one that KIWI 9.24 of Debian 12 and imgbuild read alike. LIST is the packages.
const writeDescription = `
mkdir -p "$B/description"
{
cat <<XML
<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.4" name="bench">
  <description type="system"><author>imgbuild</author><contact>imgbuild@example.org</contact><specification>Benchmark</specification></description>
  <preferences>
    <version>1.0.0</version><packagemanager>apt</packagemanager>
    <type image="tbz"/>
  </preferences>
  <repository type="apt-deb" alias="debian" distribution="bookworm" components="main" repository_gpgcheck="false"><source path="$MIRROR"/></repository>
  <packages type="bootstrap"><package name="apt"/><package name="usr-is-merged"/></packages>
  <packages type="image">
XML
for p in $(echo "$LIST" | tr , ' '); do echo "    <package name=\"$p\"/>"; done
echo '  </packages></image>'
} > "$B/description/config.xml"
`

// prepare makes a root tree of packages.
func prepare(name, list string) job {
	set := "LIST=" + list + "\n"
	include := "apt,usr-is-merged"
	if list != "" {
		include += "," + list
	}
	same := ` # the same packages for all
dpkg-query --admindir="$B/out/var/lib/dpkg" -W | sort > "$B/packages.new"; [ ! -e "$B/packages" ] || diff "$B/packages" "$B/packages.new" 1>&2; mv "$B/packages.new" "$B/packages"; rm -rf "$B/out" "$B/out.log"`
	return job{name: name, prepare: makeMirror + set + writeDescription + `rm -f "$B/packages"`,
		contenders: []contender{
			{name: "imgbuild prepare", run: `"$IMGBUILD" prepare --description "$B/description" --root "$B/out" --package-cache "$B/package-cache"`, clean: same},
			{name: "mmdebstrap", run: `mmdebstrap --quiet --variant=minbase --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include="` + include + `" bookworm "$B/out" "deb [trusted=yes] $MIRROR bookworm main"`, clean: same},
			{name: "debootstrap", run: `debootstrap --variant=minbase --no-check-gpg --include="` + include + `" bookworm "$B/out" "$MIRROR" > /dev/null`, clean: same},
			{name: "kiwi-ng system prepare", run: `unset TMPDIR; kiwi-ng --temp-dir "$B" system prepare --description "$B/description" --root "$B/out" > "$B/kiwi.log"`, clean: same},
		},
		clean: `rm -rf "$B/packages" "$B/description" "$B/package-cache"`}
}
