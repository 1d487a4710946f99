package layers

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// MergeRule says what happens where a directory of a later tree lands on a symbolic link of an earlier one.
type MergeRule int

const (
	// RuleFollow keeps a symbolic link that leads to a directory and puts what the later tree has into that directory, so that a tree with a
	// directory /lib does not destroy one where /lib is a link to usr/lib.
	RuleFollow MergeRule = iota
	// RuleRsync puts the directory in the place of the link, as rsync does.
	RuleRsync
)

// String returns the rule's name on the command line.
func (r MergeRule) String() string {
	if r == RuleRsync {
		return "rsync"
	}
	return "follow"
}

// MergeOptions says how [Merge] works.
type MergeOptions struct {
	Rule MergeRule
}

// ClashKind says what happened where two trees hold different things under one name.
type ClashKind int

const (
	// ClashReplaced is a file, link or device that a later tree replaced with one of the same type but other content or attributes.
	ClashReplaced ClashKind = iota
	// ClashType is an entry that a later tree replaced with one of another type.
	ClashType
	// ClashFollowed is a directory of a later tree that went through a symbolic link of an earlier one ([RuleFollow]).
	ClashFollowed
	// ClashKept is a directory that a later tree's entry of another type could not replace, because it is not empty; the directory stays.
	ClashKept
)

// String names the kind in plain words.
func (k ClashKind) String() string {
	switch k {
	case ClashReplaced:
		return "replaced"
	case ClashType:
		return "type changed"
	case ClashFollowed:
		return "link followed"
	case ClashKept:
		return "directory kept"
	}
	return fmt.Sprintf("clash %d", int(k))
}

