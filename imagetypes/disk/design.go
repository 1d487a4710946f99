package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/partition"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
)

// design is everything that is decided about a disk before anything is written.
type design struct {
	*settings
	ids       repro.Source
	signature uint32
	volumes   []*volume
	kernels   []initrd.Kernel // newest last
	host      *host           // of guests of Xen, nil if it is none
	grubDir   string          // GRUB's directory in the tree
	loaders   grub.Loaders
	// systemdBoot is the path of systemd-boot in the tree, if that is the boot loader.
	systemdBoot string
	table       *partition.Plan // once sizes are known
}

// newDesign settles everything but the content and the sizes.
func newDesign(d *description.Image, ids repro.Source) (*design, error) {
	s, err := newSettings(d)
	if err != nil {
		return nil, err
	}
	volumes, err := s.volumes(ids)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if v.FS == fsNone || v.FS == fsSwap || v.isFAT() {
			continue
		}
		if err := s.at(v, filesystem.Check(v.spec())); err != nil {
			return nil, err
		}
	}
	return &design{settings: s, ids: ids, signature: ids.Uint32("disk signature"), volumes: volumes}, nil
}

// at puts an error about the file system of a partition at the attribute of the description that asks for it.
func (s *settings) at(v *volume, err error) error {
	attributes := map[string]string{rootVolumeName: "filesystem", bootName: "bootfilesystem", spareName: "spare_part_fs"}
	return filesystem.At(s.typ, attributes[v.Name], err)
}

// spec is what package filesystem is to make of the volume.
func (v *volume) spec() filesystem.Spec {
	return filesystem.Spec{
		Type: v.FS, Label: v.Label, UUID: v.UUID, MkfsOptions: v.MkfsOptions, Compression: v.Compression, Btrfs: v.Btrfs, Attributes: v.FSAttributes, MountOptions: v.MountOptions, Size: v.Size, Free: freeSpace(v),
	}
}

// freeSpace is how many bytes stay free in a file system that is made as large as needed, so that a machine can start, log and be updated a
// little. ext2, ext3 and ext4 keep 5 % of their size for the superuser alone. As holes of the disk's file these bytes cost nothing.
func freeSpace(v *volume) int64 {
	if v.isPacked() || v.Tree == nil {
		return 0
	}
	const least = 64 << 20
	return least + v.Tree.Stats().Data*15/100
}

// inspect finds kernels and boot loaders in the tree, and refuses one that can't boot.
func (d *design) inspect(tree *layers.Tree, log *slog.Logger) error {
	for _, v := range d.volumes {
		if v.FS == fsNone || v.FS == fsSwap || v.isFAT() {
			continue
		}
		if err := d.at(v, filesystem.CheckTree(tree, v.spec())); err != nil {
			return err
		}
	}
	d.warnResize(tree, log)
	if !d.bootloader {
		return nil
	}
	d.grubDir = grub.Directory(tree)
	d.kernels = initrd.FindKernels(tree)
	const need = "a disk that boots"
	if len(d.kernels) == 0 {
		return image.Placed(d.typ.At("image"), image.NoKernel(need))
	}
	if newest := d.kernels[len(d.kernels)-1]; newest.Initrd == "" && d.typ.InitrdSystem != "none" {
		return image.Placed(d.typ.At("image"), &image.TreeError{Missing: "initrd for the kernel " + newest.Version, Need: need,
			Hint: "add the package initramfs-tools or dracut to the description, or set initrd_system=\"none\" if the kernel needs none"})
	}
	if err := d.findHypervisor(tree); err != nil {
		return err
	}
	if d.systemd {
		return d.findSystemdBoot(tree)
	}
	var err error
	d.loaders, err = grub.FindLoaders(tree, grub.Wanted{
		Arch: d.arch, BIOS: d.bios, EFI: d.efi, Secure: d.secure, Image: "disk", Firmware: d.typ.Firmware,
	}, log)
	return image.Placed(d.typ.At("firmware"), err)
}

// distribute gives each volume the part of the tree that is mounted there.
func (d *design) distribute(tree *layers.Tree) error {
	rest := tree
	// Deeper mount points first, so that /var/log leaves /var before /var leaves the root.
	for _, v := range byDepth(d.volumes) {
		if v.Mountpoint == "" || v.Mountpoint == "." {
			continue
		}
		var err error
		if rest, v.Tree, err = carve(rest, v.Mountpoint); err != nil {
			return fmt.Errorf("giving /%s a partition of its own: %w", v.Mountpoint, err)
		}
	}
	root(d.volumes).Tree = rest
	for _, v := range d.volumes {
		if v.Tree == nil && v.FS != fsNone && v.FS != fsSwap {
			v.Tree = layers.NewTree()
		}
	}
	return nil
}

