// Package atomicfile lets files appear under their final name only when they are complete and on the disk.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Write makes the file at path from what fill writes. Readers see the old file or the whole new one, also after a crash. If fill
// fails, the old file stays and nothing is left over. The file's mode is perm without what the umask takes away, as that of any new file.
func Write(path string, perm os.FileMode, fill func(*os.File) error) error {
	dir := filepath.Dir(path)
	temp, err := create(path, perm)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := complete(temp, fill); err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return SyncDir(dir)
}

// create makes a new file beside path, with a name that nobody has.
func create(path string, perm os.FileMode) (*os.File, error) {
	for {
		name := fmt.Sprintf(".%s.%08x.tmp", filepath.Base(path), rand.Uint32())
		f, err := os.OpenFile(filepath.Join(filepath.Dir(path), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

func complete(f *os.File, fill func(*os.File) error) error {
	err := fill(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// SyncDir brings the names in dir to the disk.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}
