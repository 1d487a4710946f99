package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// DirOptions says how [WriteDir] writes.
type DirOptions struct {
	// Overwrite allows a directory that holds something already: directories that are there are kept with what is in them, everything else
	// in the way of the tree is replaced. Without it such a directory is a [*NotEmptyError].
	Overwrite bool

	// Stage, if not nil, is the one made for the directory, which must not exist yet. The tree is written in it and gets its name when it is complete.
	Stage *Stage

	// Progress, if not nil, is called with how many more bytes of file data are written. The sum over all calls is Stats.Data.
	Progress func(n int64)
}

// Unheld is something of a tree that the machine's file system or the rights of the caller could not hold. Exactly one of Entry, Owner and
// Xattr is set.
type Unheld struct {
	Path  string // as trees name it
	Entry bool   // the whole entry: a device node of an ordinary user, a symbolic link too long. Nothing is in its place.
	Owner bool   // its owner; it belongs to the caller, without setuid and setgid bits
	Xattr string // the extended attribute of this name
	Err   error  // what the system said
}

// String is one line for a log.
func (u Unheld) String() string {
	what := "the attribute " + u.Xattr
	switch {
	case u.Entry:
		what = "the entry"
	case u.Owner:
		what = "the owner"
	}
	return fmt.Sprintf("/%s: %s could not be written: %v", u.Path, what, u.Err)
}

// DirReport says what a directory written by [WriteDir] lacks of its tree. [Rescan] puts it back.
type DirReport struct {
	Unheld []Unheld
}

// WriteDir writes a tree into the directory dir, which it makes if it is missing. Owners, modes, times to the nanosecond, extended attributes,
// hard links, holes and devices are as in the tree; what the machine can't hold is in the report and no error. No symbolic link
// below dir is ever followed.
//
// After an error or when ctx ends, what was written so far is removed again, unless opts.Overwrite is set.
func WriteDir(ctx context.Context, dir string, t *Tree, opts DirOptions) (*DirReport, error) {
	at := dir
	if opts.Stage != nil {
		at = filepath.Join(opts.Stage.dir.Name(), "tree")
	}
	made, err := ensureDir(at)
	if err != nil {
		return nil, fmt.Errorf("making the directory to write a tree into: %w", err)
	}
	w, err := newDirWriter(ctx, at, opts.Progress)
	if err != nil {
		return nil, fmt.Errorf("writing a tree: %w", err)
	}
	defer w.fds.close()
	var before unix.Stat_t
	if err := unix.Fstat(w.fds.root, &before); err != nil {
		return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	w.overwrite = opts.Overwrite && opts.Stage == nil
	if !w.overwrite {
		if err := checkEmpty(w.fds.root, dir); err != nil {
			return nil, err
		}
	}
	err = w.writeTree(t)
	if err == nil && at != dir {
		err = os.Rename(at, dir)
	}
	if err != nil {
		err = w.explain(err, dir, t)
		if !w.overwrite {
			err = joinErrors(err, w.undo(at, made, before.Mode))
		}
		return nil, err
	}
	return &w.report, nil
}

// ensureDir makes dir with those above it and reports whether dir itself was missing.
func ensureDir(dir string) (bool, error) {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return false, err
		}
		return true, nil
	}
	if info, statErr := os.Stat(dir); statErr == nil && info.IsDir() {
		return false, nil
	}
	return false, err
}

// dirWriter writes entries below one directory.
type dirWriter struct {
	ctx       context.Context
	fds       *dirFDs
	overwrite bool
	progress  func(int64)
	report    DirReport
	buf       []byte
	noClone   bool // the file system can't make files that share blocks

	names map[*Node]string // the first name of every entry that is not a directory
	lost  map[*Node]error  // entries that could not be made, for their further names
	files []*Node          // files with content, in the order of their names
	links []namedNode
	dirs  []namedNode // parents first

	aside   map[*Node]string // contents that lie in the directory stageFD already, under these names
	stageFD int
}

type namedNode struct {
	name string
	node *Node
}

func newDirWriter(ctx context.Context, dir string, progress func(int64)) (*dirWriter, error) {
	fds, err := openDirFDs(dir)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(int64) {}
	}
	return &dirWriter{
		ctx: ctx, fds: fds, progress: progress, buf: make([]byte, 1<<20),
		names: map[*Node]string{}, lost: map[*Node]error{},
	}, nil
}

// writeTree writes all of a tree: directories and what has no content, then contents in the order in which they are cheapest to
// read, then hard links, and last the metadata of directories, which writing into them would change.
func (w *dirWriter) writeTree(t *Tree) error {
	if err := openUp(w.fds.root); err != nil {
		return &os.PathError{Op: "prepare", Path: "/", Err: err}
	}
	w.dirs = append(w.dirs, namedNode{".", t.Root()})
	if err := w.makeEntries(w.fds.root, ".", t.Root()); err != nil {
		return err
	}
	if err := w.writeContents(); err != nil {
		return err
	}
	if err := w.makeLinks(); err != nil {
		return err
	}
	return w.finishDirs()
}

