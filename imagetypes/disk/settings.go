package disk

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/internal/diskformat"
	"github.com/imgbuild/imgbuild/internal/partition"
)

// settings are what a description asks for, as far as they decide how a disk boots.
type settings struct {
	typ        *description.Type
	title      string
	arch       string
	scheme     partition.Scheme
	sectorSize int64
	bios       bool // a BIOS can start it
	efi        bool // UEFI can start it
	secure     bool // by signed programs, if the root tree has them
	// systemd says that the boot loader is systemd-boot.
	systemd    bool
	bootloader bool       // false: bootloader="custom", nothing is installed
	results    []product  // at least one
	themeName  string     // of GRUB's menu; "" for GRUB's own
	theme      grub.Theme // once it is installed
}

// newSettings reads a description and refuses what can't be built, with the place in the description.
func newSettings(d *description.Image) (*settings, error) {
	t := &d.Type
	s := &settings{typ: t, title: d.DisplayName, themeName: d.BootloaderTheme, arch: d.Arch, sectorSize: int64(t.TargetBlocksize), bootloader: true}
	if s.title == "" {
		s.title = d.Name
	}
	if s.sectorSize == 0 {
		s.sectorSize = 512
	}
	if s.sectorSize != 512 && s.sectorSize != 4096 {
		return nil, t.Errorf("target_blocksize", "use 512 or 4096", "disks with sectors of %d bytes can't be made", t.TargetBlocksize)
	}
	if err := refuseUnsupported(t); err != nil {
		return nil, err
	}
	if err := s.firmware(); err != nil {
		return nil, err
	}
	switch t.Bootloader.Name {
	case "", "grub2":
	case "systemd_boot":
		if s.systemd, s.bios = true, false; !s.efi {
			return nil, t.Bootloader.Errorf("name", "set firmware=\"efi\"", "systemd-boot starts by UEFI alone")
		}
		if t.XenServer {
			return nil, t.Bootloader.Errorf("name", "use grub2", "systemd-boot starts no Xen")
		}
	case "custom":
		s.bootloader = false
	default:
		return nil, t.Bootloader.Errorf("name", "use grub2 or systemd_boot, or custom and install it in a script", "the boot loader %s is not supported for disks yet", t.Bootloader.Name)
	}
	if err := s.products(); err != nil {
		return nil, err
	}
	return s, s.checkNames()
}

// checkNames refuses names of partitions that no variable of a script, and with MBR no label, could have, and labels that can't be on a kernel's command line. Letters
// of all languages can be there.
func (s *settings) checkNames() error {
	plain := regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	for i := range s.typ.Partitions {
		if p := &s.typ.Partitions[i]; !plain.MatchString(p.Name) {
			return p.Errorf("name", "use letters of ASCII, digits, _ and -; partition_name is its name in the table", "the partition's name %q can't be part of a script's variable", p.Name)
		}
	}
	if label := s.typ.RootFSLabel; s.typ.DevicePersistency == "by-label" && strings.ContainsAny(label, " \t\"'\\$;#/") {
		return s.typ.Errorf("rootfs_label", "leave out blanks, quotes and /, or use devicepersistency=\"by-uuid\"", "the label %q can't be put on the kernel's command line", label)
	}
	return nil
}

// firmware decides on table and boot ways.
func (s *settings) firmware() error {
	t := s.typ
	switch t.Firmware {
	case "bios", "ec2":
		s.bios, s.scheme = true, partition.MBR
	case "efi", "uefi":
		s.efi, s.secure = true, t.Firmware == "uefi"
		s.bios = s.arch == "x86_64" && t.EFICSM.Or(true)
	case "custom":
		s.bootloader = false
	case "":
		s.bios, s.efi = s.arch == "x86_64", s.arch != "x86_64"
		if s.bios {
			s.scheme = partition.MBR
		}
	default:
		return t.Errorf("firmware", "use bios, efi or uefi", "the firmware %s is not supported yet", t.Firmware)
	}
	if s.bios && s.arch != "x86_64" {
		return t.Errorf("firmware", "use efi or uefi", "there is no BIOS for %s", s.arch)
	}
	if s.efi {
		if _, _, err := grub.EFIPlatform(s.arch); err != nil {
			return t.Errorf("firmware", "", "%v", err)
		}
	}
	switch t.EFIPartTable {
	case "msdos":
		s.scheme = partition.MBR
	case "gpt":
		s.scheme = partition.GPT
	}
	if t.ForceMBR {
		s.scheme = partition.MBR
	}
	if s.sectorSize != 512 && s.bios {
		if !s.efi {
			return t.Errorf("target_blocksize", "use firmware=\"efi\"", "a BIOS can't boot a disk with sectors of %d bytes", s.sectorSize)
		}
		s.bios = false
	}
	if s.scheme == partition.MBR && t.DevicePersistency == "by-partuuid" && s.sectorSize != 512 {
		return t.Errorf("devicepersistency", "use by-uuid", "by-partuuid is not possible on this disk")
	}
	return nil
}

