// Package lockeddir makes directories for what must not outlive a process: each is locked as long as the process that made it lives, so that the
// next one can tell what a killed one has left, and remove it.
package lockeddir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is a directory of this process. Its file is the open directory.
type Dir struct{ *os.File }

// Make makes a directory in parent whose name begins with prefix.
func Make(parent, prefix string) (*Dir, error) {
	for {
		path, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return nil, err
		}
		d, err := take(path)
		switch {
		case d != nil:
			return d, nil
		case err != nil:
			return nil, errors.Join(err, os.RemoveAll(path))
		}
		// Another process has seen it before it was locked, and taken it for a dead one's.
	}
}

// take opens and locks a directory. The result is nil, without an error, if it is somebody else's or was removed.
func take(path string) (*Dir, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	if err := TryLock(f); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = nil
		}
		return nil, err
	}
	mine, err := f.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Lstat(path); err == nil && os.SameFile(mine, there) {
			return &Dir{f}, nil
		}
	}
	Unlock(f)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return nil, err
}

// Remove removes the directory with all in it.
func (d *Dir) Remove() error {
	err := os.RemoveAll(d.Name())
	Unlock(d.File)
	return err
}

// RemoveStale removes the directories in parent whose names begin with prefix and whose processes are dead.
func RemoveStale(parent, prefix string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		d, err := take(filepath.Join(parent, e.Name()))
		if d != nil {
			err = d.Remove()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// TryLock locks an open file or directory for this process alone, with flock(2). If another one has it, the error is [unix.EWOULDBLOCK].
func TryLock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// Unlock unlocks and closes a file. Closing alone is not enough: a child process that is being started at this moment has the open file too, until it
// becomes another program, and others would find it locked until then.
func Unlock(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // what can be locked can be unlocked
	f.Close()
}
