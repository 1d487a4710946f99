package description

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Checks of disks and volumes.

func diskChecks() []Check {
	return []Check{
		{ID: "volume_setup_has_no_root_definition", Reason: "The root volume is named @root.", find: findRootVolumes},
		{ID: "volume_setup_defines_multiple_fullsize_volumes", Reason: "Only one volume can take the rest of the disk.", find: findFullsize},
		{ID: "volume_setup_defines_reserved_labels", Reason: "Boot finds file systems by their labels, so labels must be unique.", find: findLabels},
		{ID: "volume_label_used_with_lvm", Reason: "Only LVM volumes have file systems, and so labels, of their own.", find: findVolumeLabels},
		{ID: "swap_name_used_with_lvm", Reason: "Only an LVM swap volume has a name.", find: findSwapName},
		{ID: "volume_names_valid", Reason: "Two volumes of one name or place would be one, and LVM allows only some names.", find: findVolumeNames},
		{ID: "partition_setup_valid", Reason: "A partition table refuses such partitions, or a mount would hide another.", find: findPartitions},
		{ID: "partition_count_fits_table", Reason: "An msdos partition table has four entries.", find: findPartitionCount},
		{ID: "filesystem_labels_fit", Reason: "Each kind of file system has labels of a certain length, and boot finds file systems by them.", find: findLongLabels},
		{ID: "disk_size_fits_content", Reason: "A disk that is smaller than its partitions can't be made.", find: findSmallDisk},
		{ID: "partuuid_persistency_type_used_with_mbr", Reason: "An msdos partition table has no partition UUIDs of its own.", find: findPartUUID},
	}
}

func findRootVolumes(img *Image) (errs Errors) {
	for _, v := range img.Type.Volumes {
		if !v.Root && path.Clean("/"+v.RealPath) == "/" {
			errs.add(v.At("name"), `write name="@root", or @root=NAME`, "the volume %q stands for the root", v.RealPath)
		}
	}
	return errs
}

func findFullsize(img *Image) (errs Errors) {
	first := ""
	for _, v := range img.Type.Volumes {
		switch {
		case !v.FullSize:
		case first != "":
			errs.add(v.Pos, "give one of them a size", "the volumes %s and %s both take the rest of the disk", first, v.Name)
		default:
			first = v.Name
		}
	}
	return errs
}

// reservedLabels are labels that the disk's own partitions have.
var reservedLabels = []string{"ROOT", "BOOT", "EFI", "SWAP", "SPARE"}

func findLabels(img *Image) (errs Errors) {
	seen := map[string]bool{}
	for _, v := range img.Type.Volumes {
		own := v.RealPath == "swap" || v.Root
		if v.Label == "" || own && v.Label != "SWAP" && v.Label != "ROOT" {
			continue
		}
		if !own && contains(reservedLabels, v.Label) {
			errs.add(v.At("label"), "choose another label", "the label %s of volume %s is reserved", v.Label, v.Name)
		} else if seen[v.Label] {
			errs.add(v.At("label"), "choose another label", "the label %s is there twice", v.Label)
		}
		seen[v.Label] = true
	}
	return errs
}

func findVolumeLabels(img *Image) (errs Errors) {
	if img.Type.VolumeManagement == "lvm" {
		return nil
	}
	for _, v := range img.Type.Volumes {
		if v.Label != "" {
			errs.add(v.At("label"), `remove it, or write <systemdisk preferlvm="true">`, "the volume %s has a label and is not of LVM", v.Name)
		}
	}
	return errs
}

func findSwapName(img *Image) (errs Errors) {
	if img.Type.OEM.Has("oem-swapname") && img.Type.VolumeManagement != "lvm" {
		errs.add(img.Type.OEM.At("oem-swapname"), "remove it, or add a <systemdisk>", "a swap partition has no name")
	}
	return errs
}

