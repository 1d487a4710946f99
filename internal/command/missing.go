package command

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// MissingError says that a program is not installed on this machine. Its text ends with the command that installs it.
type MissingError struct {
	Program string // the name or path that was looked for
}

func (e *MissingError) Error() string {
	return missingText(e.Program, osFamily("/etc/os-release"))
}

// missingText is the error's text for a machine of the given family.
func missingText(program string, family family) string {
	if strings.Contains(program, "/") {
		return fmt.Sprintf("running %s: there is no such program", program)
	}
	if hint := installCommand(program, family); hint != "" {
		return fmt.Sprintf("running %s: it is not installed; install it with: %s", program, hint)
	}
	return fmt.Sprintf("running %s: it is not installed and was not found in PATH, /usr/sbin or /sbin", program)
}

// family is a group of distributions that share package names.
type family int

const (
	debian family = iota
	fedora
	suse
)

// osFamily reads os-release(5). A machine that it can't tell is taken for Debian, where most of the names come from.
func osFamily(path string) family {
	f, err := os.Open(path)
	if err != nil {
		return debian
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		key, value, _ := strings.Cut(scan.Text(), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for _, id := range strings.Fields(strings.Trim(value, `"'`)) {
			switch {
			case id == "debian" || id == "ubuntu":
				return debian
			case id == "fedora" || id == "rhel" || id == "centos":
				return fedora
			case id == "suse" || strings.HasPrefix(id, "opensuse") || strings.HasPrefix(id, "sle"):
				return suse
			}
		}
	}
	return debian
}

func installCommand(program string, f family) string {
	names, ok := packageNames(filepath.Base(program))
	if !ok || names[f] == "" {
		return ""
	}
	return map[family]string{debian: "apt-get install ", fedora: "dnf install ", suse: "zypper install "}[f] + names[f]
}

// packageNames returns the package that holds a program: on Debian, on Fedora and on openSUSE.
func packageNames(program string) ([3]string, bool) {
	for _, row := range packageTable() {
		for name := range strings.FieldsSeq(row.programs) {
			if name == program {
				return [3]string{row.debian, row.fedora, row.suse}, true
			}
		}
	}
	return [3]string{}, false
}

type packageRow struct{ programs, debian, fedora, suse string }

func packageTable() []packageRow {
	return []packageRow{
		{"mke2fs e2fsck debugfs dumpe2fs tune2fs resize2fs mkfs.ext2 mkfs.ext3 mkfs.ext4 chattr lsattr", "e2fsprogs", "e2fsprogs", "e2fsprogs"},
		{"mkfs.vfat mkfs.fat fsck.fat fsck.vfat", "dosfstools", "dosfstools", "dosfstools"},
		{"mcopy mmd mdir mtype mdel mattrib", "mtools", "mtools", "mtools"},
		{"mkfs.xfs xfs_repair xfs_admin xfs_info xfs_db xfs_io", "xfsprogs", "xfsprogs", "xfsprogs"},
		{"mkfs.btrfs btrfs btrfstune", "btrfs-progs", "btrfs-progs", "btrfsprogs"},
		{"mkfs.cramfs fsck.cramfs", "util-linux", "util-linux", "util-linux"},
		{"mkreiserfs reiserfsck", "reiserfsprogs", "", "reiserfs"},
		{"mksquashfs unsquashfs sqfstar", "squashfs-tools", "squashfs-tools", "squashfs"},
		{"sqfs2tar", "squashfs-tools-ng", "squashfs-tools-ng", "squashfs-tools-ng"},
		{"mkfs.erofs fsck.erofs dump.erofs", "erofs-utils", "erofs-utils", "erofs-utils"},
		{"grub-mkimage grub-mkstandalone grub-script-check grub-file", "grub-common", "grub2-tools", "grub2"},
		{"linux.uml", "user-mode-linux", "", ""},
		{"uml_mconsole", "uml-utilities", "", ""},
		{"qemu-system-x86_64", "qemu-system-x86", "qemu-system-x86-core", "qemu-x86"},
		{"qemu-system-aarch64", "qemu-system-arm", "qemu-system-aarch64-core", "qemu-arm"},
		{
			"qemu-aarch64-static qemu-arm-static qemu-i386-static qemu-x86_64-static qemu-riscv64-static qemu-ppc-static qemu-ppc64-static qemu-ppc64le-static qemu-s390x-static " +
				"qemu-mips64-static qemu-mips64el-static qemu-mipsel-static qemu-loongarch64-static qemu-alpha-static qemu-m68k-static qemu-sparc64-static",
			"qemu-user-static", "qemu-user-static", "qemu-linux-user",
		},
		{"qemu-img qemu-io qemu-nbd", "qemu-utils", "qemu-img", "qemu-tools"},
		{"newuidmap newgidmap", "uidmap", "shadow-utils", "shadow"},
		{"skopeo", "skopeo", "skopeo", "skopeo"},
		{"umoci", "umoci", "umoci", "umoci"},
		{"podman", "podman", "podman", "podman"},
		{"buildah", "buildah", "buildah", "buildah"},
		{"docker", "docker.io", "moby-engine", "docker"},
		{"docker-registry", "docker-registry", "docker-distribution", "distribution-registry"},
		{"xorriso osirrox", "xorriso", "xorriso", "xorriso"},
		{"isoinfo genisoimage", "genisoimage", "genisoimage", "mkisofs"},
		{"cryptsetup", "cryptsetup-bin", "cryptsetup", "cryptsetup"},
		{"veritysetup integritysetup", "cryptsetup-bin", "veritysetup", "cryptsetup"},
		{"lvm pvcreate vgcreate lvcreate vgchange", "lvm2", "lvm2", "lvm2"},
		{"mdadm", "mdadm", "mdadm", "mdadm"},
		{"dmsetup", "dmsetup", "device-mapper", "device-mapper"},
		{"sgdisk gdisk", "gdisk", "gdisk", "gptfdisk"},
		{"sfdisk fdisk", "fdisk", "util-linux", "util-linux"},
		{"parted", "parted", "parted", "parted"},
		{"setpriv blkid unshare nsenter losetup mount umount flock findmnt", "util-linux", "util-linux", "util-linux"},
		{"xz", "xz-utils", "xz", "xz"},
		{"zstd", "zstd", "zstd", "zstd"},
		{"gzip", "gzip", "gzip", "gzip"},
		{"bzip2", "bzip2", "bzip2", "bzip2"},
		{"tar", "tar", "tar", "tar"},
		{"cpio", "cpio", "cpio", "cpio"},
		{"rsync", "rsync", "rsync", "rsync"},
		{"gpg", "gnupg", "gnupg2", "gpg2"},
		{"gpgv", "gpgv", "gnupg2", "gpg2"},
		{"apt-get apt-cache apt-mark apt-key", "apt", "apt", ""},
		{"apt-ftparchive", "apt-utils", "apt", ""},
		{"dpkg dpkg-deb dpkg-query", "dpkg", "dpkg", "dpkg"},
		{"dpkg-scanpackages", "dpkg-dev", "dpkg-dev", "dpkg-devel"},
		{"zypper", "zypper", "zypper", "zypper"},
		{"dnf dnf4", "dnf", "dnf", "dnf"},
		{"dnf5", "", "dnf5", "dnf5"},
		{"microdnf", "", "microdnf", ""},
		{"rpm rpmdb rpm2cpio rpmkeys", "rpm", "rpm", "rpm"},
		{"createrepo_c", "createrepo-c", "createrepo_c", "createrepo_c"},
		{"pacman pacman-key pacman-conf repo-add", "pacman-package-manager", "pacman", ""},
		{"makepkg", "makepkg", "pacman", ""},
		{"apk", "", "apk-tools", ""},
		{"bsdtar", "libarchive-tools", "bsdtar", "bsdtar"},
		{"zsyncmake", "zsync", "zsync", "zsync"},
		{"debootstrap", "debootstrap", "debootstrap", "debootstrap"},
		{"mmdebstrap", "mmdebstrap", "mmdebstrap", "mmdebstrap"},
		{"openssl", "openssl", "openssl", "openssl"},
		{"osslsigncode", "osslsigncode", "osslsigncode", "osslsigncode"},
		{"getfacl setfacl", "acl", "acl", "acl"},
		{"getfattr setfattr", "attr", "attr", "attr"},
		{"getcap setcap", "libcap2-bin", "libcap", "libcap-progs"},
		{"dracut", "dracut-core", "dracut", "dracut"},
		{"mkinitramfs lsinitramfs unmkinitramfs update-initramfs", "initramfs-tools", "", ""},
		{"xmllint", "libxml2-utils", "libxml2", "libxml2-tools"},
		{"jing", "jing", "jing", "jing"},
		{"objcopy", "binutils", "binutils", "binutils"},
	}
}
