package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// The files of a description that change /etc/fstab.
const (
	fstabFile   = "etc/fstab"
	fstabPatch  = "etc/fstab.patch"
	fstabScript = "etc/fstab.script"
)

// hooks runs the scripts of a description that belong to a disk.
type hooks struct {
	*image.Request
	tree *layers.Tree
	dir  string // for temporary files
}

// Prepare implements [image.Preparing]: it runs the description's scripts when the root tree has what ties it to this disk.
func (b Builder) Prepare(ctx context.Context, r *image.Request) (*image.Request, image.Builder, error) {
	if !hasHooks(r.Tree) && !grows(&r.Description.Type, r.Tree) {
		return r, b, nil
	}
	if r.Runner == nil {
		r.Log.Warn("the description's scripts for disks do not run, and the root does not grow: nothing here can run programs of the root tree")
		return r, b, nil
	}
	d, err := newDesign(r.Description, r.Repro)
	if err != nil {
		return nil, nil, err
	}
	if err := d.inspect(r.Tree, r.Log); err != nil {
		return nil, nil, err
	}
	tree, err := d.bootFiles(r.Tree, r.Log)
	if err != nil {
		return nil, nil, fmt.Errorf("writing the boot files: %w", err)
	}
	dir, remove, err := r.Scratch("scripts")
	if err != nil {
		return nil, nil, err
	}
	defer remove()
	h := &hooks{r, tree, dir}
	for _, step := range []func(context.Context) error{
		h.patchFstab,
		h.fstabScript,
		func(ctx context.Context) error { return h.repartInitrds(ctx, d) },
		func(ctx context.Context) error {
			return h.outside(ctx, scripts.EditBootConfig, r.Description.Type.Filesystem, strconv.Itoa(bootVolume(d.volumes).Number))
		},
		func(ctx context.Context) error { return h.inside(ctx, scripts.PreDiskSync) },
		func(ctx context.Context) error { return h.inside(ctx, scripts.Disk) },
	} {
		if err := step(ctx); err != nil {
			return nil, nil, err
		}
	}
	prepared := *r
	prepared.Tree = h.tree
	return &prepared, Builder{ready: d}, nil
}

// hasHooks reports whether the description has brought something that changes the tree for a disk.
func hasHooks(tree *layers.Tree) bool {
	for _, name := range []string{scripts.EditBootConfig, scripts.PreDiskSync, scripts.Disk} {
		if scripts.Has(tree, name) {
			return true
		}
	}
	for _, name := range []string{fstabPatch, fstabScript} {
		if _, err := tree.Lookup(name); err == nil {
			return true
		}
	}
	return false
}

// inside runs one of the description's scripts in the tree, if it has it.
func (h *hooks) inside(ctx context.Context, name string) error {
	if !scripts.Has(h.tree, name) {
		return nil
	}
	return scripts.Run(ctx, name, h.options(h.Runner.Run))
}

// outside runs one of the description's scripts on this machine, if it has it.
func (h *hooks) outside(ctx context.Context, name string, args ...string) error {
	if !scripts.Has(h.tree, name) {
		return nil
	}
	options := h.options(h.Runner.RunOutside)
	options.Outside, options.Args = true, args
	return scripts.Run(ctx, name, options)
}

func (h *hooks) options(run func(context.Context, *layers.Tree, sandbox.Spec) (*layers.Tree, error)) scripts.Options {
	options := scripts.Options{
		Tree: h.tree, Variables: h.Description.ProfileVariables(), Workdir: h.dir, Progress: h.Progress, Log: h.Log,
		Run: func(ctx context.Context, spec sandbox.Spec) error {
			tree, err := run(ctx, h.tree, spec)
			if err == nil {
				h.tree = tree
			}
			return err
		},
	}
	if h.Repro.Fixed {
		options.Env = []string{repro.EpochVariable + "=" + strconv.FormatInt(h.Repro.Epoch.Unix(), 10)}
	}
	return options
}

// fstabScript runs /etc/fstab.script, which does not stay.
func (h *hooks) fstabScript(ctx context.Context) error {
	if _, err := h.tree.Lookup(fstabScript); err != nil {
		return nil //nolint:nilerr // there need not be one
	}
	if err := scripts.RunFile(ctx, fstabScript, h.options(h.Runner.Run)); err != nil {
		return err
	}
	return h.edit(func(edit *layers.Editor) error { return edit.Remove(fstabScript) })
}

func (h *hooks) edit(change func(*layers.Editor) error) error {
	edit := h.tree.Edit(layers.TimespecOf(h.Repro.Epoch))
	if err := change(edit); err != nil {
		return err
	}
	h.tree = edit.Tree()
	return nil
}