// MSDOSTable reports whether the disk gets an msdos partition table.
func (t *Type) MSDOSTable() bool {
	switch {
	case t.ForceMBR:
		return true
	case t.Firmware == "efi", t.Firmware == "uefi":
		return t.EFIPartTable == "msdos"
	case t.Firmware == "ofw", t.Firmware == "opal":
		return false
	}
	return true
}

func findPartUUID(img *Image) (errs Errors) {
	t := &img.Type
	if t.Image == "oem" && t.DevicePersistency == "by-partuuid" && t.MSDOSTable() {
		errs.add(t.At("devicepersistency"), `use by-uuid, or firmware="efi" with a GPT`, "by-partuuid needs a GPT, and this disk gets an msdos partition table")
	}
	return errs
}

// volumeForm is what LVM allows as the name of a volume.
var volumeForm = regexp.MustCompile(`^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$`)

func findVolumeNames(img *Image) (errs Errors) {
	t := &img.Type
	names, places := map[string]bool{}, map[string]bool{}
	for _, v := range t.Volumes {
		place := path.Clean("/" + v.RealPath)
		switch {
		case v.Root || v.RealPath == "swap":
		case strings.Contains("/"+v.RealPath+"/", "/../"):
			errs.add(v.At("mountpoint"), "write a path below /", "the volume %s would lie outside of the root tree", v.RealPath)
		case places[place]:
			errs.add(v.At("name"), "remove one of them", "two volumes hold %s", place)
		}
		if t.VolumeManagement == "lvm" && v.Name != "" {
			switch {
			case !volumeForm.MatchString(v.Name) || len(v.Name) > 127 || v.Name == "." || v.Name == "..":
				errs.add(v.At("name"), "use letters, digits, '+', '_', '.' and '-'; give the directory as mountpoint", "LVM allows no volume named %q", v.Name)
			case names[v.Name]:
				errs.add(v.At("name"), "choose another name", "two volumes are named %s", v.Name)
			}
		}
		names[v.Name] = true
		if !v.Root && v.RealPath != "swap" {
			places[place] = true
		}
	}
	if group := t.VolumeGroup; t.VolumeManagement == "lvm" && (!volumeForm.MatchString(group) || len(group) > 127) {
		errs.add(t.SystemDisk.At("name"), "use letters, digits, '+', '_', '.' and '-'", "LVM allows no volume group named %q", group)
	}
	return errs
}

func findPartitions(img *Image) (errs Errors) {
	t := &img.Type
	if t.Image != "oem" {
		return nil
	}
	names, places := map[string]bool{}, map[string]string{"/": "the root"}
	for _, v := range t.Volumes {
		if !v.Root && v.RealPath != "swap" {
			places[path.Clean("/"+v.RealPath)] = "a volume"
		}
	}
	if t.SparePart > 0 && t.SparePartMountpoint != "" {
		places[path.Clean("/"+t.SparePartMountpoint)] = "the spare partition"
	}
	for _, p := range t.Partitions {
		if names[p.Name] {
			errs.add(p.At("name"), "choose another name", "two partitions are named %s", p.Name)
		}
		names[p.Name] = true
		if strings.TrimSpace(p.Name) == "" || strings.ContainsAny(p.Name, " \t\n") {
			errs.add(p.At("name"), "use letters, digits, '_', '-' and '.'", "a partition can't be named %q", p.Name)
		}
		if p.Size == 0 {
			errs.add(p.At("size"), "give it a size", "the partition %s has no room", p.Name)
		}
		if p.Mountpoint == "" {
			continue
		}
		place := path.Clean("/" + p.Mountpoint)
		switch other := places[place]; {
		case !path.IsAbs(p.Mountpoint) || strings.Contains(p.Mountpoint+"/", "/../"):
			errs.add(p.At("mountpoint"), "write an absolute path", "the partition %s can't be mounted at %q", p.Name, p.Mountpoint)
		case p.Filesystem == "":
			errs.add(p.At("mountpoint"), `add filesystem="..."`, "the partition %s has no file system to be mounted", p.Name)
		case other != "":
			errs.add(p.At("mountpoint"), "choose another place", "%s is mounted at %s already", other, place)
		}
		places[place] = "the partition " + p.Name
	}
	return errs
}

