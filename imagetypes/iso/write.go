package iso

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/fat"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// build writes the system and then the medium.
func (m *medium) build(ctx context.Context, r *image.Request, name string) error {
	var esp string
	if m.startsByEFI() {
		esp = filepath.Join(m.dir, "efi.img")
		if err := m.writeESP(ctx, esp); err != nil {
			return err
		}
	}
	if err := m.writeSystem(ctx, r); err != nil {
		return err
	}
	if err := setTimes(m.content(), r.Repro.Epoch); err != nil {
		return err
	}
	bootSector, err := m.bootSector()
	if err != nil {
		return err
	}
	task := r.Progress.Start("writing "+filepath.Base(name), 0, progress.Bytes)
	epoch := strconv.FormatInt(r.Repro.Epoch.Unix(), 10)
	err = command.Run(ctx, command.Cmd{Name: "xorriso", Args: m.arguments(name, esp, bootSector), Env: []string{repro.EpochVariable + "=" + epoch}})
	task.Done(err)
	if err != nil {
		return err
	}
	return m.finish(ctx, r, name)
}

// arguments are those of xorriso. Partitions are in an MBR: a partition table that a partition for changes can be added to later, on a stick of any size.
func (m *medium) arguments(name, esp, bootSector string) []string {
	t := m.typ
	args := []string{
		"-no_rc", "-as", "mkisofs", "-quiet", "-iso-level", "3", "-r", "-J", "-joliet-long",
		"-V", m.volume, "-p", "imgbuild", "-A", cmp.Or(t.ApplicationID, m.id), "-partition_offset", "16", "-no-pad",
	}
	if t.Publisher != "" {
		args = append(args, "-publisher", t.Publisher)
	}
	catalog := []string{"-c", "boot/" + m.arch + "/boot.catalog", "--boot-catalog-hide"}
	if m.loaders.BIOS != nil {
		args = append(args, "-b", m.elTorito())
		args = append(args, catalog...)
		args = append(args, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info", "--grub2-mbr", bootSector)
	}
	if esp != "" {
		args = append(args, "-append_partition", "2", "0xef", esp)
		if m.loaders.BIOS != nil {
			args = append(args, "-eltorito-alt-boot")
		} else {
			args = append(args, catalog...)
		}
		args = append(args, "-e", "--interval:appended_partition_2:all::", "-no-emul-boot")
	}
	return append(args, "-o", name, m.content())
}

// bootSector returns a file with GRUB's boot sector for a medium that is a disk, "" for none.
func (m *medium) bootSector() (string, error) {
	if m.loaders.BIOS == nil {
		return "", nil
	}
	data, err := m.loaders.BIOS.ReadImage("boot_hybrid.img")
	if err != nil {
		return "", err
	}
	name := filepath.Join(m.dir, "boot_hybrid.img")
	return name, os.WriteFile(name, data, 0o600)
}

// Sizes of the EFI system partition, in bytes.
const (
	mebibyte   = 1 << 20
	defaultESP = 20 * mebibyte // as in KIWI
	fat16From  = 9 * mebibyte  // less has too few clusters
	fat32From  = 512 * mebibyte
)

// espTree is what the EFI system partition has of a medium's files: what is in /EFI.
func espTree(medium *layers.Tree, epoch time.Time) (*layers.Tree, error) {
	edit := medium.Edit(layers.TimespecOf(epoch))
	for _, other := range medium.Root().Names() {
		if other == "EFI" {
			continue
		}
		if err := edit.Remove(other); err != nil {
			return nil, err
		}
	}
	return edit.Tree(), nil
}

// espSize is the size of the EFI system partition for its files, in bytes.
func (m *medium) espSize(tree *layers.Tree) (int64, error) {
	size := int64(m.typ.EFIFatImageSize) * mebibyte
	required := tree.Stats().Bytes*11/10 + mebibyte
	switch {
	case size == 0:
		return max(defaultESP, required), nil
	case size < required:
		return 0, m.typ.Errorf("efifatimagesize", fmt.Sprintf("make it at least %d, or leave it out to get as much as is needed", (required+mebibyte-1)/mebibyte),
			"the EFI system partition has %d MiB, and its content needs more", m.typ.EFIFatImageSize)
	}
	return size, nil
}

// writeESP makes the EFI system partition.
func (m *medium) writeESP(ctx context.Context, name string) error {
	tree, _, err := layers.ScanDir(ctx, m.content(), layers.ScanOptions{})
	if err != nil {
		return err
	}
	if tree, err = espTree(tree, m.ids.Epoch); err != nil {
		return err
	}
	size, err := m.espSize(tree)
	if err != nil {
		return err
	}
	bits := 12
	if size >= fat16From {
		bits = 16
	}
	if size >= fat32From {
		bits = 32
	}
	spec := fat.Spec{Size: size, Bits: bits, Label: "BOOT", ID: m.ids.Uint32("EFI system partition"), Time: m.ids.Epoch}
	if err := fat.Write(ctx, name, spec, tree.FS("."), m.dir); err != nil {
		return fmt.Errorf("writing the EFI system partition: %w", err)
	}
	return nil
}

// writeSystem writes the root tree into the medium's directory.
func (m *medium) writeSystem(ctx context.Context, r *image.Request) error {
	tree, err := image.WithoutBuildFiles(r.Tree)
	if err != nil {
		return err
	}
	env := filesystem.Env{Repro: r.Repro, Log: r.Log, Progress: r.Progress, Workdir: m.dir, Observe: r.Observe}
	specs := m.specs()
	if len(specs) > 1 {
		dir := filepath.Join(m.dir, "system")
		if err := os.MkdirAll(filepath.Join(dir, systemDir), 0o755); err != nil {
			return err
		}
		inner := filepath.Join(dir, systemDir, "rootfs.img")
		if err := writeFilesystem(ctx, env, inner, tree, specs[1]); err != nil {
			return err
		}
		if tree, err = m.container(ctx, dir); err != nil {
			return err
		}
		env.Observe = nil // who observes has seen everything
		defer os.RemoveAll(dir)
	}
	return writeFilesystem(ctx, env, filepath.Join(m.content(), systemFile), tree, specs[0])
}

// writeFilesystem makes a file system in a new file, as large as needed.
func writeFilesystem(ctx context.Context, env filesystem.Env, name string, tree *layers.Tree, spec filesystem.Spec) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := filesystem.Create(ctx, env, f, tree, spec); err != nil {
		return err
	}
	return f.Close()
}

