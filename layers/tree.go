// Package layers holds the root tree as a value, and carries it from one form to another.
//
// A [Tree] is the merged metadata of every entry of a Linux root tree and a way to open each file's bytes where they
// already lie: in a layer's blob, in a directory, or in memory. Layers, directories and single files are sources of
// trees; a merge of trees is a tree; a tar stream, a directory and an OCI layer are sinks. Nothing is unpacked on the way
// from a source to a sink, and owners, devices and capabilities are right for an ordinary user too, because they
// never have to exist on the host's disk.
//
// Trees are values: a [Node] that is reachable from a tree does not change. [Tree.Edit] makes a changed tree that shares
// every unchanged node with the old one.
package layers

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// The file types of a [Node], as in st_mode of stat(2).
const (
	TypeMask    uint32 = 0o170000
	TypeFIFO    uint32 = 0o010000
	TypeChar    uint32 = 0o020000
	TypeDir     uint32 = 0o040000
	TypeBlock   uint32 = 0o060000
	TypeRegular uint32 = 0o100000
	TypeSymlink uint32 = 0o120000

	// PermMask covers the permission bits with setuid, setgid and sticky.
	PermMask uint32 = 0o7777
)

// Timespec is a moment in seconds and nanoseconds since 1970-01-01 UTC.
type Timespec struct {
	Sec  int64
	Nsec uint32
}

// Time returns t in UTC.
func (t Timespec) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// TimespecOf returns the moment of t with nanoseconds.
func TimespecOf(t time.Time) Timespec { return Timespec{t.Unix(), uint32(t.Nanosecond())} }

// Xattr is one extended attribute with its full name, such as "security.capability".
type Xattr struct {
	Name  string
	Value string
}

// Extent is a run of bytes of a file that holds data; what lies between extents reads as zeros.
type Extent struct {
	Offset, Length int64
}

// Content opens the bytes of one regular file.
type Content interface {
	// Open returns the file's data: the extents of [Node.Data] one after the other, or the whole file where Data is nil.
	// The reader gives exactly [Node.DataSize] bytes and then io.EOF, or an error that names the file's place.
	Open() (io.ReadCloser, error)
}

// Node is one inode. Two names of a tree that hold the same *Node are hard links of each other.
//
// A Node that is part of a tree is read-only; it is changed by putting a changed copy in its place.
type Node struct {
	Mode         uint32   // file type and permission bits, as st_mode
	UID, GID     uint32   // numeric owners as inside the root tree, up to 2^32-2
	Major, Minor uint32   // device numbers of TypeChar and TypeBlock
	MTime        Timespec // time of the last change
	Size         int64    // length in bytes of a regular file, 0 for every other type
	Target       string   // what a symbolic link points to, byte for byte
	Xattrs       []Xattr  // sorted by name, each name once
	Data         []Extent // where a sparse file holds data, ascending; nil if the whole file is data
	Content      Content  // nil where DataSize is 0
	Host         *HostID  // which state of which file of this machine it was read from; nil if it does not come from a directory

	children map[string]*Node // of a directory; nil or empty if it has none
}

// Type returns the file type bits of the mode.
func (n *Node) Type() uint32 { return n.Mode & TypeMask }

// Perm returns the permission bits with setuid, setgid and sticky.
func (n *Node) Perm() uint32 { return n.Mode & PermMask }

// IsDir reports whether n is a directory.
func (n *Node) IsDir() bool { return n.Type() == TypeDir }

// IsRegular reports whether n is a regular file.
func (n *Node) IsRegular() bool { return n.Type() == TypeRegular }

// IsSymlink reports whether n is a symbolic link.
func (n *Node) IsSymlink() bool { return n.Type() == TypeSymlink }

// IsDevice reports whether n is a character or block device.
func (n *Node) IsDevice() bool { return n.Type() == TypeChar || n.Type() == TypeBlock }

// DataSize returns how many bytes of a regular file are data and not holes.
func (n *Node) DataSize() int64 {
	if n.Data == nil {
		return n.Size
	}
	var sum int64
	for _, e := range n.Data {
		sum += e.Length
	}
	return sum
}

