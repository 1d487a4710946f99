package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/description/legacy2006"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// maxImported bounds a file of a description that lies in a container, in bytes.
const maxImported = 1 << 30

// imported is one file of the description that belongs into /image.
type imported struct {
	from, to string // in the description, in /image
	// missing is the error where there is no such file, nil where there need not be one.
	missing func(cause error) error
}

// imports is what of the description belongs into /image: what KIWI keeps there.
func imports(image *description.Image) []imported {
	var list []imported
	for _, name := range []string{
		scripts.PostBootstrap, scripts.Config, scripts.Images, scripts.ConfigOverlay, scripts.ConfigHostOverlay, scripts.PreDiskSync, scripts.Disk, excludeFile,
	} {
		list = append(list, imported{from: name, to: name})
	}
	for _, set := range []description.PackageSet{image.Packages.Bootstrap, image.Packages.System} {
		for _, archive := range set.Archives {
			list = append(list, imported{archive.Name, path.Base(archive.Name), func(cause error) error {
				return archive.Errorf("name", "paths are relative to the description's directory", "the archive %s can't be read: %v", archive.Name, cause)
			}})
		}
	}
	return list
}

// typeImports is what belongs there for an image type alone.
func typeImports(image *description.Image) []imported {
	var list []imported
	for _, script := range []struct{ attribute, from, to string }{
		{"editbootconfig", image.Type.EditBootConfig, scripts.EditBootConfig}, {"editbootinstall", image.Type.EditBootInstall, scripts.EditBootInstall},
	} {
		if script.from != "" {
			list = append(list, imported{script.from, script.to, func(cause error) error {
				return image.Type.Errorf(script.attribute, "paths are relative to the description's directory", "the script %s can't be read: %v", script.from, cause)
			}})
		}
	}
	type named struct {
		name   string
		origin description.Origin
		attr   string
	}
	files := []named{{image.Type.Bootloader.GrubTemplate, image.Type.Bootloader.Origin, "grub_template"}}
	for _, box := range image.Type.Vagrant {
		files = append(files, named{box.EmbeddedVagrantfile, box.Origin, "embedded_vagrantfile"})
	}
	for _, f := range files {
		if filepath.IsLocal(f.name) {
			list = append(list, imported{f.name, path.Clean(f.name), func(cause error) error {
				return f.origin.Errorf(f.attr, "paths are relative to the description's directory", "the file %s can't be read: %v", f.name, cause)
			}})
		}
	}
	return list
}

// importTypeFiles puts the image type's own files into the tree, and the description as it is for this type where the common steps were those of another.
func (o *overlay) importTypeFiles(ctx context.Context) error {
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		for _, file := range typeImports(o.Description) {
			if err := o.importFile(edit, file); err != nil {
				return err
			}
		}
		if o.described == o.Description {
			return nil
		}
		return o.describe(edit)
	})
}

// describe writes the description and its variables.
func (o *overlay) describe(edit *layers.Editor) error {
	o.described = o.Description
	if text := o.Description.XML(); text != nil {
		if err := edit.WriteFile(scripts.ImageDir+"/config.xml", text, 0o644); err != nil {
			return err
		}
	}
	return edit.WriteFile(scripts.ProfileFile, o.Description.ProfileFile(), 0o644)
}

// profile gives a tree that was prepared for another image type the variables of this one.
func (o *overlay) profile(ctx context.Context) error {
	if _, err := o.Tree.Lookup(scripts.ProfileFile); err != nil {
		return nil //nolint:nilerr // nothing reads them there
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		text := o.Description.ProfileFile()
		if there, err := edit.ReadFile(scripts.ProfileFile, maxImported); err == nil && bytes.Equal(there, text) {
			return nil
		}
		return edit.WriteFile(scripts.ProfileFile, text, 0o644)
	})
}

// excludeFile lists what of the tree does not belong into images.
const excludeFile = "exclude_files.yaml"

// importDescription puts the description into the tree's /image, as KIWI keeps it: it runs the scripts from there, and a stash of the tree can be built again.
// What an earlier description has left there goes away, so that its scripts don't run once more.
func (o *overlay) importDescription(ctx context.Context) error {
	list := imports(o.Description)
	entries, err := fs.ReadDir(o.source.FS, ".")
	if err != nil && !errors.Is(err, fs.ErrNotExist) && o.Description.FS != nil {
		return fmt.Errorf("reading the description's directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "cdroot") || strings.HasPrefix(e.Name(), "config-cdroot") {
			if strings.Contains(e.Name(), ".tar") {
				list = append(list, imported{from: e.Name(), to: e.Name()})
			}
		}
	}
	// A description in KIWI's format of 2006 has scripts that run others.
	err = fs.WalkDir(o.source.FS, legacy2006.Folder, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			list = append(list, imported{from: name, to: name})
		}
		return err
	})
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
		for _, file := range list {
			if err := o.importFile(edit, file); err != nil {
				return err
			}
		}
		if err := edit.WriteFile(scripts.LibraryFile, scripts.Library(), 0o644); err != nil {
			return err
		}
		return o.describe(edit)
	})
}

// importFile copies one file. Large ones stay where they are until something reads them.
func (o *overlay) importFile(edit *layers.Editor, file imported) error {
	node, err := o.fileNode(file.from)
	switch {
	case err != nil && file.missing != nil:
		return file.missing(err)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("copying %s of the description: %w", file.from, err)
	}
	o.imported[file.to] = true
	// KIWI keeps all of them under one name, in one folder; the description there still has the name that its author gave.
	names := []string{file.to}
	if from := path.Clean(file.from); from != file.to && fs.ValidPath(from) {
		names = append(names, from)
	}
	for _, name := range names {
		if err := edit.MkdirAll(path.Dir(scripts.ImageDir+"/"+name), 0o755); err != nil {
			return err
		}
		if err := edit.Put(scripts.ImageDir+"/"+name, node); err != nil {
			return err
		}
	}
	return nil
}

// fileNode returns a file of the description as an entry of a tree, which belongs to root.
func (o *overlay) fileNode(name string) (*layers.Node, error) {
	content, err := o.source.Open(name)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	info, err := content.Stat()
	if err != nil {
		return nil, err
	}
	node := &layers.Node{Mode: layers.TypeRegular | uint32(info.Mode().Perm()), MTime: layers.TimespecOf(info.ModTime()), Size: info.Size()}
	if host, ok := o.source.HostPath(name, info); ok {
		if info.Size() > 0 {
			node.Content = hostFile(host)
		}
		return node, nil
	}
	if info.Size() > maxImported {
		return nil, fmt.Errorf("it has %d bytes, more than the %d allowed", info.Size(), maxImported)
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return nil, err
	}
	return layers.NewFile(data, node.Perm(), node.MTime), nil
}

// hostFile is the content of a file of this machine, by its path.
type hostFile string

// Open implements [layers.Content].
func (f hostFile) Open() (io.ReadCloser, error) { return os.Open(string(f)) }
