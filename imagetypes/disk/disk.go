// Package disk builds disks that boot: the image type oem, in raw form or in the formats of virtual machine monitors.
//
// A disk is designed first, as data: partitions, identifiers, boot files, sizes. Then it is written into one sparse file, each file system at
// its offset, and at last converted. No device, no mount and no program of the root tree takes part.
package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/fat"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

// Builder builds disks. It implements [image.Builder], [image.Preparing] and [image.Observing].
type Builder struct {
	// ready is the design of the disk whose boot files are in the tree already, nil if it has to be made.
	ready *design
}

// Check refuses what can't be built. Without a tree in the request it checks what needs none: the description and the programs on this machine.
func (Builder) Check(ctx context.Context, r *image.Request) error {
	if r.Description == nil {
		return errors.New("building a disk: no description given")
	}
	d, err := newDesign(r.Description, r.Repro)
	if err != nil {
		return err
	}
	if err := d.needPrograms(); err != nil {
		return err
	}
	if err := filesystem.CheckOptions(ctx, d.typ, root(d.volumes).spec()); err != nil {
		return err
	}
	if r.Tree == nil {
		return nil
	}
	return d.inspect(r.Tree, slog.New(slog.DiscardHandler)) // Build says what there is to say
}

// needPrograms returns an error for the first external program that is not installed.
func (d *design) needPrograms() error {
	var names []string
	if slices.ContainsFunc(d.volumes, (*volume).isFAT) {
		names = append(names, fat.Programs()...)
	}
	for _, p := range d.results {
		if name := p.format.Needs(p.options); name != "" {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if _, err := command.Find(name); err != nil {
			return err
		}
	}
	if d.bootloader && !d.systemd && (d.bios || d.efi && !d.secure) {
		_, err := grub.FindMkimage()
		return err
	}
	return nil
}

// Plan prints how the disk will be laid out.
func (b Builder) Plan(ctx context.Context, r *image.Request) (string, error) {
	d, _, err := b.prepare(ctx, r, filesystem.Env{Repro: r.Repro, Workdir: r.Workdir})
	if err != nil {
		return "", err
	}
	var names []string
	for _, p := range d.results {
		names = append(names, r.BaseName+"."+p.suffix)
	}
	return fmt.Sprintf("disk: %s\n%s", strings.Join(names, ", "), d), nil
}

// prepare makes a whole design: content and sizes too. The tree it returns is the one with the boot files in it.
func (b Builder) prepare(ctx context.Context, r *image.Request, env filesystem.Env) (*design, *layers.Tree, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, nil, err
	}
	tree, err := image.WithoutBuildFiles(r.Tree)
	if err != nil {
		return nil, nil, err
	}
	d := b.ready
	if d == nil {
		if d, err = newDesign(r.Description, r.Repro); err != nil {
			return nil, nil, err
		}
		if err := d.inspect(r.Tree, r.Log); err != nil {
			return nil, nil, err
		}
		if tree, err = d.bootFiles(tree, r.Log); err != nil {
			return nil, nil, fmt.Errorf("writing the boot files: %w", err)
		}
	}
	if err := d.distribute(tree); err != nil {
		return nil, nil, err
	}
	if err := d.layOut(ctx, env); err != nil {
		return nil, nil, err
	}
	return d, tree, nil
}

// Observes implements [image.Observing].
func (Builder) Observes(r *image.Request) bool {
	t := &r.Description.Type
	spec, err := filesystem.SpecOf(t, t.Filesystem)
	return err == nil && filesystem.Observes(spec) && !t.OverlayRoot
}

