package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// setup makes the inside of a sandbox in the first process's own namespaces.
type setup struct {
	order
	notes  []string
	placed []placedFile
	late   []mount // those that lie in the memory of the target, by their paths in it
}

func (s *setup) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// mount is a copy of one of the host's mounts that hangs nowhere yet (open_tree(2)). Taking them before the root changes, and hanging them up
// afterwards, keeps every path inside the tree: no symbolic link of a hostile tree is ever followed on the host.
type mount struct {
	fd     int
	target string
	dir    bool
}

// devices are what programs inside get of /dev.
func devices() []string { return []string{"null", "zero", "full", "random", "urandom", "tty"} }

// enter makes the sandbox and moves this process into it.
func (s *setup) enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Sethostname([]byte("localhost")); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	mounts, err := s.takeMounts()
	if err != nil {
		return err
	}
	if err := s.changeRoot(); err != nil {
		return err
	}
	// In a user namespace /proc can only be mounted while the host's is still there to see.
	if err := s.mountOwn(); err != nil {
		return err
	}
	// The host's root lies on top of the new one at the same place.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the host's root directory: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	for _, m := range mounts {
		if path, ok := inTarget(m.target); ok && inMemory(path) {
			m.target = path
			s.late = append(s.late, m)
			continue
		}
		if err := hang(m); err != nil {
			return err
		}
	}
	if err := protectProc(); err != nil {
		return err
	}
	if err := hideSwaps(); err != nil {
		return err
	}
	if err := s.writeFiles(); err != nil {
		return err
	}
	if err := s.placeNames(); err != nil {
		return err
	}
	if err := s.register(); err != nil {
		return err
	}
	if err := s.furnishTarget(); err != nil {
		return fmt.Errorf("preparing %s: %w", s.Target, err)
	}
	if err := answerSyncs(); err != nil {
		s.note("fsync is not answered at once: %v", err)
	}
	return nil
}

// takeMounts copies the host's mounts that are wanted inside.
func (s *setup) takeMounts() ([]mount, error) {
	var mounts []mount
	for _, name := range devices() {
		fd, err := unix.OpenTree(unix.AT_FDCWD, "/dev/"+name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if errors.Is(err, unix.ENOENT) {
			s.note("the host has no /dev/%s", name)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("taking /dev/%s: %w", name, err)
		}
		mounts = append(mounts, mount{fd: fd, target: "/dev/" + name})
	}
	if sys, err := take("/sys", true); err == nil {
		mounts = append(mounts, mount{fd: sys, target: "/sys", dir: true})
	} else {
		s.note("there is no /sys: %v", err)
	}
	// Before the binds: one of them may lie in it.
	if s.Emulator != nil {
		fd, err := take(s.Emulator.Program, true)
		if err != nil {
			return nil, fmt.Errorf("taking %s: %w", s.Emulator.Program, err)
		}
		mounts = append(mounts, mount{fd: fd, target: emulatorFile})
	}
	if s.Target != "" {
		fd, err := takeTree(s.Target, false)
		if err != nil {
			return nil, fmt.Errorf("taking %s: %w", s.Target, err)
		}
		mounts = append(mounts, mount{fd: fd, target: TargetDir, dir: true})
	}
	for _, b := range s.Binds {
		info, err := os.Stat(b.Source)
		if err != nil {
			return nil, fmt.Errorf("taking %s: %w", b.Source, err)
		}
		fd, err := take(b.Source, b.ReadOnly)
		if err != nil {
			return nil, fmt.Errorf("taking %s: %w", b.Source, err)
		}
		mounts = append(mounts, mount{fd: fd, target: b.Target, dir: info.IsDir()})
	}
	return mounts, nil
}

// takeTree copies the mounts at and below a root tree. Devices that the tree holds can't be opened.
func takeTree(path string, readOnly bool) (int, error) {
	fd, err := take(path, readOnly)
	if err != nil {
		return -1, err
	}
	return fd, unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV})
}

// take copies the mounts at and below path.
func take(path string, readOnly bool) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil || !readOnly {
		return fd, err
	}
	return fd, unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// changeRoot makes the tree the root directory; the working directory is then the host's.
