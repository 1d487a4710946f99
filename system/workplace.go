package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/lockeddir"
)

// ErrInUse says that there is a root tree already where one is to be made, or that another run is at work there.
var ErrInUse = errors.New("it is in use")

// workplace is a hidden directory beside the place of a root tree. The tree is made in it and put in its place when it is complete, so that nothing
// half-done ever has its name.
type workplace struct {
	root string // the place of the tree
	dir  string
	lock *os.File // of dir; nil unless open
	made []string // directories above that were missing, the outermost first
}

// workplaceOf returns the workplace of a root tree. What a symbolic link leads to is the place, and not the link.
func workplaceOf(root string) (*workplace, error) {
	place, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("finding the place of the root tree: %w", err)
	}
	if target, err := filepath.EvalSymlinks(place); err == nil {
		place = target
	}
	var above, there unix.Stat_t
	if unix.Stat(filepath.Dir(place), &above) == nil && unix.Stat(place, &there) == nil && (above.Dev != there.Dev || above.Ino == there.Ino) {
		return nil, fmt.Errorf("making the root tree %s: something is mounted there, so that no other tree can take its place; give a directory in it", root)
	}
	return &workplace{root: place, dir: filepath.Join(filepath.Dir(place), "."+filepath.Base(place)+".imgbuild")}, nil
}

// unpackTo is where the tree is to be made.
func (w *workplace) unpackTo() string { return w.place("root") }

// makePlace is where another tree is to be made, with a directory of its own for what lies beside it meanwhile.
func (w *workplace) makePlace(name string) (string, error) {
	dir := w.place(name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a directory for a root tree: %w", err)
	}
	return filepath.Join(dir, "root"), nil
}

// unpacked reports whether a root tree was made, at any of these places.
func (w *workplace) unpacked() bool {
	places, err := os.ReadDir(w.dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(places, func(e os.DirEntry) bool {
		_, err := os.Lstat(filepath.Join(w.dir, e.Name(), "root"))
		return err == nil || w.place(e.Name()) == w.unpackTo()
	})
}

// place is where something of this name lies until the end of the run.
func (w *workplace) place(name string) string { return filepath.Join(w.dir, name) }

// occupied refuses a place with a root tree in it. An empty directory is no root tree.
func (w *workplace) occupied() (bool, error) {
	entries, err := os.ReadDir(w.root)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking at the place of the root tree: %w", err)
	}
	return true, nil
}

// open makes the hidden directory, keeps others out, and removes what a killed run has left in it.
func (w *workplace) open() error {
	if err := w.makeParents(); err != nil {
		return errors.Join(fmt.Errorf("making a directory for the root tree: %w", err), w.removeParents())
	}
	for w.lock == nil {
		lock, err := w.tryLock()
		if err != nil {
			return errors.Join(err, w.removeParents())
		}
		w.lock = lock
	}
	w.inherit()
	if err := w.empty(); err != nil || len(w.made) == 0 {
		return err
	}
	if err := os.Symlink(strconv.Itoa(len(w.made)), w.place(madeNote)); err != nil {
		return fmt.Errorf("making a directory for the root tree: %w", err)
	}
	return nil
}

// madeNote is a symbolic link in the hidden directory to the number of directories above it that were made for it, for the run after a killed one.
const madeNote = "made"

// inherit takes over the directories above that a killed run has made.
func (w *workplace) inherit() {
	text, err := os.Readlink(w.place(madeNote))
	if err != nil || len(w.made) > 0 {
		return
	}
	count, _ := strconv.Atoi(text) // nothing for nonsense
	for dir := filepath.Dir(w.root); len(w.made) < count && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		w.made = append(w.made, dir)
	}
	slices.Reverse(w.made)
}

func (w *workplace) makeParents() error {
	for dir := filepath.Dir(w.root); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		w.made = append(w.made, dir)
	}
	slices.Reverse(w.made)
	return os.MkdirAll(filepath.Dir(w.root), 0o755)
}

// tryLock makes and locks the hidden directory. It returns nil if another run has removed it meanwhile.
func (w *workplace) tryLock() (*os.File, error) {
	if err := os.Mkdir(w.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making a directory for the root tree: %w", err)
	}
	lock, err := os.Open(w.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the directory for the root tree: %w", err)
	}
	if err := lockeddir.TryLock(lock); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("making the root tree %s: %w by another run of imgbuild; wait for it or give another directory", w.root, ErrInUse)
		}
		return nil, fmt.Errorf("locking %s: %w", w.dir, err)
	}
	locked, err := lock.Stat()
	if err != nil {
		lockeddir.Unlock(lock)
		return nil, fmt.Errorf("locking %s: %w", w.dir, err)
	}
	if there, err := os.Stat(w.dir); err != nil || !os.SameFile(locked, there) {
		lockeddir.Unlock(lock)
		return nil, nil
	}
	return lock, nil
}

// finish puts the tree, if one was made, in its place. One that was there is exchanged for it and goes.
func (w *workplace) finish() error {
	made := w.unpackTo()
	if _, err := os.Lstat(made); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, w.root, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		err = unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, w.root, unix.RENAME_EXCHANGE)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that can't exchange
		err = w.replace(made)
	}
	if err != nil {
		return fmt.Errorf("putting the root tree in its place: %w", &os.LinkError{Op: "rename", Old: made, New: w.root, Err: err})
	}
	return nil
}

// vacate takes away a tree of an earlier run, for which there is no new one.
func (w *workplace) vacate() error {
	if err := os.Rename(w.root, filepath.Join(w.dir, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the root tree of an earlier build: %w", err)
	}
	return nil
}

// replace is finish in two steps.
func (w *workplace) replace(made string) error {
	if err := w.vacate(); err != nil {
		return err
	}
	return os.Rename(made, w.root)
}

// close removes the hidden directory with what is left in it, and the directories above if nothing is in them.
func (w *workplace) close() error {
	if w.lock == nil {
		return nil
	}
	err := w.empty()
	if err == nil {
		err = os.Remove(w.dir)
	}
	lockeddir.Unlock(w.lock)
	w.lock = nil
	return errors.Join(err, w.removeParents())
}

func (w *workplace) empty() error {
	entries, err := os.ReadDir(w.dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(w.dir, e.Name())))
	}
	if err != nil {
		return fmt.Errorf("removing an unfinished root tree: %w", err)
	}
	return nil
}

// removeParents removes the directories that were made and hold nothing.
func (w *workplace) removeParents() error {
	for _, dir := range slices.Backward(w.made) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
				return nil
			}
			return fmt.Errorf("removing an empty directory: %w", err)
		}
	}
	return nil
}