// openUp makes a directory writable to its owner and takes away what its new entries would inherit.
func openUp(fd int) error {
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return err
	}
	err := unix.Fremovexattr(fd, "system.posix_acl_default")
	if err == unix.ENODATA || err == unix.ENOTSUP {
		return nil
	}
	return err
}

// makeEntries makes what is in the directory n, which is open as fd.
func (w *dirWriter) makeEntries(fd int, name string, n *Node) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	for _, base := range n.Names() {
		child := n.Child(base)
		sub := path.Join(name, base)
		var err error
		if child.IsDir() {
			err = w.makeDir(fd, base, sub, child)
		} else {
			err = w.makeEntry(fd, base, sub, child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *dirWriter) makeDir(parent int, base, name string, n *Node) error {
	err := unix.Mkdirat(parent, base, 0o700)
	kept := false
	if err == unix.EEXIST && w.overwrite {
		var st unix.Stat_t
		if err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			if kept = st.Mode&TypeMask == TypeDir; !kept {
				if err = removeAt(parent, base); err == nil {
					err = unix.Mkdirat(parent, base, 0o700)
				}
			}
		}
	}
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: "/" + name, Err: err}
	}
	w.dirs = append(w.dirs, namedNode{name, n})
	if n.Len() == 0 && !kept {
		return nil
	}
	fd, err := unix.Openat(parent, base, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/" + name, Err: err}
	}
	defer unix.Close(fd)
	if kept {
		err := openUp(fd)
		if err == nil {
			err = dropXattrs(fd, n)
		}
		if err != nil {
			return &os.PathError{Op: "prepare", Path: "/" + name, Err: err}
		}
	}
	return w.makeEntries(fd, name, n)
}

// makeEntry makes an entry that is not a directory, or puts it off if it has content or is a hard link.
func (w *dirWriter) makeEntry(parent int, base, name string, n *Node) error {
	if w.overwrite {
		if err := removeAt(parent, base); err != nil {
			return fmt.Errorf("replacing /%s: %w", name, err)
		}
	}
	if _, ok := w.names[n]; ok {
		w.links = append(w.links, namedNode{name, n})
		return nil
	}
	w.names[n] = name
	if n.IsRegular() {
		if staged, ok := w.aside[n]; ok {
			if err := unix.Renameat(w.stageFD, staged, parent, base); err != nil {
				return &os.PathError{Op: "rename a new file to", Path: "/" + name, Err: err}
			}
			return nil
		}
		if n.DataSize() > 0 {
			moved, err := w.moveStaged(parent, base, name, n)
			if !moved && err == nil {
				w.files = append(w.files, n)
			}
			return err
		}
		return w.writeFile(parent, base, name, n, nil)
	}
	return w.makeSpecial(parent, base, name, n)
}

// writeContents writes the files that have content.
func (w *dirWriter) writeContents() error {
	return EachContent(w.ctx, w.files, func(n *Node, data io.Reader) error {
		name := w.names[n]
		parent, base, err := w.fds.parent(name)
		if err != nil {
			return &os.PathError{Op: "open the directory of", Path: "/" + name, Err: err}
		}
		return w.writeFile(parent, base, name, n, data)
	})
}

func (w *dirWriter) makeLinks() error {
	for _, l := range w.links {
		if err, ok := w.lost[l.node]; ok {
			w.report.Unheld = append(w.report.Unheld, Unheld{Path: l.name, Entry: true, Err: err})
			continue
		}
		first := w.names[l.node]
		from, fromBase, err := w.fds.parent(first)
		if err == nil {
			var to int
			var toBase string
			if to, toBase, err = w.fds.parent(l.name); err == nil {
				err = unix.Linkat(from, fromBase, to, toBase, 0)
			}
		}
		if err != nil {
			return &os.LinkError{Op: "link", Old: "/" + first, New: "/" + l.name, Err: err}
		}
	}
	return nil
}

// finishDirs sets the metadata of directories, those deep down first.
func (w *dirWriter) finishDirs() error {
	for _, d := range slices.Backward(w.dirs) {
		fd, err := w.fds.dir(d.name)
		if err == nil {
			err = w.setMetadata(fd, d.name, d.node)
		}
		if err != nil {
			return &os.PathError{Op: "set the metadata of", Path: "/" + d.name, Err: err}
		}
	}
	return nil
}

// explain says where a tree could not be written, and how much room it needs if there was not enough.
func (w *dirWriter) explain(err error, dir string, t *Tree) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("writing a tree into %s: %w; its files need %d MB", dir, err, (t.Stats().Data+999_999)/1_000_000)
	}
	return fmt.Errorf("writing a tree into %s: %w", dir, err)
}

// undo removes all that was written, and the directory itself if it was made; otherwise it gets its mode back.
func (w *dirWriter) undo(dir string, made bool, mode uint32) error {
	w.fds.forget()
	fd, err := unix.Openat(w.fds.root, ".", unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = removeContents(fd, dir)
	}
	switch {
	case err != nil:
	case made:
		err = os.Remove(dir)
	default:
		err = unix.Fchmod(w.fds.root, mode&PermMask)
	}
	if err != nil {
		return fmt.Errorf("removing what was written: %w", err)
	}
	return nil
}
