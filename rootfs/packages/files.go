package packages

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// LinkOrCopy makes a file available under another name in the same or another file system. The name appears with the whole content or not at all. That it is
// there already is fine.
func LinkOrCopy(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(to), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	if err := errors.Join(out.Chmod(0o644), out.Close(), os.Chtimes(out.Name(), info.ModTime(), info.ModTime())); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}
