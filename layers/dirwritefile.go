package layers

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// writeFile makes a regular file with its content and metadata. data may be nil if the file holds none.
func (w *dirWriter) writeFile(parent int, base, name string, n *Node, data io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: "/" + name, Err: err}
	}
	err = w.fill(fd, n, data)
	if err == nil {
		err = w.setMetadata(fd, name, n)
	}
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err != nil {
		return &os.PathError{Op: "write", Path: "/" + name, Err: err}
	}
	return nil
}

// fill writes the data of n to where it belongs. What is not written stays a hole.
func (w *dirWriter) fill(fd int, n *Node, data io.Reader) error {
	if n.Size == 0 {
		return nil
	}
	if r, ok := data.(*hostReader); ok {
		if done, err := w.clone(fd, n, r); done || err != nil {
			return err
		}
	}
	if n.Data == nil {
		return w.copyAt(fd, 0, n.Size, data)
	}
	for _, e := range n.Data {
		if err := w.copyAt(fd, e.Offset, e.Length, data); err != nil {
			return err
		}
	}
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Ftruncate(fd, n.Size) })
	return err
}

// clone makes the file share its blocks with a file of this machine, on file systems that can: xfs, btrfs and others. Elsewhere
// copy_file_range(2) was tried and took as long as reading and writing.
func (w *dirWriter) clone(fd int, n *Node, from *hostReader) (bool, error) {
	if w.noClone || unix.IoctlFileClone(fd, int(from.file.Fd())) != nil {
		// Where it is not possible for one file, it mostly is for none.
		w.noClone = true
		return false, nil
	}
	if err := from.content.check(from.file); err != nil {
		return false, err
	}
	w.progress(n.DataSize())
	return true, nil
}

// copyAt copies length bytes of data to an offset of the file.
func (w *dirWriter) copyAt(fd int, offset, length int64, data io.Reader) error {
	out := fileWriter{w: w, fd: fd, offset: offset, left: length}
	if direct, ok := data.(*contentReader); ok && len(direct.runs) == 1 && direct.runs[0].Length == length {
		// The bytes go to the file from where they were decompressed.
		if _, err := direct.WriteTo(&out); err != nil {
			return err
		}
	} else if _, err := io.CopyBuffer(&out, io.LimitReader(data, length), w.buf); err != nil {
		return err
	}
	if out.left != 0 {
		return fmt.Errorf("its content ends %d bytes early: %w", out.left, io.ErrUnexpectedEOF)
	}
	return nil
}

// fileWriter writes one run of bytes of an open file.
type fileWriter struct {
	w            *dirWriter
	fd           int
	offset, left int64
}

func (f *fileWriter) Write(p []byte) (int, error) {
	if f.w.ctx.Err() != nil {
		return 0, context.Cause(f.w.ctx)
	}
	if err := writeAllAt(f.fd, p, f.offset); err != nil {
		return 0, err
	}
	n := int64(len(p))
	f.offset += n
	f.left -= n
	f.w.progress(n)
	return len(p), nil
}

func writeAllAt(fd int, p []byte, offset int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		p = p[n:]
		offset += int64(n)
	}
	return nil
}

// makeSpecial makes a symbolic link, a device or a fifo. One that the caller may not make, or the file system can't hold, goes into the report.
func (w *dirWriter) makeSpecial(parent int, base, name string, n *Node) error {
	var err error
	switch n.Type() {
	case TypeSymlink:
		err = unix.Symlinkat(n.Target, parent, base)
	case TypeFIFO:
		err = unix.Mknodat(parent, base, TypeFIFO|0o600, 0)
	case TypeChar, TypeBlock:
		err = unix.Mknodat(parent, base, n.Type()|0o600, int(unix.Mkdev(n.Major, n.Minor)))
	default:
		return fmt.Errorf("writing /%s: a %s can't be in a tree", name, TypeName(n.Mode))
	}
	if cannotHold(n, err) {
		w.lost[n] = err
		w.report.Unheld = append(w.report.Unheld, Unheld{Path: name, Entry: true, Err: err})
		return nil
	}
	if err == nil {
		err = w.setMetadataAt(parent, base, name, n)
	}
	if err != nil {
		return &os.PathError{Op: "make " + TypeName(n.Mode), Path: "/" + name, Err: err}
	}
	return nil
}

// cannotHold reports whether the error of making an entry says that it can't be here at all. Of xfs, device numbers have 18 bits for the minor
// one, and symbolic links 1024 bytes.
func cannotHold(n *Node, err error) bool {
	if n.IsDevice() {
		return err == unix.EPERM || err == unix.EACCES || err == unix.EINVAL
	}
	return n.IsSymlink() && err == unix.ENAMETOOLONG
}

// setMetadata gives an open file or directory its owner, attributes, mode and time: in this order, since a change of owner takes
// capabilities and setuid away, an ACL changes the mode, and all of them but the last would need the time to be set again.
func (w *dirWriter) setMetadata(fd int, name string, n *Node) error {
	mode, err := w.checkOwner(unix.Fchown(fd, int(n.UID), int(n.GID)), name, n)
	if err != nil {
		return err
	}
	for _, x := range n.Xattrs {
		if err := w.checkXattr(unix.Fsetxattr(fd, x.Name, []byte(x.Value), 0), name, x.Name); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	return setTimes(fd, n.MTime)
}

// setMetadataAt is setMetadata for an entry that can't be opened.
func (w *dirWriter) setMetadataAt(parent int, base, name string, n *Node) error {
	mode, err := w.checkOwner(unix.Fchownat(parent, base, int(n.UID), int(n.GID), unix.AT_SYMLINK_NOFOLLOW), name, n)
	if err != nil {
		return err
	}
	for _, x := range n.Xattrs {
		if err := w.checkXattr(unix.Lsetxattr(procPath(parent, base), x.Name, []byte(x.Value), 0), name, x.Name); err != nil {
			return err
		}
	}
	if !n.IsSymlink() {
		if err := unix.Fchmodat(parent, base, mode, 0); err != nil {
			return err
		}
	}
	return setTimesAt(parent, base, n.MTime)
}

// checkOwner judges the result of a chown and returns the mode that is safe then.
func (w *dirWriter) checkOwner(err error, name string, n *Node) (uint32, error) {
	switch err {
	case nil:
		return n.Perm(), nil
	case unix.EPERM, unix.EINVAL, unix.EOVERFLOW:
		// EINVAL: the user namespace has no such id. A setuid file must not become one of the caller.
		w.report.Unheld = append(w.report.Unheld, Unheld{Path: name, Owner: true, Err: err})
		return n.Perm() &^ 0o6000, nil
	}
	return 0, fmt.Errorf("setting the owner %d:%d: %w", n.UID, n.GID, err)
}

// checkXattr judges the result of setting an attribute.
func (w *dirWriter) checkXattr(err error, name, attr string) error {
	switch err {
	case nil:
		return nil
	case unix.EPERM, unix.EACCES, unix.ENOTSUP, unix.EINVAL, unix.E2BIG, unix.ERANGE:
	case unix.ENOSPC:
		// An ext file system says so of a value too large for it, with gigabytes to spare. On a full disk, writing files fails too.
	default:
		return fmt.Errorf("setting the attribute %s: %w", attr, err)
	}
	w.report.Unheld = append(w.report.Unheld, Unheld{Path: name, Xattr: attr, Err: err})
	return nil
}
