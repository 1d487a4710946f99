package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// furnishTarget gives the tree at [TargetDir] what programs that chroot into it need: the same as in the root directory.
func (s *setup) furnishTarget() error {
	if s.Target == "" {
		return nil
	}
	var mounts []mount
	for _, dir := range []string{"/proc", "/dev", "/sys", binDir} {
		fd, err := take(dir, false)
		if err != nil {
			return fmt.Errorf("taking %s: %w", dir, err)
		}
		mounts = append(mounts, mount{fd: fd, target: dir, dir: true})
	}
	var files []File
	for _, f := range s.Files {
		if path, ok := inTarget(f.Path); ok {
			f.Path = path
			files = append(files, f)
		}
	}
	return within(TargetDir, func() error {
		for dir, perm := range map[string]fs.FileMode{"/proc": 0o755, "/dev": 0o755, "/sys": 0o755, "/run": 0o755, "/tmp": 0o777 | fs.ModeSticky} {
			if err := makeDir(dir, perm); err != nil {
				return err
			}
		}
		if err := mountMemory(); err != nil {
			return err
		}
		for _, m := range append(mounts, s.late...) {
			if err := hang(m); err != nil {
				return err
			}
		}
		if err := writeAll(files); err != nil {
			return err
		}
		return s.placeNamesIn(TargetDir)
	})
}

// makeDir makes a directory with a mode that the process's mask does not change, if there is none.
func makeDir(path string, perm fs.FileMode) error {
	switch err := os.Mkdir(path, perm); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(path, perm)
}

// within does something with another root directory, so that no symbolic link of a tree leads out of it.
func within(dir string, do func() error) (err error) {
	outer, err := os.Open("/")
	if err != nil {
		return err
	}
	defer outer.Close()
	if err := enterRoot(dir); err != nil {
		return err
	}
	defer func() {
		if back := unix.Fchdir(int(outer.Fd())); back != nil {
			err = errors.Join(err, fmt.Errorf("returning from %s: %w", dir, back))
			return
		}
		err = errors.Join(err, enterRoot("."))
	}()
	return do()
}

func enterRoot(dir string) error {
	if err := unix.Chroot(dir); err != nil {
		return fmt.Errorf("entering %s: %w", dir, err)
	}
	return os.Chdir("/")
}
