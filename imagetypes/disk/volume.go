package disk

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/internal/fat"
	"github.com/imgbuild/imgbuild/internal/partition"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// Sizes in bytes, as KIWI has them.
const (
	legacySize     = 2 << 20
	espSize        = 20 << 20
	bootSize       = 300 << 20
	swapSize       = 128 << 20
	mib            = 1 << 20
	fat32From      = 512 * mib // FAT16 ends at 2 GiB and wastes much before
	fat32From4K    = 250 * mib // with sectors and so clusters of 4096 bytes it ends at 256 MiB
	maxFATLabel    = 11
	rootVolumeName = "p.lxroot"
	espName        = "p.UEFI"
	legacyName     = "p.legacy"
	bootName       = "p.lxboot"
	swapName       = "p.swap"
	spareName      = "p.spare"
)

// Kinds of volumes that no root tree goes into.
const (
	fsNone = ""
	fsSwap = "swap"
)

// volume is one partition and what lies in it.
type volume struct {
	Name       string // the partition's name
	ID         string // its name in /config.partids
	Type       partition.Type
	Size       int64 // least size in bytes; 0: as large as the content needs
	Rest       bool  // takes what is left of the disk
	Attributes uint64

	FS           string // fsNone, fsSwap, fat16, fat32, ext4 …
	Label        string
	UUID         string
	PartUUID     string
	MkfsOptions  []string
	Compression  string // of squashfs and erofs
	FSAttributes string // letters of chattr(1)
	Btrfs        filesystem.Btrfs
	Mountpoint   string // in the tree, without a leading slash; "." for the root; "" for none
	MountOptions string
	// SubvolumeOptions are the mount options of subvolumes beside the root's.
	SubvolumeOptions string
	Pass             int // of fsck in fstab
	FATID            uint32

	Clones  int     // how many copies stand before it
	CloneOf *volume // what this is a copy of; nil for none

	Number int          // of the partition
	Tree   *layers.Tree // what goes into the file system
}

// isFAT reports whether the file system is one of the FATs.
func (v *volume) isFAT() bool { return strings.HasPrefix(v.FS, "fat") }

// isPacked reports whether the file system is compressed, as large as its content and never written to.
func (v *volume) isPacked() bool { return v.FS == "squashfs" || v.FS == "erofs" }

// root returns the volume with the root file system.
func root(volumes []*volume) *volume {
	for _, v := range volumes {
		if v.Mountpoint == "." {
			return v
		}
	}
	return nil
}

// mounted returns the volume whose mount point is name, or nil.
func mounted(volumes []*volume, name string) *volume {
	for _, v := range volumes {
		if v.Mountpoint == name {
			return v
		}
	}
	return nil
}

