package layers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// UpdateDir turns the directory dir, which holds the tree from, into one that holds the tree to, and touches nothing else than what
// differs. Files that both trees have keep their inode where content, hard links and type are the same. Contents of to may lie in dir itself.
//
// The report says what dir lacks of to; before is the report on what it lacks of from, nil if it lacks nothing. After an error dir may hold a mixture
// of both trees.
func UpdateDir(ctx context.Context, dir string, from, to *Tree, before *DirReport) (*DirReport, error) {
	w, err := newDirWriter(ctx, dir, nil)
	if err != nil {
		return nil, fmt.Errorf("changing a directory: %w", err)
	}
	defer w.fds.close()
	changes := compareDirs(from, to)
	w.keep(to, changes, before)
	if err := w.update(changes); err != nil {
		return nil, w.explain(err, dir, to)
	}
	return &w.report, nil
}

// dirChanges is what turns one tree into another in a directory.
type dirChanges struct {
	remove   []string    // names to be removed with all below them, before anything is made
	make     []namedNode // new entries in directories that are there already
	metadata []namedNode // files that keep their content
	dirs     []namedNode // directories that stay, but whose metadata is other or must be set again
	kept     []namedNode // entries other than directories that are exactly as they were
	fresh    map[string]bool
}

// compareDirs finds the differences of two trees. Directory nodes that both share are equal with all below them.
func compareDirs(from, to *Tree) *dirChanges {
	c := &dirChanges{fresh: map[string]bool{}}
	c.compare(".", from.Root(), to.Root(), countNames(from), countNames(to))
	return c
}

func countNames(t *Tree) map[*Node]int {
	names := map[*Node]int{}
	_ = t.Walk(func(_ string, n *Node) error {
		if !n.IsDir() {
			names[n]++
		}
		return nil
	})
	return names
}

func (c *dirChanges) compare(name string, from, to *Node, fromNames, toNames map[*Node]int) {
	at := len(c.dirs)
	c.dirs = append(c.dirs, namedNode{name, to})
	touched := !sameMetadata(from, to)
	for _, base := range from.Names() {
		if to.Child(base) == nil {
			c.remove = append(c.remove, path.Join(name, base))
			touched = true
		}
	}
	for _, base := range to.Names() {
		old, n, sub := from.Child(base), to.Child(base), path.Join(name, base)
		switch {
		case old == nil:
			c.add(sub, n)
			touched = true
		case old.IsDir() && n.IsDir():
			if old != n {
				c.compare(sub, old, n, fromNames, toNames)
			} else {
				c.keepAll(sub, n)
			}
		case old == n:
			c.kept = append(c.kept, namedNode{sub, n})
		case old.IsRegular() && n.IsRegular() && fromNames[old] == 1 && toNames[n] == 1 && surelySameBytes(old, n):
			if sameMetadata(old, n) {
				c.kept = append(c.kept, namedNode{sub, n})
			} else {
				c.metadata = append(c.metadata, namedNode{sub, n})
			}
		default:
			c.remove = append(c.remove, sub)
			c.add(sub, n)
			touched = true
		}
	}
	if !touched {
		c.dirs = slices.Delete(c.dirs, at, at+1)
	}
}

func (c *dirChanges) add(name string, n *Node) {
	c.make = append(c.make, namedNode{name, n})
	c.fresh[name] = true
}

// keepAll notes the entries of a directory that both trees share, because a new hard link may lead to one of them.
func (c *dirChanges) keepAll(name string, n *Node) {
	_ = walk(name, n, func(sub string, child *Node) error {
		if !child.IsDir() {
			c.kept = append(c.kept, namedNode{sub, child})
		}
		return nil
	})
}

func sameMetadata(a, b *Node) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.MTime == b.MTime && slices.Equal(a.Xattrs, b.Xattrs)
}

// surelySameBytes reports whether two files surely hold the same bytes and holes, without reading them.
func surelySameBytes(a, b *Node) bool {
	if a.Size != b.Size || !slices.Equal(a.Data, b.Data) || (a.Data == nil) != (b.Data == nil) {
		return false
	}
	if a.DataSize() == 0 {
		return true
	}
	switch content := a.Content.(type) {
	case nil:
		return false
	case Bytes:
		other, ok := b.Content.(Bytes)
		return ok && bytes.Equal(content, other)
	default:
		return reflect.TypeOf(content).Comparable() && content == b.Content
	}
}

// keep prepares the writer: which entries are there, and what is lacking already.
func (w *dirWriter) keep(to *Tree, c *dirChanges, before *DirReport) {
	for _, k := range c.kept {
		if _, ok := w.names[k.node]; !ok {
			w.names[k.node] = k.name
		}
	}
	if before == nil {
		return
	}
	again := map[string]bool{}
	for _, list := range [][]namedNode{c.metadata, c.dirs} {
		for _, n := range list {
			again[n.name] = true
		}
	}
	for _, u := range before.Unheld {
		n, err := to.Lookup(u.Path)
		if err != nil || again[u.Path] || c.isFresh(u.Path) {
			continue
		}
		w.report.Unheld = append(w.report.Unheld, u)
		if u.Entry {
			w.lost[n] = u.Err
		}
	}
}

