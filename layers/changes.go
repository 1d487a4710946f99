package layers

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Changes returns the layer that turns the tree old into the tree new: entries that are gone as whiteouts, entries that are new or differ in anything
// that a layer can hold, and nothing else. Apply(old, layer) equals new entry by entry. A layer without entries says that nothing
// changed.
//
// A directory is in the layer if its own attributes changed, its time by an entry that came or went in it included. It is also there if something below
// it is and it is not an ordinary directory (mode 0755, owner root, no extended attributes): podman and docker unpack each layer on its own and
// make up the directories that are missing in it, whose attributes then hide the right ones. Names that are hard links of each other
// are in it together if any of them is, because most programs that unpack layers can't link to a file of an earlier one.
//
// Contents of files that differ in nothing else are compared only where the state of the file on this machine, kept by [ScanDir] and in a store's
// index, does not prove them unchanged.
func Changes(ctx context.Context, old, new *Tree) (*Layer, error) {
	d := &differ{newLinks: hardLinks(new), doubtful: map[nodePair]struct{}{}, before: map[*Node][]*Node{}}
	d.walk(".", old.root, new.root)
	changed, err := differentContents(ctx, d.doubtful)
	if err != nil {
		return nil, fmt.Errorf("comparing a tree with the one before: %w", err)
	}
	d.settle(changed)
	d.addParents(new)
	slices.SortFunc(d.entries, func(a, b Entry) int {
		if order := cmp.Compare(sortName(a.Name), sortName(b.Name)); order != 0 {
			return order
		}
		return cmp.Compare(b.Kind, a.Kind) // a whiteout before a Put of the same name
	})
	for _, e := range d.entries {
		if e.Kind != Put {
			continue
		}
		if err := checkPutName(e.Name); err != nil {
			return nil, err
		}
	}
	return &Layer{Entries: d.entries}, nil
}

// addParents puts directories that must not be made up by who unpacks the layer.
func (d *differ) addParents(new *Tree) {
	have := map[string]bool{}
	for _, e := range d.entries {
		if e.Kind == Put && e.Node.IsDir() {
			have[e.Name] = true
		}
	}
	for _, e := range slices.Clone(d.entries) {
		for name := e.Name; name != "."; {
			if name = path.Dir(name); have[name] {
				continue
			}
			have[name] = true
			if n, err := new.Lookup(name); err == nil && (n.Perm() != 0o755 || n.UID != 0 || n.GID != 0 || n.Xattrs != nil) {
				d.put(name, n)
			}
		}
	}
}

// sortName makes names sort in the order of a walk: everything in a directory right after it.
func sortName(name string) string {
	if name == "." {
		return ""
	}
	return strings.ReplaceAll(name, "/", "\x00")
}

// differ collects the entries of a layer.
type differ struct {
	newLinks map[*Node][]string // names of the new tree's inodes with several of them
	entries  []Entry
	doubtful map[nodePair]struct{} // files that differ in nothing but, perhaps, content

	// inodes holds the new tree's inodes, directories aside, that have a name in the old tree, in order of their first name, and before what stands
	// under each of their names there, nil for nothing.
	inodes []namedInode
	before map[*Node][]*Node
}

type namedInode struct {
	name string
	node *Node
}

// walk compares two directories that stand under the same name.
func (d *differ) walk(name string, old, new *Node) {
	if old == new {
		return
	}
	if attributeDifferences(old, new) != nil {
		d.put(name, new)
	}
	for _, base := range old.Names() {
		if new.Child(base) == nil {
			d.entries = append(d.entries, Entry{Kind: Whiteout, Name: path.Join(name, base)})
		}
	}
	for _, base := range new.Names() {
		sub := path.Join(name, base)
		was, is := old.Child(base), new.children[base]
		switch {
		case is.IsDir() && was != nil && was.IsDir():
			d.walk(sub, was, is)
		case is.IsDir():
			d.putAll(sub, is)
		default:
			d.inode(sub, was, is)
		}
	}
}

func (d *differ) put(name string, n *Node) {
	if n.IsDir() {
		c := *n
		c.children = nil
		n = &c
	}
	d.entries = append(d.entries, Entry{Kind: Put, Name: name, Node: n})
}

// putAll puts a directory that the old tree does not have.
func (d *differ) putAll(name string, n *Node) {
	d.put(name, n)
	for _, base := range n.Names() {
		sub := path.Join(name, base)
		if child := n.children[base]; child.IsDir() {
			d.putAll(sub, child)
		} else {
			d.inode(sub, nil, child)
		}
	}
}

// inode notes what the old tree has under one name of an inode.
func (d *differ) inode(name string, was, is *Node) {
	if _, seen := d.before[is]; !seen {
		d.inodes = append(d.inodes, namedInode{name, is})
	}
	d.before[is] = append(d.before[is], was)
	if was != nil && was.IsRegular() && is.IsRegular() && attributeDifferences(was, is) == nil && !sameFile(was, is) {
		d.doubtful[nodePair{was, is}] = struct{}{}
	}
}

// settle decides which inodes are in the layer: all but those whose names stand for one and the same inode in the old tree as well, equal in
// everything. Of several new inodes that were one before, the first keeps it and the others are new.
func (d *differ) settle(changed map[nodePair]bool) {
	kept := map[*Node]bool{}
	for _, i := range d.inodes {
		was := d.before[i.node]
		same := !slices.ContainsFunc(was, func(n *Node) bool { return n == nil || n != was[0] })
		if same && !kept[was[0]] && attributeDifferences(was[0], i.node) == nil && !changed[nodePair{was[0], i.node}] {
			kept[was[0]] = true
			continue
		}
		names := d.newLinks[i.node]
		if names == nil {
			names = []string{i.name}
		}
		for _, name := range names {
			d.put(name, i.node)
		}
	}
}