func (s *setup) changeRoot() error {
	fd, err := takeTree(s.Root, s.ReadOnly)
	if err != nil {
		return fmt.Errorf("taking the root tree: %w", err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, s.Root, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting the root tree: %w", err)
	}
	if err := unix.Fchdir(fd); err != nil {
		return fmt.Errorf("entering the root tree: %w", err)
	}
	unix.Close(fd)
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root directory: %w", err)
	}
	return nil
}

// mountOwn mounts the file systems that live as long as the sandbox.
func (s *setup) mountOwn() error {
	const secure = unix.MS_NOSUID | unix.MS_NODEV
	for _, m := range []struct {
		kind, target, data string
		flags              uintptr
	}{
		{"proc", "/proc", "", secure | unix.MS_NOEXEC},
		{"tmpfs", "/dev", "mode=0755,size=4m", unix.MS_NOSUID},
		{"devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"tmpfs", "/dev/shm", "mode=1777", secure},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("making %s: %w", m.target, err)
		}
		if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.data); err != nil {
			return explainMount(m.target, err)
		}
	}
	if err := os.MkdirAll("/sys", 0o755); err != nil {
		return fmt.Errorf("making /sys: %w", err)
	}
	for link, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
		"/dev/ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	return mountMemory()
}

// mountMemory mounts what a running system has in memory.
func mountMemory() error {
	for dir, mode := range map[string]string{"/run": "mode=0755", "/tmp": "mode=1777"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making %s: %w", dir, err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, mode); err != nil {
			return explainMount(dir, err)
		}
	}
	return makeDir("/run/lock", 0o777|fs.ModeSticky)
}

func explainMount(target string, err error) error {
	if target == "/proc" && errors.Is(err, unix.EPERM) {
		return fmt.Errorf("mounting /proc: %w (a container around this process hides parts of its /proc; run it with --privileged, or podman with --security-opt unmask=ALL)", err)
	}
	return fmt.Errorf("mounting %s: %w", target, err)
}

// hang mounts a copied mount at its place, which is made where the place is in memory.
func hang(m mount) error {
	defer unix.Close(m.fd)
	if strings.HasPrefix(m.target, "/dev/") || inMemory(m.target) {
		if err := os.MkdirAll(filepath.Dir(m.target), 0o755); err != nil {
			return err
		}
		if m.dir {
			if err := os.MkdirAll(m.target, 0o755); err != nil {
				return err
			}
		} else if err := os.WriteFile(m.target, nil, 0o600); err != nil {
			return err
		}
	}
	if err := unix.MoveMount(m.fd, "", unix.AT_FDCWD, m.target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting %s: %w", m.target, err)
	}
	return nil
}

// protectProc makes the parts of /proc read-only that are settings of the whole machine and not of a process.
func protectProc() error {
	for _, name := range []string{"sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi"} {
		path := "/proc/" + name
		if _, err := os.Lstat(path); err != nil {
			continue // this kernel has no such thing
		}
		fd, err := take(path, true)
		if err != nil {
			return fmt.Errorf("protecting %s: %w", path, err)
		}
		if err := hang(mount{fd: fd, target: path}); err != nil {
			return err
		}
	}
	return nil
}

// hideSwaps takes the machine's swap space out of sight: initramfs-tools would make it the image's own to resume from.
func hideSwaps() error {
	if _, err := os.Lstat("/proc/swaps"); err != nil {
		return nil //nolint:nilerr // this kernel has none
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/dev/null", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("hiding /proc/swaps: %w", err)
	}
	return hang(mount{fd: fd, target: "/proc/swaps"})
}

// writeFiles puts the caller's files and the stand-ins into memory, but for those of the target.
func (s *setup) writeFiles() error {
	files := []File{{
		// It is only ever asked to start and stop services; the answer is that it did.
		Path: binDir + "/start-stop-daemon", Perm: 0o755, Data: []byte("#!/bin/sh\nexit 0\n"),
	}}
	for _, f := range s.Files {
		if _, target := inTarget(f.Path); !target {
			files = append(files, f)
		}
	}
	return writeAll(files)
}

func writeAll(files []File) error {
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(f.Path, f.Data, 0o600); err != nil {
			return err
		}
		if err := os.Chmod(f.Path, fs.FileMode(f.Perm)); err != nil {
			return err
		}
	}
	return nil
}
