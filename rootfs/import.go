package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
	"github.com/imgbuild/imgbuild/rootfs/users"
)

// maxScript bounds a script of a description that lies in a container, maxExtra one of its single files, in bytes.
const (
	maxScript = 16 << 20
	maxExtra  = 64 << 20
)

// importDescription puts the description into the tree's /image, as KIWI keeps it: it runs the scripts from there, and a stash of the tree can be built again.
// What an earlier description has left there goes away, so that its scripts don't run once more.
func (o *overlay) importDescription(ctx context.Context) error {
	entries, err := fs.ReadDir(o.source.FS, ".")
	if err != nil && !errors.Is(err, fs.ErrNotExist) && o.Description.FS != nil {
		return fmt.Errorf("reading the description's directory: %w", err)
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		if err := edit.Remove(scripts.ImageDir); err != nil {
			return err
		}
		if err := edit.MkdirAll(scripts.ImageDir, 0o755); err != nil {
			return err
		}
		if text := o.Description.XML(); text != nil {
			if err := edit.WriteFile(scripts.ImageDir+"/config.xml", text, 0o644); err != nil {
				return err
			}
		}
		for _, e := range entries {
			if !kept(e.Name(), o.Description) {
				continue
			}
			if err := o.importFile(edit, e.Name()); err != nil {
				return fmt.Errorf("copying %s of the description: %w", e.Name(), err)
			}
		}
		if err := edit.WriteFile(scripts.LibraryFile, scripts.Library(), 0o644); err != nil {
			return err
		}
		return edit.WriteFile(scripts.ProfileFile, o.Description.ProfileFile(), 0o644)
	})
}

// kept reports whether a file beside the description belongs into /image.
func kept(name string, image *description.Image) bool {
	switch name {
	case scripts.PostBootstrap, scripts.Config, scripts.Images, scripts.PreDiskSync, "disk.sh", "config-overlay.sh", "config-host-overlay.sh", "exclude_files.yaml",
		path.Base(image.Type.EditBootConfig), path.Base(image.Type.EditBootInstall):
		return true
	}
	if strings.HasPrefix(name, "cdroot") && strings.Contains(name, ".tar") {
		return true
	}
	for _, set := range []description.PackageSet{image.Packages.Bootstrap, image.Packages.System} {
		if slices.ContainsFunc(set.Archives, func(a description.Archive) bool { return a.Name == name }) {
			return true
		}
	}
	return false
}

// importFile copies one file. Large ones stay where they are until something reads them.
func (o *overlay) importFile(edit *layers.Editor, name string) error {
	info, err := fs.Stat(o.source.FS, name)
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if o.source.Dir != "" {
		node := &layers.Node{Mode: layers.TypeRegular | uint32(info.Mode().Perm()), MTime: layers.TimespecOf(info.ModTime()), Size: info.Size()}
		if info.Size() > 0 {
			node.Content = hostFile(filepath.Join(o.source.Dir, name))
		}
		return edit.Put(scripts.ImageDir+"/"+name, node)
	}
	if info.Size() > maxScript {
		return fmt.Errorf("it has %d bytes, more than the %d allowed", info.Size(), maxScript)
	}
	data, err := fs.ReadFile(o.source.FS, name)
	if err != nil {
		return err
	}
	return edit.WriteFile(scripts.ImageDir+"/"+name, data, uint32(info.Mode().Perm()))
}

// hostFile is the content of a file of this machine, by its path.
type hostFile string

// Open implements [layers.Content].
func (f hostFile) Open() (io.ReadCloser, error) { return os.Open(string(f)) }

// extraFiles puts the single files of the description into the tree.
func (o *overlay) extraFiles(ctx context.Context) error {
	for _, set := range []description.PackageSet{o.Description.Packages.Bootstrap, o.Description.Packages.System} {
		for _, file := range set.Files {
			err := o.work.edit(ctx, func(edit *layers.Editor) error { return o.extraFile(edit, file) })
			if err != nil {
				return file.Errorf("name", "", "file %s can't be put into the root tree: %v", file.Name, err)
			}
		}
	}
	return nil
}

func (o *overlay) extraFile(edit *layers.Editor, file description.File) error {
	content, err := o.source.Open(file.Name)
	if err != nil {
		return err
	}
	defer content.Close()
	info, err := content.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxExtra {
		return fmt.Errorf("it has %d bytes, more than the %d allowed; use an archive", info.Size(), maxExtra)
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	perm := uint64(info.Mode().Perm())
	if file.Permissions != "" {
		if perm, err = strconv.ParseUint(file.Permissions, 8, 12); err != nil {
			return fmt.Errorf("permissions %q are no octal number", file.Permissions)
		}
	}
	node := layers.NewFile(data, uint32(perm), layers.TimespecOf(info.ModTime()))
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
