package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// dropCapabilities takes from this thread, for good, what changes the whole machine. A program inside keeps what packages and scripts
// need: owners, modes, other users, low ports.
func dropCapabilities() error {
	keep := map[uintptr]bool{}
	for _, c := range []uintptr{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
		unix.CAP_SETPCAP, unix.CAP_LINUX_IMMUTABLE, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_IPC_OWNER, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE,
		unix.CAP_SYS_NICE, unix.CAP_SYS_RESOURCE, unix.CAP_MKNOD, unix.CAP_LEASE, unix.CAP_AUDIT_WRITE, unix.CAP_SETFCAP,
	} {
		keep[c] = true
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if keep[c] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: this kernel does not know it
			return fmt.Errorf("dropping capability %d: %w", c, err)
		}
	}
	return nil
}