// MarshalText makes the kind readable in JSON.
func (k ClashKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Clash is one name that two trees of a merge hold in different forms. Directories that differ in attributes alone are none.
type Clash struct {
	Path string    `json:"path"` // as trees use it
	Kind ClashKind `json:"kind"`
	From int       `json:"from"` // which tree, counted from 0, held it before
	Took int       `json:"took"` // which tree came later
	Text string    `json:"text"` // the two types or the target of the link, for people
}

// Merge stacks trees, the first one lowest, by the rules of rsync --archive --hard-links --acls --xattrs run on each of them in order into one directory:
// a later entry wins, nothing is deleted, attributes of directories are those of the last tree that has them.
//
//   - A directory replaces anything that is no directory (with [RuleFollow], anything but a symbolic link to a directory).
//   - Something else replaces an empty directory. One that is not empty stays, as rsync without --force leaves it, and is a clash.
//   - A file of the same size and modification second is taken as the same file that got new attributes: it stays linked to
//     its other names, and these get the attributes too. With RuleRsync it also keeps its content, as rsync's quick check has it; with RuleFollow it gets
//     that of the later tree.
//   - Hard links of a tree become hard links of the result.
//
// Clashes are sorted by path, those of one path in the order they happened. An error is a fault in the call.
func Merge(trees []*Tree, opts MergeOptions) (*Tree, []Clash, error) {
	if len(trees) == 0 {
		return nil, nil, fmt.Errorf("merging trees: there are none")
	}
	m := &merger{rule: opts.Rule, root: &mergeNode{node: trees[0].root}}
	for i, t := range trees {
		m.tree, m.linked = i, map[*Node]*mergeNode{}
		m.mergeDir(".", []*mergeNode{m.root}, t.root)
	}
	slices.SortStableFunc(m.clashes, func(a, b Clash) int { return strings.Compare(a.Path, b.Path) })
	return &Tree{root: m.build(m.root, map[*Node]*mergeNode{}, map[*mergeNode]*Node{})}, m.clashes, nil
}

// merger holds the tree as merged so far.
type merger struct {
	rule    MergeRule
	root    *mergeNode
	tree    int                  // which tree is being put on top
	linked  map[*Node]*mergeNode // what its inodes with several names became
	clashes []Clash
}

// mergeNode is an inode of the merged tree. Several names that hold the same one are hard links.
type mergeNode struct {
	node     *Node // its attributes and content; children do not count
	from     int
	children map[string]*mergeNode
}

func (m *merger) clash(name string, kind ClashKind, old *mergeNode, text string) {
	m.clashes = append(m.clashes, Clash{Path: name, Kind: kind, From: old.from, Took: m.tree, Text: text})
}

// mergeDir puts a directory of the tree on top of the last of at, the directories from the root down to it.
func (m *merger) mergeDir(name string, at []*mergeNode, n *Node) {
	dir := at[len(at)-1]
	if dir.children == nil {
		dir.children = make(map[string]*mergeNode, len(n.children))
	}
	// rsync does the files of a directory before the directories in it.
	names := n.Names()
	for _, base := range names {
		if child := n.children[base]; !child.IsDir() {
			m.mergeFile(path.Join(name, base), dir, base, child)
		}
	}
	for _, base := range names {
		if child := n.children[base]; child.IsDir() {
			m.mergeSub(path.Join(name, base), at, base, child)
		}
	}
	dir.node, dir.from = n, m.tree
}

// mergeSub puts a directory of the tree into the last of at.
func (m *merger) mergeSub(name string, at []*mergeNode, base string, n *Node) {
	dir := at[len(at)-1]
	old := dir.children[base]
	switch {
	case old == nil:
	case old.node.IsDir():
		m.mergeDir(name, append(at[:len(at):len(at)], old), n)
		return
	case old.node.IsSymlink() && m.rule == RuleFollow:
		if target := m.resolve(at, old.node.Target, new(int)); target != nil {
			m.clash(name, ClashFollowed, old, old.node.Target)
			m.mergeDir(name, target, n)
			return
		}
		fallthrough
	default:
		m.clash(name, ClashType, old, TypeName(old.node.Mode)+" by directory")
	}
	sub := &mergeNode{node: n, from: m.tree}
	dir.children[base] = sub
	m.mergeDir(name, append(at[:len(at):len(at)], sub), n)
}

// mergeFile puts anything but a directory into a directory.
func (m *merger) mergeFile(name string, dir *mergeNode, base string, n *Node) {
	old := dir.children[base]
	if old != nil && old.node.IsDir() && len(old.children) > 0 {
		m.clash(name, ClashKept, old, "directory, not replaced by "+TypeName(n.Mode))
		return
	}
	put := m.linked[n]
	if put == nil {
		put = &mergeNode{node: n, from: m.tree}
		if old != nil && m.sameInode(old.node, n) {
			put = old
		}
		m.linked[n] = put
	}
	switch {
	case old == nil:
	case old.node.Type() != n.Type():
		m.clash(name, ClashType, old, TypeName(old.node.Mode)+" by "+TypeName(n.Mode))
	case old != put && old.from == m.tree:
		// RuleFollow led two names of this tree to one place.
	case !sameAttributes(old.node, n) || old != put && old.node.IsRegular() && !m.sameInode(old.node, n):
		m.clash(name, ClashReplaced, old, TypeName(n.Mode))
	}
	if put == old {
		put.node = m.attributes(old.node, n)
		put.from = m.tree
	}
	dir.children[base] = put
}

// sameInode reports whether rsync would change what is there rather than replace it.
func (m *merger) sameInode(old, n *Node) bool {
	if old.Type() != n.Type() {
		return false
	}
	switch n.Type() {
	case TypeRegular:
		return old.Size == n.Size && old.MTime.Sec == n.MTime.Sec
	case TypeSymlink:
		return old.Target == n.Target
	case TypeChar, TypeBlock:
		return old.Major == n.Major && old.Minor == n.Minor
	}
	return true
}

// attributes returns the node that old becomes when it gets the attributes of n.
func (m *merger) attributes(old, n *Node) *Node {
	if m.rule == RuleFollow || !n.IsRegular() || old == n {
		return n
	}
	c := *n
	c.Content, c.Data, c.Host = old.Content, old.Data, old.Host
	return &c
}

// sameAttributes compares all but contents and children.
func sameAttributes(a, b *Node) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.MTime == b.MTime && a.Size == b.Size && a.Target == b.Target &&
		a.Major == b.Major && a.Minor == b.Minor && slices.Equal(a.Xattrs, b.Xattrs)
}

// resolve follows a symbolic link that lies in the last of at, and returns the directories from the root down to where it leads; nil if that is no
// directory.
func (m *merger) resolve(at []*mergeNode, target string, links *int) []*mergeNode {
	if *links++; *links > maxSymlinks {
		return nil
	}
	at = slices.Clone(at)
	if strings.HasPrefix(target, "/") {
		at = at[:1]
	}
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		next := at[len(at)-1].children[part]
		switch {
		case next == nil:
			return nil
		case next.node.IsSymlink():
			if at = m.resolve(at, next.node.Target, links); at == nil {
				return nil
			}
		case next.node.IsDir():
			at = append(at, next)
		default:
			return nil
		}
	}
	return at
}

// build makes nodes out of what was merged. used says which merged inode has a node already, since a node may only stand for one of them.
func (m *merger) build(n *mergeNode, used map[*Node]*mergeNode, built map[*mergeNode]*Node) *Node {
	if done := built[n]; done != nil {
		return done
	}
	out := n.node
	if n.node.IsDir() {
		c := *n.node
		c.children = make(map[string]*Node, len(n.children))
		for name, child := range n.children {
			c.children[name] = m.build(child, used, built)
		}
		out = &c
	} else if other := used[out]; other != nil && other != n {
		c := *out
		out = &c
	} else {
		used[out] = n
	}
	built[n] = out
	return out
}