// isFresh reports whether the entry at name, or a directory above it, is made anew.
func (c *dirChanges) isFresh(name string) bool {
	for name != "." {
		if c.fresh[name] {
			return true
		}
		name = path.Dir(name)
	}
	return false
}

// update makes the changes: first contents are written into a directory aside, since they may come from files that the changes remove.
func (w *dirWriter) update(c *dirChanges) error {
	if files := w.filesToStage(c); len(files) > 0 {
		return w.staged(c, files)
	}
	if err := w.change(c); err != nil {
		return err
	}
	return w.finishChanged(c)
}

// staged makes the changes with the help of a directory that is there meanwhile.
func (w *dirWriter) staged(c *dirChanges, files []*Node) error {
	root := w.fds.root
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return &os.PathError{Op: "stat", Path: "/", Err: err}
	}
	name := ".imgbuild-update-" + strconv.Itoa(os.Getpid())
	err := w.stage(name, files)
	if err == nil {
		err = w.change(c)
	}
	if w.stageFD > 0 {
		_ = unix.Close(w.stageFD)
	}
	if err := joinErrors(err, removeAt(root, name)); err != nil {
		return err
	}
	if err := setTimes(root, Timespec{st.Mtim.Sec, uint32(st.Mtim.Nsec)}); err != nil {
		return &os.PathError{Op: "set the time of", Path: "/", Err: err}
	}
	return w.finishChanged(c)
}

func (w *dirWriter) finishChanged(c *dirChanges) error {
	w.dirs = append(c.dirs, w.dirs...)
	slices.SortFunc(w.dirs, func(a, b namedNode) int { return strings.Compare(a.name, b.name) })
	return w.finishDirs()
}

func joinErrors(first, second error) error {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return fmt.Errorf("%w (and then: %w)", first, second)
}

// filesToStage lists the files with content that are to be made.
func (w *dirWriter) filesToStage(c *dirChanges) []*Node {
	var files []*Node
	w.aside = map[*Node]string{}
	for _, m := range c.make {
		_ = walk(m.name, m.node, func(_ string, n *Node) error {
			_, there := w.names[n]
			if _, listed := w.aside[n]; n.IsRegular() && n.DataSize() > 0 && !there && !listed {
				w.aside[n] = strconv.Itoa(len(files))
				files = append(files, n)
			}
			return nil
		})
	}
	return files
}

// stage writes files into a new directory of the given name.
func (w *dirWriter) stage(name string, files []*Node) error {
	err := removeAt(w.fds.root, name)
	if err == nil {
		err = unix.Mkdirat(w.fds.root, name, 0o700)
	}
	if err == nil {
		w.stageFD, err = unix.Openat(w.fds.root, name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	}
	if err == nil {
		err = openUp(w.stageFD)
	}
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: "/" + name, Err: err}
	}
	return EachContent(w.ctx, files, func(n *Node, data io.Reader) error {
		return w.writeFile(w.stageFD, w.aside[n], path.Join(name, w.aside[n]), n, data)
	})
}

// change removes, makes and alters entries.
func (w *dirWriter) change(c *dirChanges) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	for _, d := range c.dirs {
		fd, err := w.fds.dir(d.name)
		if err == nil {
			err = openUp(fd)
		}
		if err == nil {
			err = dropXattrs(fd, d.node)
		}
		if err != nil {
			return &os.PathError{Op: "prepare", Path: "/" + d.name, Err: err}
		}
	}
	for _, name := range c.remove {
		parent, base, err := w.fds.parent(name)
		if err == nil {
			err = removeAt(parent, base)
		}
		if err != nil {
			return &os.PathError{Op: "remove", Path: "/" + name, Err: err}
		}
	}
	w.fds.forget()
	for _, m := range c.make {
		parent, base, err := w.fds.parent(m.name)
		if err != nil {
			return &os.PathError{Op: "open the directory of", Path: "/" + m.name, Err: err}
		}
		if m.node.IsDir() {
			err = w.makeDir(parent, base, m.name, m.node)
		} else {
			err = w.makeEntry(parent, base, m.name, m.node)
		}
		if err != nil {
			return err
		}
	}
	if err := w.makeLinks(); err != nil {
		return err
	}
	for _, m := range c.metadata {
		if err := w.alter(m); err != nil {
			return &os.PathError{Op: "change", Path: "/" + m.name, Err: err}
		}
	}
	return nil
}

// alter gives a file that is there new metadata: attributes that it no longer has are removed first.
func (w *dirWriter) alter(m namedNode) error {
	parent, base, err := w.fds.parent(m.name)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := dropXattrs(fd, m.node); err != nil {
		return err
	}
	return w.setMetadata(fd, m.name, m.node)
}

// dropXattrs removes the attributes of an open file that n does not have.
func dropXattrs(fd int, n *Node) error {
	list := make([]byte, maxXattrList)
	size, err := unix.Flistxattr(fd, list)
	if err != nil {
		if err == unix.ENOTSUP {
			return nil
		}
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		if _, ok := n.Xattr(name); ok || name == "" {
			continue
		}
		// The system keeps its own label on a file whatever one says.
		if err := unix.Fremovexattr(fd, name); err != nil && err != unix.ENODATA && name != "security.selinux" {
			return fmt.Errorf("removing the attribute %s: %w", name, err)
		}
	}
	return nil
}