// carve takes what lies in the directory name out of the tree, of which the directory stays.
func carve(tree *layers.Tree, name string) (rest, part *layers.Tree, err error) {
	resolved, node, err := tree.Resolve(name)
	if err != nil {
		return nil, nil, err
	}
	if !node.IsDir() {
		return nil, nil, fmt.Errorf("it is a %s, not a directory", layers.TypeName(node.Mode))
	}
	into := layers.NewTree().Edit(node.MTime)
	if err := into.Put(".", node); err != nil {
		return nil, nil, err
	}
	edit := tree.Edit(node.MTime)
	for _, child := range node.Names() {
		if err := edit.Remove(resolved + "/" + child); err != nil {
			return nil, nil, err
		}
	}
	return edit.Tree(), into.Tree(), nil
}

// layOut finds the sizes that depend on content and makes the partition table.
func (d *design) layOut(ctx context.Context, env filesystem.Env) error {
	fixed, additional, unpartitioned := d.size()
	for _, v := range d.volumes {
		if v.isFAT() {
			if err := d.sizeFAT(v); err != nil {
				return err
			}
		}
		if v.Tree == nil || v.isFAT() {
			continue
		}
		asked := v.Size
		need, err := filesystem.Size(ctx, env, v.Tree, v.spec())
		if err != nil {
			return err
		}
		if asked > 0 && need > asked {
			// Room to spare is no reason to refuse a partition whose size was asked for.
			bare := v.spec()
			bare.Free, bare.Size = 0, 0
			if need, err = filesystem.Size(ctx, env, v.Tree, bare); err != nil {
				return err
			}
			if need > asked {
				return d.tooSmall(v, asked, need)
			}
			need = asked
		}
		v.Size = need
		if v.Mountpoint == "." {
			v.Size += additional
		}
	}
	for _, v := range d.volumes {
		if v.CloneOf != nil {
			v.Size = v.CloneOf.Size
		}
	}
	spec := partition.Spec{
		Scheme: d.scheme, SectorSize: d.sectorSize, FirstStart: int64(d.typ.DiskStartSector) * d.sectorSize, DiskSize: fixed, Unpartitioned: unpartitioned,
		Logical: d.typ.DosParttableExtendedLayout, Partitions: wants(d.volumes, d.typ),
	}
	if err := d.adjust(&spec); err != nil {
		return err
	}
	table, err := partition.Layout(spec, d.ids)
	var small *partition.TooSmallError
	if errors.As(err, &small) {
		return d.sizeError(small)
	}
	if err != nil {
		return err
	}
	d.table = table
	for i, v := range d.volumes {
		v.Size = table.Partitions[i].Size
	}
	return d.checkBoxes()
}

// tooSmall says, where the description gives a partition its size, that the content needs more. Sizes are in bytes.
func (s *settings) tooSmall(v *volume, asked, need int64) error {
	at, attribute := s.typ.Origin, map[string]string{bootName: "bootpartsize", espName: "efipartsize", spareName: "spare_part"}[v.Name]
	for i := range s.typ.Partitions {
		if p := &s.typ.Partitions[i]; custom(p).Name == v.Name {
			at, attribute = p.Origin, "size"
		}
	}
	if v.Name == rootVolumeName {
		at, attribute = s.typ.OEM.Origin, "oem-systemsize"
	}
	return at.Errorf(attribute, "give it that size", "the partition %s has %d MiB, but its content needs %d MiB", v.Name, asked>>20, need>>20)
}

// bootLoaderRoom is what the boot loader takes on an ESP at most: shim, GRUB and MokManager, or our own core image.
const bootLoaderRoom = 10 << 20

// sizeFAT makes room for what is known to go into a FAT file system. A size that the description sets is not changed.
func (d *design) sizeFAT(v *volume) error {
	need := v.Tree.Stats().Bytes * 11 / 10
	asked := v.Name != espName || d.typ.EFIPartSize > 0
	if v.Name == espName {
		need += bootLoaderRoom
	}
	if need > v.Size && asked {
		return d.tooSmall(v, v.Size, need+mib-1)
	}
	v.Size = max(v.Size, need)
	return nil
}

// String describes the design for people.
func (d *design) String() string {
	var b strings.Builder
	by := d.loaders.String()
	if d.systemd {
		by = "UEFI (/" + d.systemdBoot + ")"
	}
	fmt.Fprintf(&b, "boots by: %s\n", by)
	for _, k := range d.kernels {
		fmt.Fprintf(&b, "kernel: %s\n", k.Version)
	}
	fmt.Fprintf(&b, "kernel command line: %s\n", d.kernelCmdline())
	if d.host != nil {
		fmt.Fprintf(&b, "Xen: /%s\n", d.host.hypervisor)
	}
	b.WriteString(d.table.String())
	for _, v := range d.volumes {
		if v.FS != fsNone {
			fmt.Fprintf(&b, "%3d  %s, label %s, %s\n", v.Number, v.FS, v.Label, d.persistent(v))
		}
	}
	return b.String()
}
