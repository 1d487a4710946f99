package layers

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirFDs opens directories below one directory without ever following a symbolic link, whoever made it, and keeps the ones used last
// open.
type dirFDs struct {
	root  int
	open  map[string]int
	order []string // of the entries in open, oldest first
}

// maxOpenDirs bounds how many directories are kept open.
const maxOpenDirs = 128

// openDirFDs opens the directory at dir, which the caller names and may reach through symbolic links.
func openDirFDs(dir string) (*dirFDs, error) {
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return &dirFDs{root: fd, open: map[string]int{}}, nil
}

func (d *dirFDs) close() {
	d.forget()
	_ = unix.Close(d.root)
}

// forget closes all directories but the root.
func (d *dirFDs) forget() {
	for _, fd := range d.open {
		_ = unix.Close(fd)
	}
	clear(d.open)
	d.order = d.order[:0]
}

// dir returns the directory at name, which stays open until some other directories were asked for.
func (d *dirFDs) dir(name string) (int, error) {
	if name == "." || name == "" {
		return d.root, nil
	}
	if fd, ok := d.open[name]; ok {
		return fd, nil
	}
	fd, err := openBeneath(d.root, name)
	if err != nil {
		return -1, err
	}
	if len(d.order) == maxOpenDirs {
		half := maxOpenDirs / 2
		for _, old := range d.order[:half] {
			_ = unix.Close(d.open[old])
			delete(d.open, old)
		}
		d.order = append(d.order[:0], d.order[half:]...)
	}
	d.open[name] = fd
	d.order = append(d.order, name)
	return fd, nil
}

// parent returns the directory that name lies in, and the last component of name.
func (d *dirFDs) parent(name string) (int, string, error) {
	dir, base := path.Split(name)
	fd, err := d.dir(strings.TrimSuffix(dir, "/"))
	return fd, base, err
}

// openBeneath opens a directory below another, no component of whose name may be a symbolic link.
func openBeneath(root int, name string) (int, error) {
	const flags = unix.O_DIRECTORY | unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err == nil || err != unix.ENOSYS && err != unix.EPERM && err != unix.ENAMETOOLONG {
		return fd, err
	}
	// A kernel before 5.6, a sandbox that does not know the call, or a path longer than one call takes.
	return openStepwise(root, name)
}

// openStepwise is openBeneath component by component.
func openStepwise(root int, name string) (int, error) {
	const flags = unix.O_DIRECTORY | unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW
	at := root
	for part := range strings.SplitSeq(name, "/") {
		next, err := unix.Openat(at, part, flags, 0)
		if at != root {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

// setTimes sets the modification time of an open file; the access time becomes the same.
func setTimes(fd int, t Timespec) error {
	ts := [2]unix.Timespec{{Sec: t.Sec, Nsec: int64(t.Nsec)}, {Sec: t.Sec, Nsec: int64(t.Nsec)}}
	// utimensat without a path is futimens(3).
	if _, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// setTimesAt is setTimes for an entry of a directory, a symbolic link included.
func setTimesAt(dir int, base string, t Timespec) error {
	ts := []unix.Timespec{{Sec: t.Sec, Nsec: int64(t.Nsec)}, {Sec: t.Sec, Nsec: int64(t.Nsec)}}
	return unix.UtimesNanoAt(dir, base, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// procPath names an entry of an open directory for calls that have no form with a directory. The kernel goes straight to the directory.
func procPath(dir int, base string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + base
}

// removeAt removes the entry base of a directory, with all below it. That nothing is there is no error.
func removeAt(dir int, base string) error {
	err := unix.Unlinkat(dir, base, 0)
	switch {
	case err == nil || err == unix.ENOENT:
		return nil
	case err != unix.EISDIR && err != unix.EPERM:
		return &os.PathError{Op: "remove", Path: base, Err: err}
	}
	fd, openErr := unix.Openat(dir, base, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if openErr != nil {
		return &os.PathError{Op: "remove", Path: base, Err: err}
	}
	if err := removeContents(fd, base); err != nil {
		return err
	}
	if err := unix.Unlinkat(dir, base, unix.AT_REMOVEDIR); err != nil {
		return &os.PathError{Op: "remove", Path: base, Err: err}
	}
	return nil
}

// removeContents removes all that is in the open directory fd, and closes it.
func removeContents(fd int, name string) error {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	var all []error
	for _, child := range names {
		if err := removeAt(int(f.Fd()), child); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// checkEmpty gives an error that names an entry if the open directory has one.
func checkEmpty(dir int, name string) error {
	fd, err := unix.Openat(dir, ".", unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, _ := f.Readdirnames(1)
	if len(names) > 0 {
		return &NotEmptyError{Dir: name, Entry: names[0]}
	}
	return nil
}

// NotEmptyError says that a directory to be written into holds something already.
type NotEmptyError struct {
	Dir   string
	Entry string // one of the names in there
}

// Error implements error.
func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("writing into %s: the directory is not empty, it has %q; choose another or empty it", e.Dir, e.Entry)
}