// patchFstab applies /etc/fstab.patch, which does not stay, to /etc/fstab.
func (h *hooks) patchFstab(ctx context.Context) error {
	patch, err := h.tree.ReadFile(fstabPatch, maxText)
	if err != nil {
		return nil //nolint:nilerr // there need not be one
	}
	text, err := h.tree.ReadFile(fstabFile, maxText)
	if err != nil {
		return err
	}
	if text, err = applyPatch(ctx, h.dir, text, patch); err != nil {
		return fmt.Errorf("applying /%s of the description to the disk's /%s: %w", fstabPatch, fstabFile, err)
	}
	return h.edit(func(edit *layers.Editor) error {
		if err := edit.Remove(fstabPatch); err != nil {
			return err
		}
		return edit.WriteFile(fstabFile, text, 0o644)
	})
}

// applyPatch lets the program patch change a text, where it can reach nothing else: patches may have commands for ed.
func applyPatch(ctx context.Context, dir string, text, patch []byte) ([]byte, error) {
	const inside = "/run/imgbuild/patch"
	if _, err := command.Find("patch"); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(dir, "patch-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	for name, data := range map[string][]byte{"fstab": text, "patch": patch} {
		if err := os.WriteFile(filepath.Join(work, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	var form string
	switch {
	case strings.Contains("\n"+string(patch), "\n@@ "):
		form = "--unified"
	case strings.Contains("\n"+string(patch), "\n*** "):
		form = "--context"
	default:
		return nil, errors.New("it is no patch as diff -u makes it")
	}
	err = sandbox.Run(ctx, sandbox.Spec{
		Root: "/", ReadOnlyRoot: true, NoNetwork: true, Dir: inside, Binds: []sandbox.Bind{{Source: work, Target: inside}}, Title: "patch",
		Args: []string{"patch", "--batch", "--forward", "--no-backup-if-mismatch", "--reject-file=-", form, "fstab", "patch"},
	})
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(work, "fstab"))
}

// The places at which the script for the boot loader finds the disk, and its boot partition as a file of its own.
const (
	insideDisk = "/run/imgbuild/disk"
	insideBoot = "/run/imgbuild/boot"
)

// editBootInstall runs the description's script that puts a boot loader onto the disk, if it has one.
func (d *design) editBootInstall(ctx context.Context, r *image.Request, f *os.File, dir string) error {
	if !scripts.Has(r.Tree, scripts.EditBootInstall) {
		return nil
	}
	if r.Runner == nil {
		r.Log.Warn("editbootinstall does not run: nothing here can run programs")
		return nil
	}
	v := bootVolume(d.volumes)
	boot, err := os.OpenFile(filepath.Join(dir, "boot"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer boot.Close()
	if err := boot.Truncate(v.Size); err != nil {
		return err
	}
	if err := copyDifferent(boot, 0, f, d.offset(v), v.Size); err != nil {
		return fmt.Errorf("copying the boot partition: %w", err)
	}
	// By its time one sees whether the script has changed the copy, or else perhaps the disk.
	before := time.Unix(1, 0)
	if err := os.Chtimes(boot.Name(), before, before); err != nil {
		return err
	}
	h := &hooks{r, r.Tree, dir}
	options := h.options(h.Runner.RunOutside)
	options.Outside, options.Args = true, []string{insideDisk, insideBoot}
	options.Binds = []sandbox.Bind{{Source: f.Name(), Target: insideDisk}, {Source: boot.Name(), Target: insideBoot}}
	if err := scripts.Run(ctx, scripts.EditBootInstall, options); err != nil {
		return err
	}
	whole, err := f.Stat()
	if err != nil {
		return err
	}
	part, err := boot.Stat()
	if err != nil {
		return err
	}
	if whole.Size() != d.table.DiskSize || part.Size() != v.Size {
		return r.Description.Type.Errorf("editbootinstall", "write into the files that it is given, as with dd conv=notrunc", "the script has changed the size of the disk or of its boot partition")
	}
	if part.ModTime().Equal(before) {
		return nil
	}
	return copyDifferent(f, d.offset(v), boot, 0, v.Size)
}

// copyDifferent copies what differs, so that holes stay holes.
func copyDifferent(to *os.File, toAt int64, from io.ReaderAt, fromAt, size int64) error {
	const block = 64 << 10
	there, here := make([]byte, block), make([]byte, block)
	for at := int64(0); at < size; at += block {
		n := min(block, size-at)
		if _, err := from.ReadAt(here[:n], fromAt+at); err != nil {
			return err
		}
		if _, err := to.ReadAt(there[:n], toAt+at); err != nil {
			return err
		}
		if bytes.Equal(there[:n], here[:n]) {
			continue
		}
		if _, err := to.WriteAt(here[:n], toAt+at); err != nil {
			return err
		}
	}
	return nil
}