// container returns the tree of a directory with the owner, modes and times that are the same everywhere.
func (m *medium) container(ctx context.Context, dir string) (*layers.Tree, error) {
	if err := setTimes(dir, m.ids.Epoch); err != nil {
		return nil, err
	}
	tree, _, err := layers.ScanDir(ctx, dir, layers.ScanOptions{})
	if err != nil {
		return nil, err
	}
	edit := tree.Edit(layers.TimespecOf(m.ids.Epoch))
	for name, mode := range map[string]uint32{".": layers.TypeDir | 0o755, systemDir: layers.TypeDir | 0o755, systemDir + "/rootfs.img": layers.TypeRegular | 0o644} {
		if err := edit.Change(name, func(n *layers.Node) {
			n.UID, n.GID, n.Mode, n.MTime, n.Xattrs = 0, 0, mode, layers.TimespecOf(m.ids.Epoch), nil
		}); err != nil {
			return nil, err
		}
	}
	return edit.Tree(), nil
}

// finish writes what xorriso does not: the disk signature and the digests.
func (m *medium) finish(ctx context.Context, r *image.Request, name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := writeSignature(f, m.number); err != nil {
		return err
	}
	if m.typ.MediaCheck {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		task := r.Progress.Start("computing the digests of "+filepath.Base(name), info.Size(), progress.Bytes)
		err = implant(ctx, f, task.Add)
		task.Done(err)
		if err != nil {
			return fmt.Errorf("computing the digests of the medium: %w", err)
		}
	}
	return f.Close()
}