// Build writes the disk as BaseName.raw or, where a format is asked for, as BaseName with the format's extension.
func (b Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	scratch, remove, err := r.Scratch("disk")
	if err != nil {
		return nil, err
	}
	defer remove()
	env := filesystem.Env{Repro: r.Repro, Log: r.Log, Progress: r.Progress, Workdir: scratch, Cache: &filesystem.Cache{}, Observe: r.Observe}
	defer env.Cache.Close()
	d, tree, err := b.prepare(ctx, r, env)
	if err != nil {
		return nil, fmt.Errorf("building a disk: %w", err)
	}
	r.Log.Debug("disk designed", "design", d.String())
	isRaw := d.results[0].format.Name == "raw"
	raw := filepath.Join(scratch, "disk.raw")
	name := r.BaseName + ".raw"
	if isRaw {
		raw = filepath.Join(r.Dir, name)
	}
	f, err := os.OpenFile(raw, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("building a disk: %w", err)
	}
	defer f.Close()
	if err := d.write(ctx, env, f, tree); err != nil {
		return nil, fmt.Errorf("building a disk: %w", err)
	}
	if err := d.editBootInstall(ctx, r, f, scratch); err != nil {
		return nil, err
	}
	if err := d.copyClones(f); err != nil {
		return nil, err
	}
	if isRaw {
		return []image.Artifact{{Key: image.KeyDiskImage, File: name, Compress: r.Compress(true), UseForBundle: true}}, f.Close()
	}
	var results []image.Artifact
	for _, p := range d.results {
		more, err := p.make(ctx, d, r, f, scratch)
		if err != nil {
			return nil, err
		}
		results = append(results, more...)
	}
	return results, nil
}

// write fills the raw disk: file systems, boot loader, partition table.
func (d *design) write(ctx context.Context, env filesystem.Env, f *os.File, full *layers.Tree) error {
	scratch := env.Workdir
	if err := f.Truncate(d.table.DiskSize); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	fats := map[*volume]string{}
	for _, v := range d.volumes {
		if v.isFAT() {
			fats[v] = filepath.Join(scratch, fmt.Sprintf("%d.fat", v.Number))
		}
	}
	group.Go(func() error {
		for _, v := range d.volumes {
			if !v.isFAT() {
				continue
			}
			if err := d.writeFAT(groupCtx, v, full, fats[v], scratch); err != nil {
				return err
			}
		}
		return nil
	})
	var boot biosBoot
	group.Go(func() (err error) {
		boot, err = d.makeBIOSBoot(groupCtx, scratch)
		return err
	})
	group.Go(func() error { return d.writeVolumes(groupCtx, env, f) })
	if err := group.Wait(); err != nil {
		return err
	}
	for _, v := range d.volumes {
		if v.isFAT() {
			if err := copyFile(ctx, f, d.offset(v), fats[v]); err != nil {
				return err
			}
		}
	}
	if err := boot.write(f); err != nil {
		return err
	}
	return d.table.Write(f)
}

// offset is where the volume's partition begins.
func (d *design) offset(v *volume) int64 {
	for i, other := range d.volumes {
		if other == v {
			return d.table.Partitions[i].Start
		}
	}
	return 0
}

// writeVolumes writes swap and the file systems that hold parts of the root tree.
func (d *design) writeVolumes(ctx context.Context, env filesystem.Env, f *os.File) error {
	for _, v := range d.volumes {
		at := d.offset(v)
		switch {
		case v.FS == fsNone || v.isFAT():
		case v.FS == fsSwap:
			if err := writeSwap(f, at, v); err != nil {
				return err
			}
		default:
			if err := filesystem.Write(ctx, env, f, at, v.Size, v.Tree, v.spec()); err != nil {
				return fmt.Errorf("writing partition %d (%s): %w", v.Number, v.Name, err)
			}
		}
	}
	return nil
}

// writeFAT makes a FAT file system in a file of its own; the ESP gets the boot loader too.
func (d *design) writeFAT(ctx context.Context, v *volume, full *layers.Tree, name, scratch string) error {
	content := v.Tree
	if v.Name == espName {
		var err error
		if content, err = d.espTree(ctx, full, content, scratch); err != nil {
			return err
		}
	}
	bits := 16
	if v.FS == "fat32" || v.Size >= fat32From || d.sectorSize == 4096 && v.Size >= fat32From4K {
		bits = 32
	}
	spec := fat.Spec{Size: v.Size, Bits: bits, Label: v.Label, ID: v.FATID, SectorSize: int(d.sectorSize), Time: d.ids.Epoch}
	if err := fat.Write(ctx, name, spec, content.FS("."), scratch); err != nil {
		return fmt.Errorf("writing partition %d (%s): %w", v.Number, v.Name, err)
	}
	return nil
}

// osID returns ID of the tree's os-release, or "".
func osID(tree *layers.Tree) string {
	fields, err := inspect.OSRelease(tree)
	if err != nil {
		return ""
	}
	return fields["ID"]
}
