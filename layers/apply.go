package layers

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Apply puts layers on top of a tree, the first one first, by the rules of OCI (image-spec, layer.md, "Applying Changesets"), and gives what umoci and containerd
// unpack. base may be nil for no tree.
//
// Whiteouts and opaque directories of a layer take away what the layers below it hold and nothing of its own. A directory on a directory changes its
// attributes and keeps its entries; everything else replaces what was there. Symbolic links in the directory part of a name are followed inside of the
// tree; directories that are missing on the way are made with mode 0755, owner root and time zero, also in the place of something that
// is no directory. A hard link whose target is missing or a directory is a [*FormatError].
func Apply(base *Tree, layers ...*Layer) (*Tree, error) {
	if base == nil {
		base = NewTree()
	}
	b := newBuilder(base)
	for _, l := range layers {
		if err := b.apply(l); err != nil {
			return nil, err
		}
	}
	return b.tree(), nil
}

// builder makes a changed tree out of a tree that stays as it is, in less time than [Editor] where much changes.
type builder struct {
	root  *Node
	owned map[*Node]struct{} // directories that this builder made and may change

	lastName string // of the directory found last
	lastDir  *Node  // nil if it may lie elsewhere by now

	placed  map[place]struct{} // by the layer being applied; nil if that takes nothing away
	cleared map[*Node]struct{} // directories that hold nothing of earlier layers any more
	steps   int                // taken so far on the way to directories
	made    int                // directories made because they were missing
}

func newBuilder(base *Tree) *builder {
	b := &builder{owned: map[*Node]struct{}{}}
	b.root = b.own(base.root)
	return b
}

func (b *builder) tree() *Tree { return &Tree{root: b.root} }

// own returns a directory's node if it may be changed, else a copy that may.
func (b *builder) own(n *Node) *Node {
	if _, ok := b.owned[n]; ok {
		return n
	}
	c := *n
	c.children = make(map[string]*Node, len(n.children))
	for name, child := range n.children {
		c.children[name] = child
	}
	b.owned[&c] = struct{}{}
	return &c
}

// ownChild is own for an entry of a directory that may be changed.
func (b *builder) ownChild(dir *Node, name string) *Node {
	old := dir.children[name]
	n := b.own(old)
	if n != old {
		dir.children[name] = n
	}
	return n
}

// maxSteps bounds the work of finding directories, which names full of symbolic links to names full of symbolic links would make endless.
const maxSteps = 200_000_000

// maxMadeUp bounds how many directories are made because layers do not hold them. One name of 4 KiB can ask for two thousand.
const maxMadeUp = 250_000

var (
	errManyMadeUp = errHostile(fmt.Sprintf("its names make up more than %d directories that are not in the layer", maxMadeUp))
	errManySteps  = errHostile("its names lead through too many symbolic links")
	errManyLinks  = errHostile("its name leads through too many symbolic links")
	errLongPath   = errHostile("its name leads to a path longer than Linux allows")
)

// dir finds the directory at name with symbolic links followed, and makes it owned. What is missing is made if create is set; else the result is nil
// for a name that leads to no directory.
func (b *builder) dir(name string, create bool) (*Node, error) {
	if b.lastDir != nil && b.lastName == name {
		return b.lastDir, nil
	}
	at := []*Node{b.root}
	var todo []string
	if name != "." {
		todo = strings.Split(name, "/")
	}
	length := []int{0}
	links := 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		if b.steps++; b.steps > maxSteps {
			return nil, errManySteps
		}
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) > 1 {
				at, length = at[:len(at)-1], length[:len(length)-1]
			}
			continue
		}
		here := at[len(at)-1]
		next := here.children[part]
		if next != nil && next.IsSymlink() {
			if links++; links > maxSymlinks {
				return nil, errManyLinks
			}
			if strings.HasPrefix(next.Target, "/") {
				at, length = at[:1], length[:1]
			}
			todo = append(strings.Split(next.Target, "/"), todo...)
			continue
		}
		if next == nil || !next.IsDir() {
			if !create {
				return nil, nil
			}
			if b.made++; b.made > maxMadeUp {
				return nil, errManyMadeUp
			}
			here.children[part] = &Node{Mode: TypeDir | 0o755}
		}
		total := length[len(length)-1] + len(part) + 1
		if total > maxPathLength {
			return nil, errLongPath
		}
		if create {
			b.mark(here, part)
		}
		at, length = append(at, b.ownChild(here, part)), append(length, total)
	}
	if create {
		b.lastName, b.lastDir = name, at[len(at)-1]
	}
	return at[len(at)-1], nil
}

