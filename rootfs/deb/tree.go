package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// treeWriter writes into a root tree. All paths are resolved inside of it by the kernel (openat2(2), RESOLVE_IN_ROOT), so that no link leads out.
type treeWriter struct {
	root   int
	dir    int    // the directory that was used last; -1 is none
	name   string // its name
	buffer []byte
}

// openTree opens the root tree in a directory.
func openTree(dir string) (*treeWriter, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", dir, err)
	}
	return &treeWriter{root: fd, dir: -1, buffer: make([]byte, 256<<10)}, nil
}

func (w *treeWriter) close() error {
	w.forget()
	return unix.Close(w.root)
}

// forget closes the directory that was used last: links may have changed where its name leads.
func (w *treeWriter) forget() {
	if w.dir >= 0 {
		_ = unix.Close(w.dir) // it was only read
		w.dir = -1
	}
}

// parent opens the directory that holds name, which is made if it is missing, and returns it with the last part of the name.
func (w *treeWriter) parent(name string) (dir int, base string, err error) {
	parent, base := path.Split(name)
	parent = strings.TrimSuffix(parent, "/")
	if w.dir >= 0 && w.name == parent {
		return w.dir, base, nil
	}
	if parent == "" {
		return w.root, base, nil
	}
	fd, err := w.openDir(parent)
	if errors.Is(err, unix.ENOENT) {
		if err = w.makeDir(parent, 0o755); err == nil {
			fd, err = w.openDir(parent)
		}
	}
	if err != nil {
		return -1, "", fmt.Errorf("opening /%s: %w", parent, err)
	}
	w.forget()
	w.dir, w.name = fd, parent
	return fd, base, nil
}

func (w *treeWriter) openDir(name string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	return unix.Openat2(w.root, name, &how)
}

// put writes what a tar header says, and reports whether it has made something: a directory may have been there.
func (w *treeWriter) put(name string, header *tar.Header, data io.Reader) (made bool, err error) {
	dir, base, err := w.parent(name)
	if err != nil {
		return false, err
	}
	made = true
	switch header.Typeflag {
	case tar.TypeDir:
		made, err = w.putDir(name, dir, base, header)
	case tar.TypeReg:
		err = w.putFile(dir, base, header, data)
	case tar.TypeSymlink:
		err = w.putLink(dir, base, header)
	case tar.TypeLink:
		return true, w.hardLink(name, treeName(header.Linkname))
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		err = w.putNode(dir, base, header)
	default:
		err = fmt.Errorf("it is of a kind that packages do not have (%q)", header.Typeflag)
	}
	if err != nil {
		return false, fmt.Errorf("writing /%s: %w", name, err)
	}
	return made, nil
}

// putDir makes a directory. One that is there, or a link to one, stays as it is.
func (w *treeWriter) putDir(name string, dir int, base string, header *tar.Header) (made bool, err error) {
	err = unix.Mkdirat(dir, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		fd, err := w.openDir(name)
		if err != nil {
			return false, err
		}
		return false, unix.Close(fd)
	}
	if err != nil {
		return false, err
	}
	return true, dress(dir, base, header)
}

func (w *treeWriter) putFile(dir int, base string, header *tar.Header, data io.Reader) (err error) {
	const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, base, flags, 0o600)
	if errors.Is(err, unix.EEXIST) {
		if err := unix.Unlinkat(dir, base, 0); err != nil {
			return err
		}
		fd, err = unix.Openat(dir, base, flags, 0o600)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := w.fill(fd, data); err != nil {
		return err
	}
	if err := unix.Fchown(fd, header.Uid, header.Gid); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(header.Mode)&0o7777); err != nil {
		return err
	}
	return setTime(dir, base, header)
}

// fill copies data into a file.
func (w *treeWriter) fill(fd int, data io.Reader) error {
	for {
		n, err := io.ReadFull(data, w.buffer)
		for part := w.buffer[:n]; len(part) > 0; {
			written, err := unix.Write(fd, part)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			part = part[written:]
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (w *treeWriter) putLink(dir int, base string, header *tar.Header) error {
	err := unix.Symlinkat(header.Linkname, dir, base)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil // as dpkg has it: a directory is not replaced by a link
		}
		if err := unix.Unlinkat(dir, base, 0); err != nil {
			return err
		}
		err = unix.Symlinkat(header.Linkname, dir, base)
	}
	if err != nil {
		return err
	}
	defer w.forget()
	if err := unix.Fchownat(dir, base, header.Uid, header.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return setTime(dir, base, header)
}

// hardLink makes name another name of the file target, which is of the same package.
func (w *treeWriter) hardLink(name, target string) error {
	from, fromBase, err := w.parent(target)
	if err != nil {
		return err
	}
	if from, err = unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return err
	}
	defer unix.Close(from)
	dir, base, err := w.parent(name)
	if err != nil {
		return err
	}
	err = unix.Linkat(from, fromBase, dir, base, 0)
	if errors.Is(err, unix.EEXIST) {
		if err := unix.Unlinkat(dir, base, 0); err != nil {
			return err
		}
		err = unix.Linkat(from, fromBase, dir, base, 0)
	}
	if err != nil {
		return fmt.Errorf("linking /%s to /%s: %w", name, target, err)
	}
	return nil
}

func (w *treeWriter) putNode(dir int, base string, header *tar.Header) error {
	kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[header.Typeflag]
	err := unix.Mknodat(dir, base, kind|0o600, int(unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor))))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return dress(dir, base, header)
}

