package description

import "strings"

// Sizes of volumes that KIWI takes by default.
const defaultFreeSpace = 30 // MiB beyond the content of a volume without a size

// volumes works out the volume management and the volumes of a disk. Volumes
// keep the order of the description; a root that it does not name and the swap
// volume come last.
func (r *resolver) volumes(t *Type) error {
	disk := r.typ.child("systemdisk")
	switch {
	case disk != nil && t.SystemDisk.PreferLVM:
		t.VolumeManagement = "lvm"
	case t.Filesystem == "btrfs" && t.Image != "btrfs":
		t.VolumeManagement = "btrfs"
	case disk != nil:
		t.VolumeManagement = "lvm"
	}
	t.VolumeGroup = "systemVG"
	if t.SystemDisk != nil && t.SystemDisk.Name != "" {
		t.VolumeGroup = t.SystemDisk.Name
	}
	if disk == nil {
		return nil
	}
	rootName := ""
	if t.VolumeManagement == "lvm" {
		rootName = "LVRoot"
	}
	full, root := false, false
	for _, e := range disk.elements("volume") {
		if !r.archMatches(e) {
			continue
		}
		v, err := r.volume(e, rootName)
		if err != nil {
			return err
		}
		full, root = full || v.FullSize, root || v.Root
		t.Volumes = append(t.Volumes, v)
	}
	if !root {
		v := Volume{Origin: origin(disk), Name: rootName, RealPath: "/", Root: true}
		if full {
			v.SizeType, v.Size = "freespace", defaultFreeSpace
		} else {
			v.FullSize = true
		}
		t.Volumes = append(t.Volumes, v)
	}
	if t.VolumeManagement == "lvm" && t.OEM.Swap {
		t.Volumes = append(t.Volumes, Volume{
			Origin: t.OEM.Origin, Name: t.OEM.SwapName, RealPath: "swap", Label: "SWAP",
			SizeType: "size", Size: t.OEM.SwapSize,
		})
	}
	return nil
}

// volume reads one <volume>.
func (r *resolver) volume(e *element, rootName string) (Volume, error) {
	var v Volume
	if err := decode(e, ruleOf(systemDiskRule, "volume"), &v); err != nil {
		return v, err
	}
	name, _ := e.attr("name")
	if cow, ok := e.attr("copy_on_write"); ok {
		on, _ := parseBool(collapse(cow))
		v.NoCOW = !on
	}
	mountpoint, hasMountpoint := e.attr("mountpoint")
	base, custom, renamed := strings.Cut(name, "=")
	switch {
	case base == "@root":
		v.Root, v.RealPath, v.Name = true, "/", rootName
		if renamed {
			v.Name = custom
		}
	case hasMountpoint:
		v.Name, v.Mountpoint, v.RealPath = name, mountpoint, mountpoint
	default:
		v.Name = strings.ReplaceAll(strings.Trim(name, "/"), "/", "_")
		v.Mountpoint, v.RealPath = name, name
	}
	v.SizeType, v.Size = "freespace", defaultFreeSpace
	for _, kind := range []string{"freespace", "size"} { // size wins
		value, ok := e.attr(kind)
		if !ok {
			continue
		}
		if collapse(value) == "all" {
			v.FullSize = true
			continue
		}
		v.SizeType = kind
		size, err := parseMiB(collapse(value))
		if err != nil {
			return v, err
		}
		v.Size = size
	}
	if v.FullSize {
		v.SizeType, v.Size = "", 0
	}
	return v, nil
}