// partitions returns how many partitions the disk has at least.
func (t *Type) partitions() int {
	n := 1 + t.RootClone + len(t.Partitions)
	for _, p := range t.Partitions {
		n += p.Clone
	}
	for _, has := range []bool{
		t.Firmware == "efi" || t.Firmware == "uefi", t.Firmware == "ofw", t.BootPartition == True,
		t.OEM.Swap && t.VolumeManagement != "lvm", t.SparePart > 0, t.OverlayRoot && t.OverlayRootWritePartition,
	} {
		if has {
			n++
		}
	}
	if t.BootPartition == True {
		n += t.BootClone
	}
	return n
}

func findPartitionCount(img *Image) (errs Errors) {
	t := &img.Type
	if t.Image != "oem" || !t.MSDOSTable() || t.DosParttableExtendedLayout {
		return nil
	}
	if n := t.partitions(); n > 4 {
		errs.add(t.Pos, `add dosparttable_extended_layout="true", or use a GPT (firmware="efi")`, "the disk has %d partitions, and an msdos partition table holds 4", n)
	}
	return errs
}

// labelLengths are how many bytes a label may have.
var labelLengths = map[string]int{
	"ext2": 16, "ext3": 16, "ext4": 16, "xfs": 12, "btrfs": 255, "fat16": 11, "fat32": 11, "erofs": 15, "reiserfs": 16, "cramfs": 16,
}

func findLongLabels(img *Image) (errs Errors) {
	t := &img.Type
	check := func(o Origin, attr, label, fs string) {
		if most := labelLengths[fs]; most > 0 && len(label) > most {
			errs.add(o.At(attr), "use a shorter one", "the label %q has %d bytes, and %s has room for %d", label, len(label), fs, most)
		}
	}
	check(t.Origin, "rootfs_label", t.RootFSLabel, t.Filesystem)
	for _, v := range t.Volumes {
		if t.VolumeManagement == "lvm" && v.RealPath != "swap" {
			check(v.Origin, "label", v.Label, t.Filesystem)
		}
	}
	for _, p := range t.Partitions {
		check(p.Origin, "name", strings.ToUpper(p.Name), p.Filesystem)
	}
	return errs
}

// findSmallDisk compares a fixed size with what partitions and volumes ask for
// by themselves; the content comes on top and is known only later.
func findSmallDisk(img *Image) (errs Errors) {
	t := &img.Type
	if t.Image != "oem" || t.Size == nil || t.Size.Additive {
		return nil
	}
	need := int64(t.SparePart)
	if t.Firmware == "efi" || t.Firmware == "uefi" {
		need += int64(max(t.EFIPartSize, 1))
	}
	if t.BootPartition == True {
		need += int64(t.BootPartitionSize) * int64(1+t.BootClone)
	}
	if t.OEM.Swap && t.VolumeManagement != "lvm" {
		need += int64(t.OEM.SwapSize)
	}
	for _, p := range t.Partitions {
		need += int64(p.Size) * int64(1+p.Clone)
	}
	if t.VolumeManagement == "lvm" {
		for _, v := range t.Volumes {
			need += int64(v.Size)
		}
	}
	if t.OEM.Resize == False {
		need += int64(t.OEM.SystemSize)
	}
	if room := t.Size.MB - t.Size.Unpartitioned>>20; need > room {
		errs.add(t.Size.Pos, fmt.Sprintf("make it at least %d MiB, and add what the content needs", need+t.Size.Unpartitioned>>20), "the disk has room for %d MiB, and its partitions and volumes ask for %d", room, need)
	}
	return errs
}