// refuseUnsupported names the first setting that this builder does not obey yet, so that no image silently lacks it.
func refuseUnsupported(t *description.Type) error {
	for _, c := range []struct {
		asked bool
		attr  string
		what  string
	}{
		{t.LUKS != nil, "luks", "encryption"},
		{t.MDRaid != "", "mdraid", "software RAID"},
		{t.VolumeManagement == "lvm", "", "LVM"},
		{t.OverlayRoot, "overlayroot", "an overlay root"},
		{t.VerityBlocks != "", "verity_blocks", "dm-verity"},
		{t.StandaloneIntegrity, "standalone_integrity", "dm-integrity"},
		{t.InstallISO || t.InstallStick, "installiso", "an installation ISO"},
		{t.InstallPXE, "installpxe", "an installation archive for PXE"},
	} {
		if c.asked {
			return t.Errorf(c.attr, "leave it out", "%s is not supported for disks yet", c.what)
		}
	}
	if slices.Contains(t.SparePartFSAttributes, "no-copy-on-write") && t.SparePartFS != "btrfs" {
		return t.Errorf("spare_part_fs_attributes", "set spare_part_fs=\"btrfs\"", "no-copy-on-write is an attribute of btrfs alone")
	}
	return nil
}

// formatOptions returns the options for a disk of the given format.
func (s *settings) formatOptions(format string) []diskformat.Option {
	var options []diskformat.Option
	for _, o := range s.typ.FormatOptions {
		value := o.Value
		if !o.HasValue {
			value = "on"
		}
		options = append(options, diskformat.Option{Name: o.Name, Value: value})
	}
	if format == "vmdk" && s.typ.Machine != nil && s.typ.Machine.Disk != nil {
		options = append(s.vmdkDefaults(), options...)
	}
	if format == "qcow2" && s.typ.XenMachine() { // distributions build Xen's own QEMU without zstd
		options = append([]diskformat.Option{{Name: "compression_type", Value: "zlib"}}, options...)
	}
	return options
}

// vmdkDefaults are options that the description's machine implies.
func (s *settings) vmdkDefaults() []diskformat.Option {
	var options []diskformat.Option
	disk := s.typ.Machine.Disk
	if disk.Mode != "" {
		options = append(options, diskformat.Option{Name: "subformat", Value: disk.Mode})
	}
	// qemu-img knows these; the others are SCSI as well.
	adapter := disk.Controller
	if adapter != "" && !slices.Contains([]string{"ide", "buslogic", "lsilogic", "legacyESX"}, adapter) {
		adapter = "lsilogic"
	}
	if adapter != "" {
		options = append(options, diskformat.Option{Name: "adapter_type", Value: adapter})
	}
	return options
}

// cmdline returns the kernel's command line for a root file system.
func (s *settings) cmdline(root *volume, readOnly bool) string {
	words := strings.Fields(s.typ.KernelCmdline)
	has := func(prefix string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return w == prefix || strings.HasPrefix(w, prefix+"=") })
	}
	var front []string
	if !has("root") {
		front = append(front, "root="+s.persistent(root))
	}
	if tree := root.Btrfs.Tree(); tree != "" && root.Btrfs.KeepDefault && !has("rootflags") {
		front = append(front, "rootflags=subvol="+tree)
	}
	if !has("ro") && !has("rw") || readOnly && !has("ro") {
		front = append(front, "ro")
	}
	return strings.Join(append(front, words...), " ")
}

// grubConfig returns the settings of grub.cfg that come from the description.
func (s *settings) grubConfig() grub.Config {
	c := grub.Settings(s.title, s.typ)
	c.Theme = s.theme
	return c
}

// persistent names a file system as fstab and the kernel's root= do.
func (s *settings) persistent(v *volume) string {
	switch {
	// Copies have the same identifiers and labels.
	case v.FS == "squashfs" || s.typ.DevicePersistency == "by-partuuid" || s.typ.DevicePersistency == "" && v.Clones > 0:
		return "PARTUUID=" + v.PartUUID
	case s.typ.DevicePersistency == "by-label" && v.Label != "":
		return "LABEL=" + v.Label
	}
	return "UUID=" + v.UUID
}

// largestBox is the largest size of the boxes for Vagrant, in GiB.
func (s *settings) largestBox() int {
	size := 0
	for _, p := range s.results {
		if p.box != nil {
			size = max(size, p.box.VirtualSize)
		}
	}
	return size
}

// size returns the disk size that the description fixes, or 0, and the bytes on top of what is needed.
func (s *settings) size() (fixed, additional, unpartitioned int64) {
	size := s.typ.Size
	if size == nil {
		// The machine that Vagrant makes has the size that its box says.
		return int64(s.largestBox()) << 30, 0, 0
	}
	if size.Additive {
		return 0, max(size.MB<<20-size.Unpartitioned, 0), size.Unpartitioned
	}
	return size.MB << 20, 0, size.Unpartitioned
}

// sizeError puts a disk that is too small into words of the description.
func (s *settings) sizeError(small *partition.TooSmallError) error {
	if s.typ.Size == nil {
		return s.typ.Vagrant[0].Errorf("virtualsize", fmt.Sprintf("make it at least %d", (small.Need+1<<30-1)>>30), "%v", small)
	}
	return s.typ.Size.Errorf("", fmt.Sprintf("make it at least %d, or leave it out to get as much as is needed", (small.Need+1<<20-1)>>20), "%v", small)
}
