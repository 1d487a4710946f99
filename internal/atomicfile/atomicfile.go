// Package atomicfile lets files appear under their final name only when they are complete and on the disk.
package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// Write makes the file at path from what fill writes. Readers see the old file or the whole new one, also after a crash. If fill
// fails, the old file stays and nothing is left over.
func Write(path string, perm os.FileMode, fill func(*os.File) error) error {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := complete(temp, perm, fill); err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return SyncDir(dir)
}

func complete(f *os.File, perm os.FileMode, fill func(*os.File) error) error {
	err := fill(f)
	if err == nil {
		err = f.Chmod(perm)
	}
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
