package rootfs

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/users"
)

// baseTree gives a tree that is made from nothing the directories that every package manager and every script finds.
func (o *overlay) baseTree(ctx context.Context) error {
	if o.Tree.Root().Len() > 0 {
		return nil
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		for _, dir := range []string{"dev/pts", "etc/sysconfig", "proc", "run", "sys", "var/cache/kiwi"} {
			if err := edit.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
			if err := edit.Symlink(target, "dev/"+name); err != nil {
				return err
			}
		}
		return nil
	})
}

// bootstrapFiles unpacks the archives and copies the files that belong to the bootstrap packages, systemFiles those of the others.
func (o *overlay) bootstrapFiles(ctx context.Context) error {
	return o.filesOf(ctx, o.Description.Packages.Bootstrap)
}

func (o *overlay) systemFiles(ctx context.Context) error {
	return o.filesOf(ctx, o.Description.Packages.System)
}

func (o *overlay) filesOf(ctx context.Context, set description.PackageSet) error {
	for _, archive := range set.Archives {
		if err := o.archive(ctx, archive.Name, archive.TargetDir); err != nil {
			return archive.Errorf("name", "", "%v", err)
		}
	}
	for _, file := range set.Files {
		err := o.work.edit(ctx, func(edit *layers.Editor) error { return o.extraFile(edit, file) })
		if err != nil {
			return file.Errorf("name", "", "file %s can't be put into the root tree: %v", file.Name, err)
		}
	}
	return nil
}

func (o *overlay) archive(ctx context.Context, name, target string) error {
	scratch, err := o.scratchDir()
	if err != nil {
		return err
	}
	tree, err := o.source.ReadArchive(ctx, name, scratch)
	if err != nil {
		return err
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error { return files.Graft(edit, tree, target, files.GraftOptions{}) })
}

// overlayArchives are the names of an archive that takes the place of the directory root/, in the order in which they are looked for.
func overlayArchives() []string {
	return []string{"root.tar.gz", "root.tar", "root.tar.xz", "root.tar.zst"}
}

// overlayFiles puts the directory root/, or else an archive of it, and the directories of the active profiles over the tree.
func (o *overlay) overlayFiles(ctx context.Context) error {
	found, err := o.overlayDir(ctx, "root")
	if err != nil {
		return err
	}
	for _, name := range overlayArchives() {
		if _, err := fs.Stat(o.source.FS, name); err != nil || found {
			continue
		}
		if err := o.archive(ctx, name, "/"); err != nil {
			return err
		}
		found = true
	}
	for _, profile := range o.Description.Profiles {
		if !fs.ValidPath(profile) || profile == "." {
			continue
		}
		if _, err := o.overlayDir(ctx, profile); err != nil {
			return err
		}
	}
	return nil
}

func (o *overlay) overlayDir(ctx context.Context, name string) (found bool, err error) {
	if info, err := fs.Stat(o.source.FS, name); err != nil || !info.IsDir() {
		return false, nil //nolint:nilerr // descriptions need not have one
	}
	tree, notes, err := o.source.ReadDir(ctx, name)
	if err != nil {
		return false, fmt.Errorf("reading the overlay directory %s: %w", name, err)
	}
	for _, note := range notes {
		o.note(fmt.Sprintf("overlay directory %s: %s: %s", name, note.Path, note.Text))
	}
	err = o.work.edit(ctx, func(edit *layers.Editor) error {
		return files.Graft(edit, tree, "/", files.GraftOptions{RootOwned: true})
	})
	if err != nil {
		return false, fmt.Errorf("adding the overlay directory %s: %w", name, err)
	}
	return true, nil
}

// extraFile puts a single file of the description into the tree.
func (o *overlay) extraFile(edit *layers.Editor, file description.File) error {
	node, err := o.fileNode(file.Name)
	if err != nil {
		return err
	}
	if file.Permissions != "" {
		perm, err := strconv.ParseUint(file.Permissions, 8, 12)
		if err != nil {
			return fmt.Errorf("permissions %q are no octal number", file.Permissions)
		}
		node.Mode = layers.TypeRegular | uint32(perm)
	}
	if node.UID, node.GID, err = users.Lookup(edit, file.Owner); err != nil {
		return err
	}
	target := file.Target
	if target == "" {
		target = path.Base(file.Name)
	}
	if err := edit.MkdirAll(path.Dir(layers.Clean(target)), 0o755); err != nil {
		return err
	}
	return edit.Put(target, node)
}
