package inside

import (
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// outside is the part that stands for what is there already: the files of a medium or an archive instead of the root tree that they carry.
const outside = "."

// carried finds what a medium or an archive is there to carry: the image with the root tree. It returns the path of the image, "" for none.
func carried(tree *layers.Tree) string {
	for _, dir := range []string{"etc", "usr", "bin"} {
		if _, err := tree.Lookup(dir); err == nil {
			return "" // it is the root tree
		}
	}
	file := func(name string) bool {
		_, node, err := tree.Resolve(name)
		return err == nil && node.IsRegular()
	}
	for _, name := range []string{
		"LiveOS/squashfs.img", "LiveOS/rootfs.img", // live media of KIWI, Fedora, openSUSE and this project
		"live/filesystem.squashfs", "casper/filesystem.squashfs", // of Debian and Ubuntu
		"install.tar.gz", // appx
		"disk.raw",       // Google's images
		"box.img",        // Vagrant's boxes for libvirt
	} {
		if file(name) {
			return name
		}
	}
	var disks []string
	var described, kernel bool
	for _, name := range tree.Root().Names() {
		switch {
		case strings.HasSuffix(name, ".vmdk"):
			disks = append(disks, name)
		case strings.HasSuffix(name, ".ovf"):
			described = true
		case strings.HasSuffix(name, ".kernel"):
			kernel = true
		}
	}
	if described && len(disks) == 1 {
		return disks[0] // OVA, and Vagrant's boxes for VirtualBox
	}
	if !kernel {
		return ""
	}
	for _, name := range tree.Root().Names() { // kernel-initrd-systems
		if stem, ok := strings.CutSuffix(name, ".md5"); ok {
			for _, system := range []string{stem, stem + ".xz", stem + ".gz"} {
				if file(system) {
					return system
				}
			}
		}
	}
	return ""
}
