package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Emulator runs programs that the processor does not understand. It is registered with the kernel (binfmt_misc) for one sandbox alone.
type Emulator struct {
	// Name is what the kernel calls the registration.
	Name string
	// Program is the absolute path of the emulator on the host. It needs no libraries.
	Program string
	// Magic is how the files of the programs begin, and Mask which bits of that count. Both are of one length.
	Magic, Mask []byte
}

// ErrNoRegistration says that an emulator could not be registered for a sandbox alone: the kernel is too old, or does not have binfmt_misc.
var ErrNoRegistration = errors.New("registering an emulator for a sandbox")

// registrationFailed begins the report of a first process that could not register the emulator.
const registrationFailed = "emulator: "

// Where the registration and the emulator are inside, as long as programs run.
const (
	formatsDir   = "/run/imgbuild/formats"
	emulatorFile = "/run/imgbuild/emulator"
)

// ownUserNamespace makes a new process the root of a user namespace of its own with the same users and groups as in this one: a list of formats belongs to
// a user namespace.
func ownUserNamespace(attr *syscall.SysProcAttr) (err error) {
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.GidMappingsEnableSetgroups = true
	if attr.UidMappings, err = identity("/proc/self/uid_map"); err != nil {
		return err
	}
	attr.GidMappings, err = identity("/proc/self/gid_map")
	return err
}

// identity maps the ids that this process's user namespace has, as a file of the form of user_namespaces(7) tells, to themselves.
func identity(name string) ([]syscall.SysProcIDMap, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var ids []syscall.SysProcIDMap
	scan := bufio.NewScanner(file)
	for scan.Scan() {
		var first, outer, count int
		if _, err := fmt.Sscan(scan.Text(), &first, &outer, &count); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		ids = append(ids, syscall.SysProcIDMap{ContainerID: first, HostID: first, Size: count})
	}
	return ids, scan.Err()
}

// register tells the kernel of the emulator, in a list of formats that is this user namespace's own.
func (s *setup) register() error {
	if s.Emulator == nil {
		return nil
	}
	if err := os.MkdirAll(formatsDir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("binfmt_misc", formatsDir, "binfmt_misc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("%smounting the list of formats: %w", registrationFailed, err)
	}
	// With F the emulator is opened now, so that it works in other root directories too; C gives programs the rights that their own file has.
	line := fmt.Sprintf(":%s:M::%s:%s:%s:OCF", s.Emulator.Name, escaped(s.Emulator.Magic), escaped(s.Emulator.Mask), emulatorFile)
	if err := os.WriteFile(formatsDir+"/register", []byte(line), 0o200); err != nil {
		return fmt.Errorf("%s%w", registrationFailed, err)
	}
	return nil
}

// escaped writes bytes as the kernel reads them (Documentation/admin-guide/binfmt-misc.rst).
func escaped(data []byte) string {
	var text strings.Builder
	for _, b := range data {
		fmt.Fprintf(&text, "\\x%02x", b)
	}
	return text.String()
}
