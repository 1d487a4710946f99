package layers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hostRoot is a directory of this machine that was opened once; all that is read from it is opened below it, so that no symbolic link and no
// renamed directory leads out of it. It is closed when nothing refers to it any more.
type hostRoot struct {
	dir     *os.File
	noOpen2 atomic.Bool // the kernel has no openat2
	// noListAt says that it has no listxattrat.
	noListAt atomic.Bool
}

func openHostRoot(dir string) (*hostRoot, error) {
	if _, err := os.Stat(procFD); err != nil {
		return nil, fmt.Errorf("looking for open files: %w; mount /proc", err)
	}
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &hostRoot{dir: f}, nil
}

// procFD is where the kernel shows the open files of this process.
const procFD = "/proc/self/fd/"

func (r *hostRoot) fd() int { return int(r.dir.Fd()) }

// open opens a name below the root. No symbolic link on the way is followed.
func (r *hostRoot) open(name string, flags int) (int, error) {
	defer runtime.KeepAlive(r)
	flags |= unix.O_CLOEXEC
	if !r.noOpen2.Load() {
		how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
		fd, err := ignoringEINTR(func() (int, error) { return unix.Openat2(r.fd(), name, &how) })
		if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
			return fd, err
		}
		if errors.Is(err, unix.ENOSYS) {
			r.noOpen2.Store(true)
		}
	}
	return r.openStepwise(name, flags)
}