// dress gives an entry that is no link its owner, mode and time.
func dress(dir int, base string, header *tar.Header) error {
	if err := unix.Fchownat(dir, base, header.Uid, header.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fchmodat(dir, base, uint32(header.Mode)&0o7777, 0); err != nil {
		return err
	}
	return setTime(dir, base, header)
}

// setTime gives an entry its time, if the header has one.
func setTime(dir int, base string, header *tar.Header) error {
	if header.ModTime.IsZero() {
		return nil
	}
	t, err := unix.TimeToTimespec(header.ModTime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

// makeDir makes a directory with those above it.
func (w *treeWriter) makeDir(name string, perm uint32) error {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		part := name[:i]
		fd, err := w.openDir(part)
		if err == nil {
			if err := unix.Close(fd); err != nil {
				return err
			}
			continue
		}
		dir, base, err := w.parent(part)
		if err != nil {
			return err
		}
		if err := unix.Mkdirat(dir, base, perm); err != nil {
			return fmt.Errorf("making /%s: %w", part, err)
		}
		if err := unix.Fchmodat(dir, base, perm, 0); err != nil {
			return err
		}
	}
	return nil
}

// link makes a symbolic link, unless something of its name is there.
func (w *treeWriter) link(target, name string) error {
	dir, base, err := w.parent(name)
	if err != nil {
		return err
	}
	err = unix.Symlinkat(target, dir, base)
	w.forget()
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making /%s: %w", name, err)
	}
	return nil
}

// openFile opens a regular file for reading.
func (w *treeWriter) openFile(name string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(w.root, name, &how)
	if err != nil {
		return nil, fmt.Errorf("reading /%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// readFile reads a file of at most some bytes.
func (w *treeWriter) readFile(name string, most int64) ([]byte, error) {
	file, err := w.openFile(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return nil, errors.Join(err, fmt.Errorf("reading /%s: it is too large, or no file", name))
	}
	return io.ReadAll(file)
}

// readDir returns the names in a directory.
func (w *treeWriter) readDir(name string) ([]string, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(w.root, name, &how)
	if err != nil {
		return nil, fmt.Errorf("reading /%s: %w", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// removeDir removes a directory with the files in it, if there is one.
func (w *treeWriter) removeDir(name string) error {
	names, err := w.readDir(name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, file := range names {
		dir, base, err := w.parent(name + "/" + file)
		if err != nil {
			return err
		}
		if err := unix.Unlinkat(dir, base, 0); err != nil {
			return fmt.Errorf("removing /%s/%s: %w", name, file, err)
		}
	}
	dir, base, err := w.parent(name)
	if err != nil {
		return err
	}
	return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
}

// writeControl writes a control file of a package. Its scripts can be run, whatever the package says.
func (w *treeWriter) writeControl(to string, c *Control, name string) error {
	header := *c.headers[name]
	if slices.Contains([]string{"preinst", "postinst", "prerm", "postrm", "config"}, name) && header.Mode&0o111 == 0 {
		header.Mode |= 0o755
	}
	dir, base, err := w.parent(to)
	if err != nil {
		return err
	}
	if err := w.putFile(dir, base, &header, bytes.NewReader(c.Files[name])); err != nil {
		return fmt.Errorf("writing /%s: %w", to, err)
	}
	return nil
}

// writeFile writes a small file of root's.
func (w *treeWriter) writeFile(name string, data []byte, perm uint32) error {
	dir, base, err := w.parent(name)
	if err != nil {
		return err
	}
	header := &tar.Header{Mode: int64(perm)}
	if err := w.putFile(dir, base, header, bytes.NewReader(data)); err != nil {
		return fmt.Errorf("writing /%s: %w", name, err)
	}
	return nil
}