// apply applies one layer.
func (b *builder) apply(l *Layer) error {
	b.lastDir, b.placed, b.cleared = nil, nil, nil
	if _, whiteouts, opaques, _ := l.Counts(); whiteouts+opaques > 0 {
		b.placed, b.cleared = map[place]struct{}{}, map[*Node]struct{}{}
	}
	for i := range l.Entries {
		var err error
		switch e := &l.Entries[i]; e.Kind {
		case Put:
			err = b.put(e.Name, e.Node)
		case Whiteout:
			err = b.whiteout(e.Name)
		case Opaque:
			err = b.opaque(e.Name)
		case Link:
			err = b.link(e.Name, e.Target)
		}
		if err != nil {
			return applyError(l, l.Entries[i].Name, err)
		}
	}
	return nil
}

// place is an entry of a directory that a builder owns.
type place struct {
	dir  *Node
	name string
}

// mark notes that the layer being applied has put something at a place or below it.
func (b *builder) mark(dir *Node, name string) {
	if b.placed != nil {
		b.placed[place{dir, name}] = struct{}{}
	}
}

func applyError(l *Layer, name string, err error) error {
	var hostile errHostile
	if errors.As(err, &hostile) {
		return &HostileError{Layer: l.Digest, Path: name, Reason: string(hostile)}
	}
	return &FormatError{Layer: l.Digest, Path: name, Err: err}
}

func (b *builder) whiteout(name string) error {
	dir, err := b.dir(path.Dir(name), false)
	if dir == nil || err != nil {
		return err
	}
	b.hide(dir, path.Base(name))
	return nil
}

// hide takes away what stands at a place and was not put there by the layer being applied.
func (b *builder) hide(dir *Node, base string) {
	if dir.children[base] == nil {
		return
	}
	if _, ok := b.placed[place{dir, base}]; !ok {
		b.replace(dir, base, nil)
		return
	}
	if child := dir.children[base]; child.IsDir() {
		b.clear(child)
	}
}

// clear hides all that is in a directory. What comes into it later is the layer's own, so there is nothing left to do when it is asked for again.
func (b *builder) clear(dir *Node) {
	if _, done := b.cleared[dir]; done {
		return
	}
	b.cleared[dir] = struct{}{}
	for name := range dir.children {
		b.hide(dir, name)
	}
}

func (b *builder) opaque(name string) error {
	dir, err := b.dir(name, false)
	if dir == nil || err != nil {
		return err
	}
	b.clear(dir)
	return nil
}

// replace puts n in the place of an entry, or nothing if n is nil.
func (b *builder) replace(dir *Node, base string, n *Node) {
	if dir.children[base] != nil {
		b.lastDir = nil
	}
	if n == nil {
		delete(dir.children, base)
		return
	}
	dir.children[base] = n
}

func (b *builder) put(name string, n *Node) error {
	if name == "." {
		if !n.IsDir() {
			return errHostile(fmt.Sprintf("it puts a %s in the place of the root directory", TypeName(n.Mode)))
		}
		b.root.takeAttributes(n)
		return nil
	}
	dir, err := b.dir(path.Dir(name), true)
	if err != nil {
		return err
	}
	base := path.Base(name)
	b.mark(dir, base)
	if !n.IsDir() {
		b.replace(dir, base, n)
		return nil
	}
	if old := dir.children[base]; old != nil && old.IsDir() {
		b.ownChild(dir, base).takeAttributes(n)
		return nil
	}
	b.replace(dir, base, b.own(&Node{Mode: TypeDir}))
	dir.children[base].takeAttributes(n)
	return nil
}

// takeAttributes makes a directory have everything of another one but its entries.
func (n *Node) takeAttributes(from *Node) {
	children := n.children
	*n = *from
	n.children = children
}

func (b *builder) link(name, target string) error {
	targetDir, err := b.dir(path.Dir(target), false)
	if err != nil {
		return err
	}
	var node *Node
	if targetDir != nil {
		node = targetDir.children[path.Base(target)]
	}
	if node == nil {
		return fmt.Errorf("it is a hard link to %q, which does not exist", target)
	}
	if node.IsDir() {
		return errHostile(fmt.Sprintf("it is a hard link to the directory %q", target))
	}
	return b.put(name, node)
}
