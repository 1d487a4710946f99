package layers

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// Rescan reads a directory that [WriteDir] or [UpdateDir] has written and programs may have changed since. Nothing is left out of it but sockets,
// which the notes name.
//
// What the directory could not hold according to report, which may be nil, is put back from the tree written: entries where nothing is in their place now
// and the directory above them is still there, owners and attributes of files that nobody has written to since.
func Rescan(ctx context.Context, dir string, written *Tree, report *DirReport) (*Tree, []Note, error) {
	tree, notes, err := ScanDir(ctx, dir, ScanOptions{KeepVolatile: true})
	if err != nil || report == nil {
		return tree, notes, err
	}
	for _, u := range report.Unheld {
		old, err := written.Lookup(u.Path)
		if err != nil {
			return nil, nil, fmt.Errorf("reading %s again: its report is not on the tree written: %w", dir, err)
		}
		// The nodes of this tree are nobody else's yet, so they may be changed.
		if u.Entry {
			putBack(tree, u.Path, old)
			continue
		}
		n, err := tree.Lookup(u.Path)
		if err != nil || !untouched(old, n) {
			continue
		}
		if u.Owner {
			restoreOwner(n, old)
			continue
		}
		if value, ok := old.Xattr(u.Xattr); ok {
			restoreXattr(n, Xattr{u.Xattr, value})
		}
	}
	return tree, notes, nil
}

// putBack makes n the entry at name if there is none.
func putBack(tree *Tree, name string, n *Node) {
	parent, err := tree.Lookup(path.Dir(name))
	if err != nil || !parent.IsDir() || parent.Child(path.Base(name)) != nil {
		return
	}
	if parent.children == nil {
		parent.children = map[string]*Node{}
	}
	parent.children[path.Base(name)] = n
}

// untouched reports whether nothing was written to an entry since it was made from old. The time of a directory changes with its entries.
func untouched(old, n *Node) bool {
	return old.Type() == n.Type() && (n.IsDir() || old.Size == n.Size && old.MTime == n.MTime && old.Target == n.Target)
}

// restoreOwner gives n the owner of old if it still belongs to who wrote it, and the bits that went with the owner.
func restoreOwner(n, old *Node) {
	if int(n.UID) != os.Geteuid() || int(n.GID) != os.Getegid() {
		return
	}
	n.UID, n.GID = old.UID, old.GID
	if n.Perm() == old.Perm()&^0o6000 {
		n.Mode = n.Type() | old.Perm()
	}
}

func restoreXattr(n *Node, x Xattr) {
	i, found := slices.BinarySearchFunc(n.Xattrs, x.Name, func(x Xattr, name string) int { return strings.Compare(x.Name, name) })
	if !found {
		n.Xattrs = slices.Insert(n.Xattrs, i, x)
	}
}
