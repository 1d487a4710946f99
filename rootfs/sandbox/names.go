package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// savedSuffix is added to the name under which a file of the tree waits while another one is in its place. A sandbox that was killed leaves
// it; the next one in the same tree puts it back.
const savedSuffix = ".imgbuild-saved"

// nothing is the target of a symbolic link that waits in the place of an entry that was not there.
const nothing = "imgbuild:nothing"

// policy makes invoke-rc.d start nothing: 101 is "action forbidden by policy" (invoke-rc.d(8)).
const policy = "#!/bin/sh\n# Nothing starts while an image is made.\nexit 101\n"

// placedFile is a file that lies in the tree, and not on a file system of its own, because programs replace and rename it, which a mount would
// forbid. What the tree had there comes back afterwards, unless a program has changed it on purpose.
type placedFile struct {
	path  string
	in    string      // the directory that path is seen from: "/" or [TargetDir]
	saved bool        // the tree had an entry; it waits under its saved name
	info  fs.FileInfo // ours
}

// placeNames lets programs inside resolve host names, and keeps services from starting.
func (s *setup) placeNames() error {
	if !s.ReadOnly {
		return s.placeNamesIn("/")
	}
	for name, data := range s.Names {
		if err := showReadOnly("/etc/"+name, data); err != nil {
			return err
		}
	}
	return nil
}

// showReadOnly shows other content in the place of a file of a read-only tree, if the tree has it. Programs can neither replace nor rename it there.
func showReadOnly(path string, data []byte) error {
	if target, ok := linkIntoMemory(path); ok {
		return writeInMemory(target, data)
	}
	if _, err := os.Stat(path); err != nil {
		return nil //nolint:nilerr // a tree without it, or a link that leads nowhere: there is no place to show it
	}
	shown := namesDir + "/" + filepath.Base(path)
	if err := writeInMemory(shown, data); err != nil {
		return err
	}
	fd, err := take(shown, true)
	if err != nil {
		return fmt.Errorf("showing %s: %w", path, err)
	}
	return hang(mount{fd: fd, target: path})
}

// namesDir holds what is shown in the place of files of a read-only tree.
const namesDir = "/run/imgbuild/names"

// placeNamesIn does it by files in a writable tree, which is the root directory now and is at dir otherwise.
func (s *setup) placeNamesIn(dir string) error {
	if data, ok := s.Names["resolv.conf"]; ok {
		// systemd-resolved's link, dangling or not yet there, leads here.
		for _, name := range []string{"stub-resolv.conf", "resolv.conf"} {
			if err := writeInMemory("/run/systemd/resolve/"+name, data); err != nil {
				return err
			}
		}
		if err := s.place(dir, "/etc/resolv.conf", data, 0o644); err != nil {
			return err
		}
	}
	if data, ok := s.Names["hosts"]; ok {
		if err := s.place(dir, "/etc/hosts", data, 0o644); err != nil {
			return err
		}
	}
	if info, err := os.Stat("/usr/sbin"); err != nil || !info.IsDir() {
		return nil // not a system that could start anything
	}
	return s.place(dir, "/usr/sbin/policy-rc.d", []byte(policy), 0o755)
}

func writeInMemory(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// place puts a file at path until [setup.tidy]. A link into memory is followed, so that the tree stays as it is.
func (s *setup) place(dir, path string, data []byte, perm fs.FileMode) error {
	saved := path + savedSuffix
	if err := putBack(path); err != nil {
		return err
	}
	if target, ok := linkIntoMemory(path); ok {
		return writeInMemory(target, data)
	}
	if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
		return nil // a tree without /etc
	}
	p := placedFile{path: path, in: dir}
	err := os.Rename(path, saved)
	switch {
	case err == nil:
		p.saved = true
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("setting %s aside: %w", path, err)
	default:
		if err := os.Symlink(nothing, saved); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := file.Chmod(perm); err != nil {
		return err
	}
	if p.info, err = file.Stat(); err != nil {
		return err
	}
	s.placed = append(s.placed, p)
	return nil
}

// putBack ends what a killed sandbox could not: it puts the tree's own entry at path back in its place, or takes ours away.
func putBack(path string) error {
	saved := path + savedSuffix
	target, err := os.Readlink(saved)
	switch {
	case err == nil && target == nothing:
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Remove(saved)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return os.Rename(saved, path)
}

// linkIntoMemory reports whether path is a symbolic link to a file that would lie below /run or /tmp, and where.
func linkIntoMemory(path string) (string, bool) {
	target, err := os.Readlink(path)
	if err != nil {
		return "", false
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	target = filepath.Clean(target)
	if rest, ok := strings.CutPrefix(target, "/var/run/"); ok {
		target = "/run/" + rest
	}
	return target, inMemory(target)
}

// tidy brings back what was set aside.
func (s *setup) tidy() error {
	var failed error
	for _, p := range s.placed {
		remove := p.remove
		if p.in != "/" {
			remove = func() error { return within(p.in, p.remove) }
		}
		if err := remove(); err != nil && failed == nil {
			failed = fmt.Errorf("putting %s back: %w", filepath.Join(p.in, p.path), err)
		}
	}
	return failed
}

func (p placedFile) remove() error {
	info, err := os.Lstat(p.path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && !os.SameFile(info, p.info):
		// A program has put another file there: it is the image's own.
		if err := p.reclaim(); err != nil {
			return err
		}
		return os.Remove(p.path + savedSuffix)
	case err == nil && p.changedInPlace(info) && !p.saved:
		return os.Remove(p.path + savedSuffix)
	}
	return putBack(p.path)
}

// changedInPlace reports whether a program has written to our file where the tree had none: then it is the image's own.
func (p placedFile) changedInPlace(now fs.FileInfo) bool {
	return now.Size() != p.info.Size() || !now.ModTime().Equal(p.info.ModTime())
}

// reclaim looks for our file under another name in the same directory, as packages keep a backup of what they replace: the host's settings
// must not become a part of the image. The tree's own entry takes its place there.
func (p placedFile) reclaim() error {
	dir := filepath.Dir(p.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !os.SameFile(info, p.info) {
			continue
		}
		name := filepath.Join(dir, e.Name())
		if !p.saved {
			return os.Remove(name)
		}
		data, err := os.ReadFile(p.path + savedSuffix)
		if err != nil {
			return os.Remove(name) // the tree's own was a link that leads nowhere
		}
		return os.WriteFile(name, bytes.Clone(data), 0o644)
	}
	return nil
}