// Xattr returns the value of the named extended attribute and whether it is there.
func (n *Node) Xattr(name string) (string, bool) {
	i, ok := slices.BinarySearchFunc(n.Xattrs, name, func(x Xattr, name string) int { return strings.Compare(x.Name, name) })
	if !ok {
		return "", false
	}
	return n.Xattrs[i].Value, true
}

// Child returns the entry of a directory with the given name, or nil.
func (n *Node) Child(name string) *Node { return n.children[name] }

// Len returns how many entries a directory has.
func (n *Node) Len() int { return len(n.children) }

// Names returns the names of a directory's entries in byte order.
func (n *Node) Names() []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Open returns the whole content of a regular file, with holes as zeros.
func (n *Node) Open() (io.ReadCloser, error) {
	if !n.IsRegular() {
		return nil, fmt.Errorf("opening a %s: it has no content", TypeName(n.Mode))
	}
	if n.Content == nil {
		return &expandedReader{node: n}, nil
	}
	data, err := n.Content.Open()
	if err != nil || n.Data == nil {
		return data, err
	}
	return &expandedReader{node: n, data: data, extents: n.Data}, nil
}

// expandedReader puts the holes of a sparse file back between its extents.
type expandedReader struct {
	node    *Node
	data    io.ReadCloser
	extents []Extent
	pos     int64
}

func (r *expandedReader) Read(p []byte) (int, error) {
	if r.pos >= r.node.Size {
		return 0, io.EOF
	}
	for len(r.extents) > 0 && r.pos >= r.extents[0].Offset+r.extents[0].Length {
		r.extents = r.extents[1:]
	}
	if len(r.extents) == 0 || r.pos < r.extents[0].Offset {
		end := r.node.Size
		if len(r.extents) > 0 {
			end = r.extents[0].Offset
		}
		n := int(min(int64(len(p)), end-r.pos))
		clear(p[:n])
		r.pos += int64(n)
		return n, nil
	}
	left := r.extents[0].Offset + r.extents[0].Length - r.pos
	n, err := r.data.Read(p[:min(int64(len(p)), left)])
	r.pos += int64(n)
	if err == io.EOF {
		err = nil
		if n == 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (r *expandedReader) Close() error {
	if r.data == nil {
		return nil
	}
	return r.data.Close()
}

// TypeName names the file type of a mode in plain words.
func TypeName(mode uint32) string {
	switch mode & TypeMask {
	case TypeFIFO:
		return "fifo"
	case TypeChar:
		return "character device"
	case TypeDir:
		return "directory"
	case TypeBlock:
		return "block device"
	case TypeRegular:
		return "file"
	case TypeSymlink:
		return "symbolic link"
	}
	return fmt.Sprintf("entry of unknown type %#o", mode&TypeMask)
}

// Tree is a root tree as a value. Paths in a tree have no leading slash; "." is the root directory. The zero Tree is not valid:
// use [NewTree].
type Tree struct {
	root *Node
}

// NewTree returns a tree that holds nothing but a root directory, mode 0755, owner root, time zero.
func NewTree() *Tree { return &Tree{root: &Node{Mode: TypeDir | 0o755}} }

// Root returns the root directory.
func (t *Tree) Root() *Node { return t.root }

// Clean brings a path as users write it ("/etc//passwd", "./etc") into the form that trees use ("etc/passwd", "."). No ".." in it
// leads above the root.
func Clean(name string) string {
	name = path.Clean("/" + name)[1:]
	if name == "" {
		return "."
	}
	return name
}

// Lookup returns the entry at exactly this path, with no symbolic link followed, and an error that is [fs.ErrNotExist] if there
// is none.
func (t *Tree) Lookup(name string) (*Node, error) {
	node := t.root
	if clean := Clean(name); clean != "." {
		for part := range strings.SplitSeq(clean, "/") {
			if node = node.Child(part); node == nil {
				return nil, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
			}
		}
	}
	return node, nil
}

// maxSymlinks is how many symbolic links one path may lead through, as in Linux.
const maxSymlinks = 40

// Resolve follows symbolic links, the last component included, the way a process with the tree as its root would, and returns
// where the path leads and what is there. The error is [fs.ErrNotExist] if something on the way is missing.
func (t *Tree) Resolve(name string) (string, *Node, error) { return t.resolve(name, true) }

// ResolveParent follows symbolic links in all of the path but its last component.
func (t *Tree) ResolveParent(name string) (string, *Node, error) { return t.resolve(name, false) }

func (t *Tree) resolve(name string, last bool) (string, *Node, error) {
	todo := strings.Split(name, "/")
	type step struct {
		name string
		node *Node
	}
	at := []step{{"", t.root}}
	links := 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		here := at[len(at)-1].node
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) > 1 {
				at = at[:len(at)-1]
			}
			continue
		}
		if !here.IsDir() {
			return "", nil, &fs.PathError{Op: "resolve", Path: name, Err: errors.New("not a directory")}
		}
		next := here.Child(part)
		if next == nil {
			return "", nil, &fs.PathError{Op: "resolve", Path: name, Err: fs.ErrNotExist}
		}
		if next.IsSymlink() && (last || hasMore(todo)) {
			if links++; links > maxSymlinks {
				return "", nil, &fs.PathError{Op: "resolve", Path: name, Err: errors.New("too many symbolic links")}
			}
			if strings.HasPrefix(next.Target, "/") {
				at = at[:1]
			}
			todo = append(strings.Split(next.Target, "/"), todo...)
			continue
		}
		at = append(at, step{part, next})
	}
	parts := make([]string, 0, len(at))
	for _, s := range at[1:] {
		parts = append(parts, s.name)
	}
	if len(parts) == 0 {
		return ".", t.root, nil
	}
	return strings.Join(parts, "/"), at[len(at)-1].node, nil
}

