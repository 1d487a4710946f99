package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// scratchPrefix begins the names of directories for temporary files.
const scratchPrefix = ".overlay-"

// scratch is a directory for temporary files. As long as its owner lives, it is locked; what a killed run has left is free, and the next run
// in the same place removes it.
type scratch struct {
	dir  string
	lock *os.File
}

// newScratch makes a directory for temporary files in parent, which is made if it is missing, and removes those of killed runs.
func newScratch(parent string) (*scratch, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("making a directory for temporary files: %w", err)
	}
	if err := removeAbandoned(parent); err != nil {
		return nil, fmt.Errorf("removing temporary files of a killed run: %w", err)
	}
	dir, err := os.MkdirTemp(parent, scratchPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a directory for temporary files: %w", err)
	}
	lock, locked, err := lockDir(dir)
	if err != nil || !locked {
		return nil, errors.Join(fmt.Errorf("locking the directory for temporary files %s: %w", dir, err), os.RemoveAll(dir))
	}
	return &scratch{dir, lock}, nil
}

// lockDir locks a directory, and reports false if another process has it.
func lockDir(dir string) (*os.File, bool, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, false, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return file, true, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = nil
	}
	return nil, false, errors.Join(err, file.Close())
}

func removeAbandoned(parent string) error {
	dirs, err := filepath.Glob(filepath.Join(parent, scratchPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		lock, locked, err := lockDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !locked {
			continue
		}
		if err := errors.Join(os.RemoveAll(dir), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the directory with all in it.
func (s *scratch) remove() error { return errors.Join(os.RemoveAll(s.dir), s.lock.Close()) }

// scratchDir returns a directory for temporary files, beside the one that the tree is unpacked into.
func (o *overlay) scratchDir() (string, error) {
	if o.scratch == nil {
		s, err := newScratch(filepath.Dir(o.Dir))
		if err != nil {
			return "", err
		}
		o.scratch = s
	}
	return o.scratch.dir, nil
}
