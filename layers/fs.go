package layers

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"time"
)

// FS returns the directory dir of the tree as a file system. Symbolic links in it are followed inside the tree, with the tree's
// root as "/", but no name leads out of dir: a link that does is [fs.ErrNotExist].
func (t *Tree) FS(dir string) fs.FS {
	resolved, node, err := t.Resolve(dir)
	if err != nil || !node.IsDir() {
		return treeFS{tree: NewTree(), dir: "."}
	}
	return treeFS{tree: t, dir: resolved}
}

type treeFS struct {
	tree *Tree
	dir  string
}

var (
	_ fs.StatFS     = treeFS{}
	_ fs.ReadDirFS  = treeFS{}
	_ fs.ReadFileFS = treeFS{}
)

func (f treeFS) find(op, name string) (*Node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	resolved, node, err := f.tree.Resolve(path.Join(f.dir, name))
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: errors.Unwrap(err)}
	}
	if f.dir != "." && resolved != f.dir && !within(resolved, f.dir) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return node, nil
}

func within(name, dir string) bool {
	return len(name) > len(dir) && name[:len(dir)] == dir && name[len(dir)] == '/'
}

// Stat implements [fs.StatFS].
func (f treeFS) Stat(name string) (fs.FileInfo, error) {
	node, err := f.find("stat", name)
	if err != nil {
		return nil, err
	}
	return nodeInfo{path.Base(name), node}, nil
}

// ReadFile implements [fs.ReadFileFS].
func (f treeFS) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// ReadDir implements [fs.ReadDirFS].
func (f treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	node, err := f.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !node.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	entries := make([]fs.DirEntry, 0, node.Len())
	for _, child := range node.Names() {
		entries = append(entries, fs.FileInfoToDirEntry(nodeInfo{child, node.Child(child)}))
	}
	return entries, nil
}

// Open implements [fs.FS].
func (f treeFS) Open(name string) (fs.File, error) {
	node, err := f.find("open", name)
	if err != nil {
		return nil, err
	}
	file := &treeFile{info: nodeInfo{path.Base(name), node}}
	switch {
	case node.IsDir():
		file.entries, err = f.ReadDir(name)
	case node.IsRegular():
		file.reader, err = node.Open()
	default:
		err = errors.New("it is a " + TypeName(node.Mode))
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return file, nil
}

// treeFile is an open file or directory of a treeFS.
type treeFile struct {
	info    nodeInfo
	reader  io.ReadCloser
	entries []fs.DirEntry
}

func (f *treeFile) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *treeFile) Read(p []byte) (int, error) {
	if f.reader == nil {
		return 0, &fs.PathError{Op: "read", Path: f.info.name, Err: errors.New("is a directory")}
	}
	return f.reader.Read(p)
}

func (f *treeFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		entries := f.entries
		f.entries = nil
		return entries, nil
	}
	if len(f.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(f.entries))
	entries := f.entries[:n]
	f.entries = f.entries[n:]
	return entries, nil
}

func (f *treeFile) Close() error {
	if f.reader == nil {
		return nil
	}
	return f.reader.Close()
}

// nodeInfo shows a node as [fs.FileInfo].
type nodeInfo struct {
	name string
	node *Node
}

func (i nodeInfo) Name() string       { return i.name }
func (i nodeInfo) Size() int64        { return i.node.Size }
func (i nodeInfo) Mode() fs.FileMode  { return FileMode(i.node.Mode) }
func (i nodeInfo) ModTime() time.Time { return i.node.MTime.Time() }
func (i nodeInfo) IsDir() bool        { return i.node.IsDir() }
func (i nodeInfo) Sys() any           { return i.node }

// FileMode returns the mode of a node, as st_mode has it, in the form of package fs.
func FileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & TypeMask {
	case TypeDir:
		m |= fs.ModeDir
	case TypeSymlink:
		m |= fs.ModeSymlink
	case TypeFIFO:
		m |= fs.ModeNamedPipe
	case TypeBlock:
		m |= fs.ModeDevice
	case TypeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}
