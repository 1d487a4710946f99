package description

import (
	"cmp"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// ProfileVariables returns the variables of the file /.profile, which scripts
// of the image and its first boot read: name to value, before any quoting.
// A setting that is absent has an empty value, as KIWI writes it.
func (img *Image) ProfileVariables() map[string]string {
	vars := map[string]string{}
	img.imageVariables(vars)
	img.typeVariables(vars)
	if img.Type.Image == "oem" || img.Type.Image == "iso" {
		img.mediaVariables(vars)
	}
	if img.Type.Has("oemconfig") {
		img.oemVariables(vars)
	}
	img.volumeVariables(vars)
	return vars
}

func (img *Image) imageVariables(vars map[string]string) {
	vars["kiwi_iname"] = img.Name
	vars["kiwi_displayname"] = img.DisplayName
	vars["kiwi_iversion"] = img.Version
	vars["kiwi_profiles"] = strings.Join(img.Profiles, ",")
	for name, setting := range map[string]string{
		"kiwi_keytable": "keytable", "kiwi_language": "locale", "kiwi_timezone": "timezone",
		"kiwi_splash_theme": "bootsplash-theme", "kiwi_loader_theme": "bootloader-theme", "kiwi_showlicense": "showlicense",
	} {
		vars[name] = img.firstPreferences[setting]
	}
	vars["kiwi_delete"] = strings.Join(Names(img.Packages.Delete), " ")
	vars["kiwi_drivers"] = strings.Join(img.Drivers, ",")
	vars["kiwi_strip_delete"] = strings.Join(img.Strip.Delete, " ")
	vars["kiwi_strip_tools"] = strings.Join(img.Strip.Tools, " ")
	vars["kiwi_strip_libs"] = strings.Join(img.Strip.Libs, " ")
}

// written returns the value of an attribute, or "" for a default.
func written(o Origin, name, value string) string {
	if o.Has(name) {
		return value
	}
	return ""
}

func (img *Image) typeVariables(vars map[string]string) {
	t := &img.Type
	o := t.Origin
	vars["kiwi_type"] = t.Image
	vars["kiwi_bootkernel"] = t.BootKernel
	vars["kiwi_bootprofile"] = t.BootProfile
	if t.Image == "cpio" {
		vars["kiwi_cpio_name"] = img.Name
	}
	vars["kiwi_bootloader"] = t.Bootloader.Name
	vars["kiwi_bootloader_console"] = t.Bootloader.Console
	vars["kiwi_boot_timeout"] = ""
	if t.Bootloader.HasTimeout {
		vars["kiwi_boot_timeout"] = strconv.Itoa(t.Bootloader.Timeout)
	}
	flag := func(name string, value bool) string { return written(o, name, strconv.FormatBool(value)) }
	count := func(name string, value int) string { return written(o, name, strconv.Itoa(value)) }
	vars["kiwi_btrfs_root_is_snapshot"] = flag("btrfs_root_is_snapshot", t.BtrfsRootIsSnapshot)
	vars["kiwi_cmdline"] = t.KernelCmdline
	vars["kiwi_compressed"] = flag("compressed", t.Compressed)
	vars["kiwi_devicepersistency"] = t.DevicePersistency
	vars["kiwi_firmware"] = written(o, "firmware", t.Firmware)
	vars["kiwi_fsmountoptions"] = t.FSMountOptions
	vars["kiwi_gpt_hybrid_mbr"] = flag("gpt_hybrid_mbr", t.GPTHybridMBR)
	vars["kiwi_hybridpersistent"] = flag("hybridpersistent", t.HybridPersistent)
	vars["kiwi_hybridpersistent_filesystem"] = t.HybridPersistentFS
	vars["kiwi_initrd_system"] = t.InitrdSystem
	vars["kiwi_installboot"] = t.InstallBoot
	vars["kiwi_luks_empty_passphrase"] = strconv.FormatBool(t.LUKS != nil && *t.LUKS == "")
	vars["kiwi_ramonly"] = flag("ramonly", t.RAMOnly)
	vars["kiwi_rootpartuuid"] = "" // known only once the disk exists
	vars["kiwi_startsector"] = strconv.Itoa(t.DiskStartSector)
	vars["kiwi_target_blocksize"] = count("target_blocksize", t.TargetBlocksize)
	vars["kiwi_target_removable"] = flag("target_removable", t.TargetRemovable)
	vars["kiwi_vga"] = t.VGA
	vars["kiwi_wwid_wait_timeout"] = count("wwid_wait_timeout", t.WWIDWaitTimeout)
	if t.XenServer {
		vars["kiwi_xendomain"] = "dom0"
	}
}

func (img *Image) mediaVariables(vars map[string]string) {
	vars["kiwi_install_volid"] = cmp.Or(img.Type.VolID, "INSTALL")
}

func (img *Image) oemVariables(vars map[string]string) {
	o := &img.Type.OEM
	for name, value := range map[string]Tristate{
		"bootwait": o.BootWait, "multipath_scan": o.MultipathScan, "partition_install": o.PartitionInstall,
		"reboot": o.Reboot, "rebootinteractive": o.RebootInteractive, "recovery": o.Recovery,
		"recoveryInPlace": o.InplaceRecovery, "resizeonce": o.ResizeOnce, "shutdown": o.Shutdown,
		"shutdowninteractive": o.ShutdownInteractive, "silentboot": o.SilentBoot, "silentinstall": o.SilentInstall,
		"silentverify": o.SilentVerify, "skipverify": o.SkipVerify, "unattended": o.Unattended, "kboot": o.KiwiInitrd,
	} {
		vars["kiwi_oem"+name] = value.String()
	}
	for name, value := range map[string]string{
		"devicefilter": o.DeviceFilter, "nicfilter": o.NICFilter, "title": o.BootTitle,
		"unattended_id": o.UnattendedID, "vmcp_parmfile": o.VMCPParmfile,
	} {
		vars["kiwi_oem"+name] = value
	}
	for name, value := range map[string]int{
		"recoveryID": o.RecoveryID, "recoveryPartSize": o.RecoveryPartSize, "rootMB": o.SystemSize,
	} {
		vars["kiwi_oem"+name] = ""
		if value > 0 {
			vars["kiwi_oem"+name] = strconv.Itoa(value)
		}
	}
	vars["kiwi_oemswapMB"] = written(o.Origin, "oem-swapsize", strconv.Itoa(o.SwapSize))
}

// volumeVariables writes name|size|mountpoint for each volume.
func (img *Image) volumeVariables(vars map[string]string) {
	if img.Type.VolumeManagement == "lvm" {
		vars["kiwi_lvm"] = "true"
		vars["kiwi_lvmgroup"] = img.Type.VolumeGroup
	}
	number := 0
	for _, v := range img.Type.Volumes {
		size := "size:all"
		if !v.FullSize {
			size = fmt.Sprintf("%s:%d", v.SizeType, v.Size)
		}
		name := "kiwi_Volume_Root"
		if !v.Root {
			number++
			name = fmt.Sprintf("kiwi_Volume_%d", number)
		}
		vars[name] = fmt.Sprintf("%s|%s|%s", v.Name, size, v.Mountpoint)
	}
}

// ProfileFile returns the content of the file /.profile: one name='value' a
// line, sorted, quoted for a shell.
func (img *Image) ProfileFile() []byte {
	vars := img.ProfileVariables()
	// What KIWI writes besides, for its own programs; it has one value for each.
	vars["kiwi_align"], vars["kiwi_sectorsize"], vars["kiwi_revision"] = "1048576", "512", ""
	names := make([]string, 0, len(vars))
	for name := range vars {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%s='%s'\n", name, strings.ReplaceAll(vars[name], "'", `'\''`))
	}
	return []byte(b.String())
}