// openStepwise is open for kernels without openat2, one directory after the other.
func (r *hostRoot) openStepwise(name string, flags int) (int, error) {
	at := r.fd()
	defer func() {
		if at != r.fd() {
			unix.Close(at)
		}
	}()
	for {
		part, rest, more := strings.Cut(name, "/")
		if part == ".." {
			return -1, unix.EXDEV
		}
		if !more {
			return ignoringEINTR(func() (int, error) { return unix.Openat(at, part, flags|unix.O_NOFOLLOW, 0) })
		}
		next, err := ignoringEINTR(func() (int, error) {
			return unix.Openat(at, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return -1, err
		}
		if at != r.fd() {
			unix.Close(at)
		}
		at, name = next, rest
	}
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// hasXattrs reports whether an entry has extended attributes, where the kernel tells that without a way through /proc: since Linux 6.13. Few entries have some.
func (r *hostRoot) hasXattrs(dirFD int, base string) bool {
	if r.noListAt.Load() {
		return true
	}
	name, err := unix.BytePtrFromString(base)
	if err != nil {
		return true
	}
	const flags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dirFD), uintptr(unsafe.Pointer(name)), flags, 0, 0, 0)
	if errno == unix.ENOSYS || errno == unix.EPERM { // a sandbox answers so to what it does not know
		r.noListAt.Store(true)
	}
	return errno != 0 || n > 0
}

// xattrs reads the extended attributes of the entry base in the directory dirFD, or of the directory itself if base is empty. There is no
// listxattrat before Linux 6.13, and an O_PATH descriptor has no attributes, so the way leads through /proc, which takes the directory as it was
// opened; the last component is not followed.
func (r *hostRoot) xattrs(dirFD int, base string) ([]Xattr, error) {
	if !r.hasXattrs(dirFD, base) {
		return nil, nil
	}
	place := procFD + strconv.Itoa(dirFD) + "/" + base
	var small [1024]byte
	list := small[:]
	n, err := ignoringEINTR(func() (int, error) { return unix.Llistxattr(place, list) })
	for err == unix.ERANGE {
		list = make([]byte, maxXattrList)
		n, err = ignoringEINTR(func() (int, error) { return unix.Llistxattr(place, list) })
	}
	if err != nil || n == 0 {
		if errors.Is(err, unix.ENOTSUP) {
			err = nil
		}
		return nil, err
	}
	var found []Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		value := make([]byte, 256)
		size, err := unix.Lgetxattr(place, name, value)
		if err == unix.ERANGE {
			value = make([]byte, maxXattrValue)
			size, err = unix.Lgetxattr(place, name, value)
		}
		if errors.Is(err, unix.ENODATA) {
			continue // removed since the names were listed
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found = append(found, Xattr{name, string(value[:size])})
	}
	slices.SortFunc(found, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// hostFile is content that lies in a file of this machine.
type hostFile struct {
	root *hostRoot
	name string
	id   HostID
	data []Extent // as in Node.Data
}

// Open implements [Content].
func (f *hostFile) Open() (io.ReadCloser, error) {
	file, err := f.open()
	if err != nil {
		return nil, err
	}
	r := &hostReader{content: f, file: file, runs: []Extent{{0, f.id.Size}}}
	if f.data != nil {
		r.runs = slices.Clone(f.data)
	}
	return r, nil
}

// hostReader reads the data of a file, and at its end makes sure that it did not change meanwhile.
type hostReader struct {
	content *hostFile
	file    *os.File
	runs    []Extent
}

func (r *hostReader) Read(p []byte) (int, error) {
	if len(r.runs) == 0 {
		return 0, io.EOF
	}
	run := &r.runs[0]
	n, err := r.file.ReadAt(p[:min(int64(len(p)), run.Length)], run.Offset)
	if err == io.EOF && n == 0 {
		return 0, r.content.changed()
	}
	if err != nil && err != io.EOF {
		return n, err
	}
	run.Offset += int64(n)
	run.Length -= int64(n)
	if run.Length == 0 {
		if r.runs = r.runs[1:]; len(r.runs) == 0 {
			return n, r.content.check(r.file)
		}
	}
	return n, nil
}

func (r *hostReader) Close() error { return r.file.Close() }

// open opens the file and makes sure that it is still the one that was found, and unchanged.
func (f *hostFile) open() (*os.File, error) {
	fd, err := f.root.open(f.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			return nil, f.changed()
		}
		return nil, &os.PathError{Op: "open", Path: f.path(), Err: err}
	}
	file := os.NewFile(uintptr(fd), f.path())
	if err := f.check(file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (f *hostFile) path() string { return f.root.dir.Name() + "/" + f.name }

// ChangedError says that a file of this machine is not the one any more that was found when its directory was scanned.
type ChangedError struct{ Path string }

// Error implements error.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("reading %s: it was changed after the directory had been listed; run this again when nothing writes there", e.Path)
}

func (f *hostFile) changed() error { return &ChangedError{Path: f.path()} }

// check compares the open file with what was found.
func (f *hostFile) check(file *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: f.path(), Err: err}
	}
	mtime := Timespec{st.Mtim.Sec, uint32(st.Mtim.Nsec)}
	if st.Dev != f.id.Dev || st.Ino != f.id.Ino || st.Size != f.id.Size || mtime != f.id.MTime {
		return f.changed()
	}
	return nil
}

// extents finds where a sparse file has data; nil if all of it is.
func (f *hostFile) extents() ([]Extent, error) {
	file, err := f.open()
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, nil // reading it will fail later, where it is needed
		}
		return nil, err
	}
	defer file.Close()
	list := []Extent{}
	for at := int64(0); at < f.id.Size; {
		start, err := unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // a hole up to the end
		}
		if err == unix.EINVAL && at == 0 {
			return nil, nil // the file system knows no holes
		}
		if err != nil {
			return nil, &os.PathError{Op: "seek", Path: f.path(), Err: err}
		}
		if at, err = unix.Seek(int(file.Fd()), start, unix.SEEK_HOLE); err != nil {
			return nil, &os.PathError{Op: "seek", Path: f.path(), Err: err}
		}
		at = min(at, f.id.Size)
		if at > start {
			list = append(list, Extent{start, at - start})
		}
	}
	if len(list) == 1 && list[0] == (Extent{0, f.id.Size}) {
		return nil, nil
	}
	return list, nil
}