// volumes lists the partitions in KIWI's order, with identifiers but without sizes that depend on content.
func (s *settings) volumes(ids repro.Source) ([]*volume, error) {
	t := s.typ
	var list []*volume
	if s.scheme == partition.GPT && s.bios && s.bootloader {
		list = append(list, &volume{Name: legacyName, ID: "kiwi_BiosGrub", Type: partition.BIOSBoot(), Size: legacySize, Attributes: partition.AttrRequired})
	}
	if s.efi {
		size := int64(t.EFIPartSize) * mib
		if size == 0 {
			size = espSize
		}
		list = append(list, &volume{Name: espName, ID: "kiwi_EfiPart", Type: partition.ESP(), Size: size, FS: "fat16", Label: "EFI", Mountpoint: "boot/efi", MountOptions: "defaults"})
	}
	if t.BootPartition.Or(false) {
		fs := t.BootFilesystem
		if fs == "" {
			fs = t.Filesystem
		}
		if fs == "squashfs" || fs == "erofs" { // kernels are installed here later too
			fs = "ext4"
		}
		size := int64(t.BootPartitionSize) * mib
		if size == 0 {
			size = bootSize
		}
		list = append(list, &volume{Name: bootName, ID: "kiwi_BootPart", Type: partition.Linux(), Size: size, FS: fs, Label: "BOOT", Mountpoint: "boot", MountOptions: "defaults", Clones: t.BootClone})
	}
	if t.OEM.Swap {
		size := int64(t.OEM.SwapSize) * mib
		if size == 0 {
			size = swapSize
		}
		list = append(list, &volume{Name: swapName, ID: "kiwi_SwapPart", Type: partition.Swap(), Size: size, FS: fsSwap, Label: "SWAP", MountOptions: "defaults"})
	}
	for i := range t.Partitions {
		list = append(list, custom(&t.Partitions[i]))
	}
	if t.SparePart > 0 && !t.SparePartIsLast {
		list = append(list, s.spare())
	}
	rootVolume, err := s.rootVolume()
	if err != nil {
		return nil, err
	}
	list = append(list, rootVolume)
	if t.SparePart > 0 && t.SparePartIsLast {
		spare := s.spare()
		rootVolume.Rest, spare.Rest = false, true
		list = append(list, spare)
	}
	if boot := bootVolume(list); s.bootloader && !s.systemd && boot.FS == "squashfs" && (boot.Compression == "zstd" || boot.Compression == "lz4") {
		return nil, t.Errorf("squashfscompression", "use gzip, lzo or xz, or bootpartition=\"true\"", "GRUB can't read a squashfs that is compressed by %s", boot.Compression)
	}
	if boot := bootVolume(list); s.bootloader && !s.systemd && boot.FS == "erofs" {
		return nil, t.Errorf("filesystem", "set bootpartition=\"true\"", "GRUB can't read the kernel on an erofs")
	}
	list = withClones(list)
	if err := s.checkPartUUIDs(list); err != nil {
		return nil, err
	}
	s.identify(list, ids)
	return list, checkMountpoints(list, t)
}

func (s *settings) rootVolume() (*volume, error) {
	t := s.typ
	spec, err := filesystem.SpecOf(t, t.Filesystem)
	if err != nil {
		return nil, err
	}
	options := t.FSMountOptions
	if options == "" {
		options = "defaults"
	}
	kind := partition.Linux()
	if s.scheme == partition.GPT {
		kind = partition.Root(s.arch)
	}
	v := &volume{
		Name: rootVolumeName, ID: "kiwi_RootPart", Type: kind, Rest: true, FS: t.Filesystem, Label: cmp.Or(spec.Label, "ROOT"), UUID: spec.UUID, Mountpoint: ".",
		MountOptions: options, MkfsOptions: t.FSCreateOptions, Compression: spec.Compression, Clones: t.RootClone,
	}
	switch v.FS {
	case "ext2", "ext3", "ext4":
		v.Pass = 1
	case "xfs":
		if s.sectorSize != 512 {
			v.MkfsOptions = append([]string{"-s", fmt.Sprintf("size=%d", s.sectorSize)}, v.MkfsOptions...)
		}
	case "squashfs":
		if v.Compression == "" && !t.BootPartition.Or(false) {
			v.Compression = "gzip" // which GRUB reads
		}
	case "btrfs":
		v.SubvolumeOptions = options
		v.Btrfs = s.btrfs()
		switch {
		case v.Btrfs.ReadOnly:
			v.MountOptions = "ro," + v.MountOptions
		case !v.Btrfs.Snapshot && v.Btrfs.Root != "":
			v.MountOptions += ",subvol=" + v.Btrfs.Root
		}
	}
	if t.OEM.SystemSize > 0 && !t.OEM.Resize.Or(true) {
		v.Size, v.Rest = int64(t.OEM.SystemSize)*mib, false
	}
	return v, nil
}

func (s *settings) spare() *volume {
	t := s.typ
	attributes := ""
	for _, name := range t.SparePartFSAttributes {
		attributes += map[string]string{"no-copy-on-write": "C", "synchronous-updates": "S"}[name]
	}
	return &volume{
		Name: spareName, ID: "kiwi_SparePart", Type: partition.Linux(), Size: int64(t.SparePart) * mib, FS: t.SparePartFS, Label: "SPARE", FSAttributes: attributes,
		Mountpoint: strings.TrimPrefix(t.SparePartMountpoint, "/"), MountOptions: "defaults",
	}
}

