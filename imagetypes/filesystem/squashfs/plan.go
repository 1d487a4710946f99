package squashfs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// inode is one file of any kind. A tree's node is an inode, whatever its names.
type inode struct {
	node      *layers.Node
	number    uint32 // counted from 1
	links     uint32
	written   bool
	reference reference
	uid, gid  uint16 // indices in the table of owners
	mtime     uint32
	xattrs    uint32   // index in the table of extended attributes, noXattrs for none
	content   *content // of a regular file
	dir       *directory
}

// directory is what makes a directory of an inode.
type directory struct {
	*inode
	parent  *directory // nil of the top directory
	names   []string   // in byte order
	entries []*inode
	subdirs uint32

	// Where the listing is, once it is written.
	start  uint32
	offset uint16
	length int64
	index  []indexEntry
}

// plan is everything but the contents.
type plan struct {
	Options
	tree     *layers.Tree
	dirs     []*directory // what is in a directory before the directory; the top directory last
	inodes   uint32
	contents []*content // in the order in which they are written
	ids      ids
	xattrs   xattrs
	notes    []layers.Note

	fragments []fragment
	fractions bool // times have more than seconds
}

// newPlan finds inodes and numbers them. Inodes of one directory follow each other, so that a listing needs few headers and listing a directory with all
// attributes reads little.
func newPlan(tree *layers.Tree, o Options) (*plan, error) {
	p := &plan{Options: o, tree: tree, ids: ids{index: map[uint32]uint16{}}, xattrs: newXattrs()}
	known := map[*layers.Node]*inode{}
	root := &directory{inode: &inode{node: tree.Root()}}
	root.dir = root
	if err := p.fit("", root.inode); err != nil {
		return nil, err
	}
	if err := p.descend("", root, known); err != nil {
		return nil, err
	}
	together(p.contents)
	for _, d := range p.dirs {
		for _, in := range d.entries {
			if in.number == 0 {
				p.inodes++
				in.number = p.inodes
			}
		}
	}
	p.inodes++
	root.number, root.links = p.inodes, root.subdirs+2
	if p.fractions {
		p.notes = append(p.notes, WholeSeconds())
	}
	return p, nil
}

// together puts contents into the order in which they compress well: that of their paths, but for translated messages. Those of one program are
// alike in all languages, which have a directory each, so they come last, program by program.
func together(contents []*content) {
	key := func(c *content) string {
		if strings.HasSuffix(c.path, ".mo") {
			return c.path[strings.LastIndexByte(c.path, '/'):]
		}
		return ""
	}
	slices.SortStableFunc(contents, func(a, b *content) int { return strings.Compare(key(a), key(b)) })
}

// descend finds the inodes below a directory; its path ends with a slash, but for the top directory.
func (p *plan) descend(path string, d *directory, known map[*layers.Node]*inode) error {
	d.names = d.node.Names()
	d.entries = make([]*inode, len(d.names))
	for i, name := range d.names {
		if len(name) > maxName {
			return fmt.Errorf("the name of /%s%s has %d bytes, and squashfs can hold %d", path, name, len(name), maxName)
		}
		n := d.node.Child(name)
		in := known[n]
		if in == nil {
			in = &inode{node: n}
			if err := p.fit(path+name, in); err != nil {
				return err
			}
			switch {
			case n.IsDir():
				d.subdirs++
				in.dir = &directory{inode: in, parent: d}
				if err := p.descend(path+name+"/", in.dir, known); err != nil {
					return err
				}
				in.links = in.dir.subdirs + 1 // and the one below
			default:
				known[n] = in
				if n.IsRegular() {
					in.content = &content{node: n, path: "/" + path + name, fragment: noFragment}
					p.contents = append(p.contents, in.content)
				}
			}
		}
		in.links++
		d.entries[i] = in
	}
	p.dirs = append(p.dirs, d)
	return nil
}

// fit decides about what a squashfs may not be able to hold of a node.
func (p *plan) fit(path string, in *inode) error {
	n, texts := Fit(in.node)
	for _, text := range texts {
		p.notes = append(p.notes, layers.Note{Path: "/" + path, Text: text})
	}
	p.fractions = p.fractions || n.MTime.Nsec != 0
	in.mtime, in.xattrs = uint32(n.MTime.Sec), noXattrs
	if len(n.Xattrs) > 0 && !p.NoXattrs {
		in.xattrs = p.xattrs.add(n.Xattrs)
	}
	uid, gid := n.UID, n.GID
	if p.UID != nil {
		uid = *p.UID
	}
	if p.GID != nil {
		gid = *p.GID
	}
	var okUID, okGID bool
	in.uid, okUID = p.ids.add(uid)
	in.gid, okGID = p.ids.add(gid)
	if !okUID || !okGID {
		return fmt.Errorf("the tree has files of more than %d different owners and groups, and squashfs can hold no more; use erofs or ext4", MaxIDs)
	}
	return nil
}

// maxName is the longest name in bytes (SQUASHFS_NAME_LEN).
const maxName = 256

// MaxTime is the latest time: 32 bits without a sign, in seconds since 1970. The earliest is 1970.
const MaxTime = 1<<32 - 1

// Fit returns a node as a squashfs can hold it, and in words what is different. A node that it can hold is returned itself. That times are cut to
// seconds does not count.
func Fit(n *layers.Node) (*layers.Node, []string) {
	var texts []string
	fit := *n
	if fit.MTime.Sec = min(max(n.MTime.Sec, 0), MaxTime); fit.MTime.Sec != n.MTime.Sec {
		fit.MTime.Nsec = 0
		texts = append(texts, fmt.Sprintf("time of last change %s set to %s: squashfs holds no other",
			n.MTime.Time().Format("2006-01-02"), fit.MTime.Time().Format("2006-01-02")))
	}
	fit.Xattrs = nil
	for _, x := range n.Xattrs {
		if space, _, _ := strings.Cut(x.Name, "."); slices.Contains(xattrSpaces[:], space) {
			fit.Xattrs = append(fit.Xattrs, x)
			continue
		}
		texts = append(texts, fmt.Sprintf("%s left out: squashfs holds no such attribute", x.Name))
	}
	if texts == nil {
		return n, nil
	}
	return &fit, texts
}

// WholeSeconds is what is to be said of a tree whose times have fractions of seconds.
func WholeSeconds() layers.Note {
	return layers.Note{Path: "/", Text: "times are kept in whole seconds"}
}
