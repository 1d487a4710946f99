package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// checkOutside refuses a target directory inside the root tree that an image is made of: each build would take the results of the one before into its image. A
// file system that is mounted in the tree is none of it.
func checkOutside(root, target string) error {
	tree, err := os.Stat(root)
	if err != nil {
		return nil //nolint:nilerr // opening the root tree says so better
	}
	dir, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	for {
		resolved, err := filepath.EvalSymlinks(dir)
		if err == nil {
			dir = resolved
			break
		}
		if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir { // it will be made
			dir = parent
			continue
		}
		return nil //nolint:nilerr // making it says so better
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case err != nil || device(info) != device(tree):
			return nil //nolint:nilerr // it is on another file system, or making it says so better
		case os.SameFile(info, tree):
			return fmt.Errorf("the target directory %s lies inside the root tree %s, so that the results would be in the next image; choose one outside of it", target, root)
		case at == filepath.Dir(at):
			return nil
		}
	}
}

// device tells file systems apart.
func device(info os.FileInfo) uint64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return stat.Dev
}
