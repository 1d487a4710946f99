package filesystem

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/ext4"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/layers"
)

// directoryTool is a program that makes a file system of a directory, and reads nothing else.
//
// An ordinary user has no directory with devices and all extended attributes. Where the tree has what the directory can't hold, the program runs in a
// helper kernel, as its root: the tree comes to it as an ext4 file system, which this program writes itself.
type directoryTool struct {
	kind, program string
	arguments     func(dir, to string) []string
	// length returns how long a finished file system is that begins at the reader's begin, in bytes.
	length func(io.ReaderAt) (int64, error)
}

// run makes the file system in a file without a name, and returns its size in bytes and what it could not hold.
func (d directoryTool) run(ctx context.Context, env Env, tree *layers.Tree) (_ *os.File, _ int64, _ []layers.Note, err error) {
	if env.HelperKernel != helperkernel.Auto {
		return d.inKernel(ctx, env, tree)
	}
	scratch, err := os.MkdirTemp(env.Workdir, ".imgbuild-tree-")
	if err != nil {
		return nil, 0, nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	defer func() {
		if gone := os.RemoveAll(scratch); err == nil {
			err = gone
		}
	}()
	dir, file := filepath.Join(scratch, "tree"), filepath.Join(scratch, "made")
	report, err := layers.WriteDir(ctx, dir, tree, layers.DirOptions{})
	if err != nil {
		return nil, 0, nil, err
	}
	var notes []layers.Note
	for _, u := range report.Unheld {
		notes = append(notes, layers.Note{Path: "/" + u.Path, Text: u.String()})
	}
	if len(notes) > 0 {
		f, size, missed, err := d.inKernel(ctx, env, tree)
		var unavailable *helperkernel.UnavailableError
		if !errors.As(err, &unavailable) {
			return f, size, missed, err
		}
		notes = append(notes, layers.Note{Path: "/", Text: fmt.Sprintf("root, or a helper kernel, could keep all of it: %v", unavailable)})
	}
	if err := command.Run(ctx, command.Cmd{Name: d.program, Args: d.arguments(dir, file)}); err != nil {
		return nil, 0, nil, err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, nil, err
	}
	return f, info.Size(), notes, nil
}

// treeName is the directory of the ext4 file system that holds the tree: its top has a lost+found.
const treeName = "tree"

// inKernel runs the program in a helper kernel.
func (d directoryTool) inKernel(ctx context.Context, env Env, tree *layers.Tree) (_ *os.File, _ int64, _ []layers.Note, err error) {
	all := kernels(tree)
	if _, err := helperkernel.Available(all); err != nil {
		return nil, 0, nil, err
	}
	from, notes, err := asExt4(ctx, env, tree)
	if err != nil {
		return nil, 0, nil, err
	}
	defer from.Close()
	to, err := temporaryFile(env.Workdir)
	if err != nil {
		return nil, 0, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, to.Close())
		}
	}()
	const perEntry = 1024 // more than an inode with its name takes
	if err := to.Truncate(alignUp(estimate(tree, perEntry)*11/10 + 16*mebibyte)); err != nil {
		return nil, 0, nil, err
	}
	line := append([]string{d.program}, d.arguments("/tmp/root/"+treeName, "/dev/imgbuild-to")...)
	_, err = helperkernel.Run(ctx, helperkernel.Spec{
		Name: "making the " + d.kind + " file system",
		Script: `mkdir /tmp/root
mount -t ext4 -o ro,noatime $disk1 /tmp/root
ln -s $disk2 /dev/imgbuild-to
` + shellLine(line) + `
sync $disk2
umount /tmp/root
`,
		Disks:    []helperkernel.Disk{{File: from, ReadOnly: true}, {File: to}},
		Programs: []string{"mkdir", "mount", "umount", "ln", "sync", d.program},
		Modules:  []string{"ext4"},
		Kind:     env.HelperKernel,
		Kernels:  all,
		Log:      env.Log,
	})
	if err != nil {
		if full := hostFull(to); full != nil {
			err = full
		}
		return nil, 0, nil, err
	}
	size, err := d.length(to)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("reading what %s has made: %w", d.program, err)
	}
	return to, size, notes, to.Truncate(size)
}

// asExt4 writes the tree into a directory of an ext4 file system, in a file without a name.
func asExt4(ctx context.Context, env Env, tree *layers.Tree) (_ *os.File, _ []layers.Note, err error) {
	edit := layers.NewTree().Edit(layers.TimespecOf(env.Repro.Epoch))
	if err := edit.Put(treeName, tree.Root()); err != nil {
		return nil, nil, err
	}
	inner := edit.Tree()
	var notes []layers.Note
	spec := Spec{Type: "ext4", MkfsOptions: []string{"-O", "^has_journal", "-m", "0"}}
	m, err := newExtMaker(env, inner, spec)
	if err != nil {
		return nil, nil, err
	}
	size, err := sizeExt(ctx, env, inner, spec)
	if err != nil {
		return nil, nil, err
	}
	f, err := temporaryFile(env.Workdir)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := f.Truncate(size); err != nil {
		return nil, nil, err
	}
	if err := m.mkfs(ctx, f, 0, size); err != nil {
		return nil, nil, err
	}
	report, err := ext4.Populate(ctx, f, 0, inner, ext4.Options{})
	if err != nil {
		return nil, nil, err
	}
	for _, n := range report.Notes {
		notes = append(notes, layers.Note{Path: n.Path[min(len("/"+treeName), len(n.Path)):], Text: n.Text})
	}
	return f, slices.Clip(notes), nil
}

// Offsets in superblocks, in bytes from the begin of the file system. All values are little-endian, but those of a cramfs that is made for other machines.
const (
	cramfsMagic = 0x28cd3d45
	erofsBlocks = erofsSuper + 36 // blocks of 4096 bytes, 32 bits
	cramfsSize  = 4               // bytes, 32 bits
)

func word(r io.ReaderAt, at int64) (int64, error) {
	buf := make([]byte, 4)
	if _, err := r.ReadAt(buf, at); err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint32(buf)), nil
}

func erofsLength(r io.ReaderAt) (int64, error) {
	n, err := word(r, erofsBlocks)
	return n * erofsBlock, err
}

func cramfsLength(r io.ReaderAt) (int64, error) {
	buf := make([]byte, 8)
	if _, err := r.ReadAt(buf, 0); err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint32(buf) == cramfsMagic { // -N big
		return int64(binary.BigEndian.Uint32(buf[cramfsSize:])), nil
	}
	return int64(binary.LittleEndian.Uint32(buf[cramfsSize:])), nil
}
