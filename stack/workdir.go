package stack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RootDir is where below the target directory the root tree lies unpacked after a build in which programs had to run in it, as in KIWI.
const RootDir = "build/image-root"

// unfinishedRoot is its name before the build is done.
const unfinishedRoot = "build/.image-root"

// ErrTargetInUse says that the target directory holds a root tree of an earlier build, or that another build is at work in it.
var ErrTargetInUse = errors.New("it is in use")

// workdir is the place in a target directory where a build unpacks its root tree.
type workdir struct {
	target string
	lock   *os.File // of the directory above the root tree; nil until open
	made   bool     // the target directory is new
}

// check refuses a target directory with a root tree in it.
func (w *workdir) check(force bool) error {
	root := filepath.Join(w.target, RootDir)
	_, err := os.Lstat(root)
	if errors.Is(err, fs.ErrNotExist) || err == nil && force {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the target directory: %w", err)
	}
	return fmt.Errorf("building into %s: %w: %s is a root tree of an earlier build; give another directory, remove it, or --force to replace it", w.target, ErrTargetInUse, root)
}

// open makes the directory above the root tree, keeps others out, and removes what a killed build left.
func (w *workdir) open() error {
	dir := filepath.Dir(filepath.Join(w.target, RootDir))
	_, err := os.Lstat(w.target)
	w.made = errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the target directory: %w", err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening the target directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("building into %s: %w by another build; wait for it or give another directory", w.target, ErrTargetInUse)
		}
		return fmt.Errorf("locking %s: %w", dir, err)
	}
	w.lock = lock
	return w.removeUnfinished()
}

// unpackTo is where the root tree is to be unpacked.
func (w *workdir) unpackTo() string { return filepath.Join(w.target, unfinishedRoot) }

// finish puts the unpacked root tree, if there is one, in its place. One of an earlier build goes.
func (w *workdir) finish() error {
	root := filepath.Join(w.target, RootDir)
	if err := os.RemoveAll(root); err != nil {
		return fmt.Errorf("replacing the root tree of an earlier build: %w", err)
	}
	if err := os.Rename(w.unpackTo(), root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("putting the root tree in its place: %w", err)
	}
	return nil
}

// close removes an unfinished root tree, and the directories above it if nothing is in them.
func (w *workdir) close() error {
	if w.lock == nil {
		return nil
	}
	err := w.removeUnfinished()
	_ = os.Remove(w.lock.Name()) // it stays where a root tree is in it
	w.lock.Close()
	if w.made {
		_ = os.Remove(w.target) // it stays where there are results
	}
	return err
}

func (w *workdir) removeUnfinished() error {
	if err := os.RemoveAll(w.unpackTo()); err != nil {
		return fmt.Errorf("removing the root tree of an unfinished build: %w", err)
	}
	return nil
}