// custom is a partition of the description's own.
func custom(p *description.Partition) *volume {
	name := p.Label
	if name == "" {
		name = "p.lx" + p.Name
	}
	kind := partition.Linux()
	if p.Type == "t.raid" {
		kind = partition.RAID()
	}
	return &volume{
		Name: name, ID: "kiwi_" + strings.ToUpper(p.Name[:1]) + p.Name[1:] + "Part", Type: kind, Size: int64(p.Size) * mib, FS: p.Filesystem,
		Label: strings.ToUpper(p.Name), Mountpoint: strings.TrimPrefix(p.Mountpoint, "/"), MountOptions: "defaults", Clones: p.Clone, PartUUID: p.UUID,
	}
}

// identify numbers the partitions and gives every file system its identifiers.
func (s *settings) identify(list []*volume, ids repro.Source) {
	for i, v := range list {
		v.Number = i + 1
		if s.scheme == partition.MBR && s.typ.DosParttableExtendedLayout && len(list) > 4 && i >= 3 {
			v.Number = i + 2
		}
		switch {
		case v.PartUUID != "":
		case s.scheme == partition.GPT:
			v.PartUUID = ids.UUID("partition " + v.Name)
		default:
			v.PartUUID = fmt.Sprintf("%08x-%02x", ids.Uint32("disk signature"), v.Number)
		}
		switch {
		case v.FS == fsNone:
			v.Label = ""
		case v.isFAT():
			v.FATID = ids.Uint32("volume " + v.Name)
			v.UUID = fat.Spec{ID: v.FATID}.UUID()
			v.Label = v.Label[:min(len(v.Label), maxFATLabel)]
		case v.UUID == "":
			v.UUID = ids.UUID("volume " + v.Name)
		}
	}
}

// checkMountpoints refuses mount points that are used twice or belong to the kernel.
func checkMountpoints(list []*volume, t *description.Type) error {
	seen := map[string]string{}
	for _, s := range root(list).Btrfs.Subvolumes {
		seen[s.Path] = "subvolume " + s.Name
	}
	for _, v := range list {
		if v.Mountpoint == "" {
			continue
		}
		if v.Mountpoint != "." {
			v.Mountpoint = path.Clean(v.Mountpoint)
		}
		if v.FS == fsNone {
			return t.Errorf("", "give it a file system", "the partition %s has a mount point and no file system", v.Name)
		}
		if other := seen[v.Mountpoint]; other != "" {
			return t.Errorf("", "choose another mount point", "%s and %s have the same mount point /%s", other, v.Name, v.Mountpoint)
		}
		switch first, _, _ := strings.Cut(v.Mountpoint, "/"); first {
		case "proc", "sys", "dev", "run", "..":
			return t.Errorf("", "choose another mount point", "the partition %s can't be mounted at /%s", v.Name, v.Mountpoint)
		}
		seen[v.Mountpoint] = v.Name
	}
	return nil
}

// bootVolume returns the volume that holds /boot.
func bootVolume(list []*volume) *volume {
	if v := mounted(list, "boot"); v != nil {
		return v
	}
	return root(list)
}

// wants turns the volumes into what the partition table is laid out from.
func wants(list []*volume, t *description.Type) []partition.Want {
	var all []partition.Want
	hybrid := 0
	for _, v := range list {
		w := partition.Want{Name: v.Name, Type: v.Type, Size: v.Size, Rest: v.Rest, Attributes: v.Attributes}
		w.Boot = v == bootVolume(list)
		w.GUID = v.PartUUID // of which an msdos table has no use
		if t.GPTHybridMBR && hybrid < 3 {
			w.Hybrid = true
			hybrid++
		}
		all = append(all, w)
	}
	return all
}
