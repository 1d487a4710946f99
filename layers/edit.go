package layers

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Editor makes a changed tree out of a tree, which itself stays as it is. Paths follow symbolic links in their parent directories, as a
// process inside the tree would; a last component that is a symbolic link is replaced, not followed.
type Editor struct {
	tree  *Tree
	owned map[*Node]bool // directories that this editor made and may change

	// ModTime is the time that new entries get.
	ModTime Timespec
}

// Edit starts a change. New entries get the given time; directories they are put into keep theirs.
func (t *Tree) Edit(modTime Timespec) *Editor {
	return &Editor{tree: &Tree{root: t.root}, owned: map[*Node]bool{}, ModTime: modTime}
}

// Tree returns the tree as changed so far. Later edits do not reach it.
func (e *Editor) Tree() *Tree {
	e.owned = map[*Node]bool{}
	return &Tree{root: e.tree.root}
}

// Put places node at name. The directory it lies in must exist. A directory there already keeps its entries if node is a directory too.
func (e *Editor) Put(name string, node *Node) error {
	name = Clean(name)
	if name == "." {
		if !node.IsDir() {
			return fmt.Errorf("putting a %s in the place of the root directory", TypeName(node.Mode))
		}
		e.tree.root = e.withChildrenOf(node, e.tree.root)
		return nil
	}
	dir, err := e.ownDir(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if old := dir.Child(base); old != nil && old.IsDir() && node.IsDir() {
		node = e.withChildrenOf(node, old)
	}
	if dir.children == nil {
		dir.children = map[string]*Node{}
	}
	dir.children[base] = node
	return nil
}

func (e *Editor) withChildrenOf(node, old *Node) *Node {
	changed := *node
	changed.children = make(map[string]*Node, old.Len()+node.Len())
	for name, child := range old.children {
		changed.children[name] = child
	}
	for name, child := range node.children {
		changed.children[name] = child
	}
	e.owned[&changed] = true
	return &changed
}

// ownDir returns the directory at name, symbolic links followed, as a node that may be changed; it copies what is shared on the way.
func (e *Editor) ownDir(name string) (*Node, error) {
	resolved, node, err := e.tree.Resolve(name)
	if err != nil {
		return nil, err
	}
	if !node.IsDir() {
		return nil, &fs.PathError{Op: "edit", Path: name, Err: fmt.Errorf("it is a %s, not a directory", TypeName(node.Mode))}
	}
	e.tree.root = e.ownNode(e.tree.root)
	at := e.tree.root
	if resolved != "." {
		for part := range strings.SplitSeq(resolved, "/") {
			child := e.ownNode(at.Child(part))
			at.children[part] = child
			at = child
		}
	}
	return at, nil
}

func (e *Editor) ownNode(n *Node) *Node {
	if e.owned[n] {
		return n
	}
	c := *n
	c.children = make(map[string]*Node, len(n.children)+1)
	for name, child := range n.children {
		c.children[name] = child
	}
	e.owned[&c] = true
	return &c
}

// MkdirAll makes the directory at name and those above it that are missing, with the given permissions and owner root.
// What is there already stays as it is; something else than a directory in its place is an error.
func (e *Editor) MkdirAll(name string, perm uint32) error {
	name = Clean(name)
	if _, node, err := e.tree.Resolve(name); err == nil {
		if !node.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: name, Err: fmt.Errorf("it is a %s", TypeName(node.Mode))}
		}
		return nil
	}
	if err := e.MkdirAll(path.Dir(name), perm); err != nil {
		return err
	}
	if _, node, err := e.tree.ResolveParent(name); err == nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fmt.Errorf("a %s is in the way", TypeName(node.Mode))}
	}
	return e.Put(name, &Node{Mode: TypeDir | perm&PermMask, MTime: e.ModTime})
}

// WriteFile puts a file of the given bytes and permissions, owner root, at name, in the place of what was there. Missing directories
// above it are made with mode 0755.
func (e *Editor) WriteFile(name string, data []byte, perm uint32) error {
	if err := e.MkdirAll(path.Dir(Clean(name)), 0o755); err != nil {
		return err
	}
	return e.Put(name, NewFile(data, perm, e.ModTime))
}

// Symlink puts a symbolic link to target at name, in the place of what was there.
func (e *Editor) Symlink(target, name string) error {
	if err := e.MkdirAll(path.Dir(Clean(name)), 0o755); err != nil {
		return err
	}
	return e.Put(name, &Node{Mode: TypeSymlink | 0o777, Target: target, MTime: e.ModTime})
}

// Link makes name a hard link of the entry at old.
func (e *Editor) Link(old, name string) error {
	_, node, err := e.tree.ResolveParent(old)
	if err != nil {
		return err
	}
	if node.IsDir() {
		return &fs.PathError{Op: "link", Path: old, Err: fmt.Errorf("a directory can't be hard linked")}
	}
	return e.Put(name, node)
}

// Remove takes the entry at name away with all below it. That nothing is there is no error.
func (e *Editor) Remove(name string) error {
	name = Clean(name)
	if name == "." {
		return fmt.Errorf("removing the root directory of a tree")
	}
	if _, _, err := e.tree.ResolveParent(name); err != nil {
		return nil
	}
	dir, err := e.ownDir(path.Dir(name))
	if err != nil {
		return err
	}
	delete(dir.children, path.Base(name))
	return nil
}

// Change puts a changed copy of the entry at name in its place. Other hard links of a file keep the old one.
func (e *Editor) Change(name string, change func(*Node)) error {
	_, node, err := e.tree.ResolveParent(name)
	if err != nil {
		return err
	}
	c := *node
	c.Xattrs = slices.Clone(node.Xattrs)
	change(&c)
	return e.Put(name, &c)
}

// Lookup is [Tree.Lookup] on the tree as changed so far.
func (e *Editor) Lookup(name string) (*Node, error) { return e.tree.Lookup(name) }

// Resolve is [Tree.Resolve] on the tree as changed so far.
func (e *Editor) Resolve(name string) (string, *Node, error) { return e.tree.Resolve(name) }

// ReadFile is [Tree.ReadFile] on the tree as changed so far.
func (e *Editor) ReadFile(name string, limit int64) ([]byte, error) {
	return e.tree.ReadFile(name, limit)
}

// NewFile returns a regular file, owner root, whose content lies in memory.
func NewFile(data []byte, perm uint32, modTime Timespec) *Node {
	n := &Node{Mode: TypeRegular | perm&PermMask, Size: int64(len(data)), MTime: modTime}
	if len(data) > 0 {
		n.Content = Bytes(data)
	}
	return n
}

// Bytes is content that lies in memory.
type Bytes []byte

// Open implements [Content].
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
