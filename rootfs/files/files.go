// Package files puts the files of a description into a root tree: its overlay directories, and archives.
package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/imgbuild/imgbuild/layers"
)

// maxSize bounds a file of a description that is no plain directory on this machine, in bytes.
const maxSize = 1 << 30

// Source is where a description's files come from.
type Source struct {
	// Dir is the description's directory on this machine, "" if it has none.
	Dir string
	// FS has the same files.
	FS fs.FS
}

// ReadDir returns the directory name of a description as a tree, and what could not be kept of it. There is none if the error is [fs.ErrNotExist].
// Everything in it belongs to root, whoever has written the description.
func (s Source) ReadDir(ctx context.Context, name string) (*layers.Tree, []layers.Note, error) {
	info, err := fs.Stat(s.FS, name)
	if err != nil {
		return nil, nil, err
	}
	if !info.IsDir() {
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is no directory")}
	}
	if s.Dir == "" {
		tree, err := s.copyFS(name)
		return tree, nil, err
	}
	dir := filepath.Join(s.Dir, name)
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, nil, err
	}
	return layers.ScanDir(ctx, dir, layers.ScanOptions{KeepVolatile: true})
}

// copyFS reads a directory of a description that lies in a container.
func (s Source) copyFS(dir string) (*layers.Tree, error) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	err := fs.WalkDir(s.FS, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		to, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		edit.ModTime = layers.TimespecOf(info.ModTime())
		switch {
		case info.IsDir():
			return edit.Put(to, &layers.Node{Mode: layers.TypeDir | uint32(info.Mode().Perm()), MTime: edit.ModTime})
		case !info.Mode().IsRegular():
			return &fs.PathError{Op: "read", Path: name, Err: errors.New("only files and directories can be read of a description in a container")}
		case info.Size() > maxSize:
			return &fs.PathError{Op: "read", Path: name, Err: errors.New("it is too large")}
		}
		data, err := fs.ReadFile(s.FS, name)
		if err != nil {
			return err
		}
		return edit.WriteFile(to, data, uint32(info.Mode().Perm()))
	})
	return edit.Tree(), err
}

// Open opens a regular file of a description: one with an absolute name is a file of this machine, and so is one that leads out of the description's
// directory, if that is on this machine.
func (s Source) Open(name string) (fs.File, error) {
	if filepath.IsAbs(name) {
		return openHost(name)
	}
	clean := path.Clean(name)
	info, err := fs.Stat(s.FS, clean)
	switch {
	case err != nil && s.Dir != "":
		return openHost(filepath.Join(s.Dir, name))
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, irregular(name)
	}
	return s.FS.Open(clean)
}

// HostPath returns the absolute path of a file that [Source.Open] opens, and that info describes, on this machine. ok is false if it lies elsewhere.
func (s Source) HostPath(name string, info fs.FileInfo) (file string, ok bool) {
	if !filepath.IsAbs(name) {
		if s.Dir == "" {
			return "", false
		}
		name = filepath.Join(s.Dir, name)
	}
	file, err := filepath.Abs(name)
	if err != nil {
		return "", false
	}
	there, err := os.Stat(file)
	return file, err == nil && os.SameFile(there, info)
}

func irregular(name string) error {
	return &fs.PathError{Op: "open", Path: name, Err: errors.New("it is not a regular file")}
}

// openHost looks before it opens: opening a pipe may wait for ever.
func openHost(name string) (fs.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, irregular(name)
	}
	return os.Open(name)
}

// GraftOptions say how [Graft] treats what it puts into a tree.
type GraftOptions struct {
	// RootOwned gives everything to root, as for files that lie in a description.
	RootOwned bool
}

// Graft puts all of tree below the directory at of edit's tree, which it makes if it is missing. Directories that are there keep their owner, mode and
// entries, also where a symbolic link leads to them; files replace what is there. Hard links stay hard links.
func Graft(edit *layers.Editor, tree *layers.Tree, at string, opts GraftOptions) error {
	g := grafter{edit: edit, opts: opts, copies: map[*layers.Node]*layers.Node{}}
	if err := edit.MkdirAll(at, 0o755); err != nil {
		return err
	}
	return g.entries(layers.Clean(at), tree.Root())
}

type grafter struct {
	edit   *layers.Editor
	opts   GraftOptions
	copies map[*layers.Node]*layers.Node
}

func (g *grafter) entries(at string, dir *layers.Node) error {
	for _, base := range dir.Names() {
		name, child := path.Join(at, base), dir.Child(base)
		if err := g.entry(name, child); err != nil {
			return fmt.Errorf("putting /%s into the root tree: %w", name, err)
		}
		if child.IsDir() {
			if err := g.entries(name, child); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *grafter) entry(name string, n *layers.Node) error {
	_, old, err := g.edit.Resolve(name)
	switch {
	case err == nil && n.IsDir() && old.IsDir():
		return nil
	case err == nil && n.IsDir():
		return fmt.Errorf("there is a %s, and the new entry is a directory", layers.TypeName(old.Mode))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if !n.IsDir() {
		if old, err := g.edit.Lookup(name); err == nil && old.IsDir() && old.Len() > 0 {
			return fmt.Errorf("there is a directory with entries, and the new entry is a %s", layers.TypeName(n.Mode))
		}
	}
	return g.edit.Put(name, g.copy(n))
}

// copy returns the node to put into the tree: the same one for all names of a file.
func (g *grafter) copy(n *layers.Node) *layers.Node {
	if n.IsDir() {
		// A new directory: its entries follow one by one.
		dir := &layers.Node{Mode: n.Mode, UID: n.UID, GID: n.GID, MTime: n.MTime, Xattrs: n.Xattrs}
		g.adopt(dir)
		return dir
	}
	if !g.opts.RootOwned {
		return n
	}
	if c, ok := g.copies[n]; ok {
		return c
	}
	c := *n
	g.adopt(&c)
	g.copies[n] = &c
	return &c
}

// adopt makes an entry of a description one of the image: root's, and without the security label that this machine gave it.
func (g *grafter) adopt(n *layers.Node) {
	if !g.opts.RootOwned {
		return
	}
	n.UID, n.GID = 0, 0
	n.Xattrs = slices.DeleteFunc(slices.Clone(n.Xattrs), func(x layers.Xattr) bool {
		return x.Name == "security.selinux" || x.Name == "security.ima" || x.Name == "security.evm"
	})
	if len(n.Xattrs) == 0 {
		n.Xattrs = nil
	}
}
