package repositories

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
)

// unpackISO unpacks the files of an ISO image into the working directory. The names are those of Rock Ridge or Joliet, where it has them.
func (o *opener) unpackISO(ctx context.Context, r *Repository, path string) *description.Error {
	path, fail := o.localPath(r, path)
	if fail != nil {
		return fail
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no file")}
	}
	if err == nil {
		err = checkISO(path)
	}
	if err != nil {
		return r.Errorf("", "the ISO image of %s can't be read: %v", r.shown(), err)
	}
	dir, err := o.workdir("iso")
	if err != nil {
		return r.Errorf("", "the ISO image of %s can't be unpacked: %v", r.shown(), err)
	}
	// Without stdio: what lies below /dev, also in /dev/shm, is taken for a drive.
	err = command.Run(ctx, command.Cmd{Name: "xorriso", Args: []string{"-no_rc", "-osirrox", "on", "-indev", "stdio:" + path, "-extract", "/", dir}})
	if err == nil {
		err = makeWritable(dir)
	}
	if err != nil {
		return r.Errorf("", "the ISO image of %s can't be unpacked: %v", r.shown(), err)
	}
	r.Local = dir
	return nil
}

// checkISO looks for the first volume descriptor (ECMA-119, section 8.1): for xorriso, a file without one is an empty medium.
func checkISO(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	magic := make([]byte, 5)
	if _, err := file.ReadAt(magic, 16*2048+1); err != nil || string(magic) != "CD001" {
		return errors.New("it has no ISO 9660 file system")
	}
	return nil
}

// copyOut copies a directory or file of a description that lies in a container to the working directory.
func (o *opener) copyOut(name string) (string, error) {
	if o.Files.FS == nil {
		return "", errors.New("the description is not on this machine; use an absolute path")
	}
	name = filepath.Clean(name)
	info, err := fs.Stat(o.Files.FS, name)
	if err != nil {
		return "", err
	}
	dir, err := o.workdir("repository")
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		data, err := fs.ReadFile(o.Files.FS, name)
		if err != nil {
			return "", err
		}
		to := filepath.Join(dir, filepath.Base(name))
		return to, os.WriteFile(to, data, 0o644)
	}
	sub, err := fs.Sub(o.Files.FS, name)
	if err != nil {
		return "", err
	}
	return dir, os.CopyFS(dir, sub)
}

// workdir makes a directory for what has to be unpacked. Users that a package manager's downloads run as can read it.
func (o *opener) workdir(what string) (string, error) {
	if o.Workdir == "" {
		return "", errors.New("there is no working directory")
	}
	dir, err := os.MkdirTemp(o.Workdir, what+"-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// makeWritable lets the directories of a tree be removed by their owner: those of an ISO image are read-only.
func makeWritable(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return os.Chmod(path, 0o755)
	})
}
