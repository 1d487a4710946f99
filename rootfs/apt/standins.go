package apt

import (
	"fmt"

	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// The stand-ins come before the programs that packages' scripts mean. Some belong to a running machine with a disk of its own: what they do is done later, or by
// this program itself. The others know without a look at the system that there is nothing to do, and leave all else to the program itself.
const (
	// A script that asks whether there is such a program finds the stand-in. Where there is none, it does nothing.
	standInHead = "#!/bin/sh\nprogram=/usr/%s/%s\n[ -x $program ] || exit 0\n"

	doNothing = "exit 0\n"

	// An ssh server's keys must not be the same on all machines of an image.
	sshKeygen = `case "$*" in */etc/ssh/ssh_host_*) exit 0 ;; esac
exec $program "$@"
`

	// Packages call it three times for each unit of systemd. A unit that is new is neither masked, nor has it ever been disabled.
	debSystemdHelper = `nothing=yes
state=/var/lib/systemd/deb-systemd-helper
if [ "$DPKG_ROOT$_DEB_SYSTEMD_HELPER_DEBUG" != "" ] || [ "$DPKG_MAINTSCRIPT_PACKAGE" = "" ] || [ $# -lt 2 ]; then
	nothing=
elif [ "$1" = unmask ]; then
	[ ! -e $state-masked ] || nothing=
	for unit; do
		case $unit in -*) nothing= ;; esac
		[ ! -e "/etc/systemd/system/${unit##*/}" ] || nothing=
	done
elif [ "$1 $2" = "--quiet was-enabled" ] && [ $# = 3 ]; then
	[ ! -e "$state-enabled/${3##*/}.dsh-also" ] || nothing=
else
	nothing=
fi
[ "$nothing" ] || exec $program "$@"
`

	// When the package ca-certificates is set up, it does this for the programs that begin when something changes, of which there are none, and asks dpkg to
	// do the same again a moment later.
	updateCACertificates = `for hook in /etc/ca-certificates/update.d/*; do [ ! -e "$hook" ] || hooks=yes; done
[ "$DPKG_MAINTSCRIPT_PACKAGE $DPKG_MAINTSCRIPT_NAME $* $#" = "ca-certificates postinst --hooksdir  2" ] && [ ! "$hooks" ] || exec $program "$@"
`
)

// standIns are the stand-ins as files in the sandbox.
func standIns() []sandbox.File {
	var files []sandbox.File
	for _, f := range []struct{ dir, name, text string }{
		{"sbin", "update-initramfs", doNothing}, {"sbin", "update-grub", doNothing}, {"sbin", "grub-install", doNothing}, {"sbin", "flash-kernel", doNothing},
		// No init is running here that a package could restart, and wait for.
		{"bin", "ischroot", doNothing},
		{"bin", "ssh-keygen", sshKeygen}, {"bin", "deb-systemd-helper", debSystemdHelper}, {"sbin", "update-ca-certificates", updateCACertificates},
	} {
		text := fmt.Sprintf(standInHead, f.dir, f.name) + f.text
		files = append(files, sandbox.File{Path: standInDir + "/" + f.name, Perm: 0o755, Data: []byte(text)})
	}
	return files
}