func hasMore(parts []string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return p != "" && p != "." })
}

// Walk calls fn for the root directory and every entry below it: parents first, names in byte order. If fn returns [fs.SkipDir] for
// a directory, what is in it is left out; any other error ends the walk and is returned.
func (t *Tree) Walk(fn func(name string, n *Node) error) error {
	err := walk(".", t.root, fn)
	if err == fs.SkipDir || err == fs.SkipAll {
		return nil
	}
	return err
}

func walk(name string, n *Node, fn func(string, *Node) error) error {
	if err := fn(name, n); err != nil {
		return err
	}
	for _, child := range n.Names() {
		sub := child
		if name != "." {
			sub = name + "/" + child
		}
		if err := walk(sub, n.children[child], fn); err != nil && err != fs.SkipDir {
			return err
		}
	}
	return nil
}

// ReadFile returns the whole content of the file at name, with symbolic links followed. A file of more than limit bytes is an error, so that
// a container from a stranger can't fill the memory.
func (t *Tree) ReadFile(name string, limit int64) ([]byte, error) {
	_, node, err := t.Resolve(name)
	if err != nil {
		return nil, err
	}
	if node.Size > limit {
		return nil, fmt.Errorf("reading /%s: it has %d bytes, more than the %d allowed", Clean(name), node.Size, limit)
	}
	r, err := node.Open()
	if err != nil {
		return nil, fmt.Errorf("reading /%s: %w", Clean(name), err)
	}
	defer r.Close()
	data := make([]byte, node.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("reading /%s: %w", Clean(name), err)
	}
	return data, nil
}

// Stats counts a tree.
type Stats struct {
	Entries int   // names, the root directory included
	Files   int   // regular files, hard links counted once
	Bytes   int64 // sum of the sizes of these files, holes included
	Data    int64 // the same without holes
}

// Stats walks the tree and counts it.
func (t *Tree) Stats() Stats {
	var s Stats
	seen := map[*Node]struct{}{}
	_ = t.Walk(func(_ string, n *Node) error {
		s.Entries++
		if _, ok := seen[n]; n.IsRegular() && !ok {
			seen[n] = struct{}{}
			s.Files++
			s.Bytes += n.Size
			s.Data += n.DataSize()
		}
		return nil
	})
	return s
}
