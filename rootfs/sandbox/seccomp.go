package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syscallTable has the numbers of one architecture's system calls that wait for a disk.
type syscallTable struct {
	arch                                             uint32 // AUDIT_ARCH_*
	fsync, fdatasync, sync, syncfs, syncRange, msync uint32
}

// The offsets of struct seccomp_data (seccomp(2)), in bytes. Arguments are 64 bits wide; the low half comes first on both
// architectures, which are little-endian.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArg2   = 16 + 2*8
)

const (
	answerZero = unix.SECCOMP_RET_ERRNO // with error number 0 in the low bits: the call returns 0
	allow      = unix.SECCOMP_RET_ALLOW
)

// answerSyncs makes the kernel answer all calls that wait for a disk with success at once, in this process and all that it starts.
func answerSyncs() error {
	filter := assemble(syscallTables())
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	failed, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	switch {
	case errno != 0:
		return fmt.Errorf("installing a system call filter: %w", errno)
	case failed != 0:
		return fmt.Errorf("installing a system call filter: thread %d has another one", failed)
	}
	return nil
}

// assemble makes the filter in classic BPF: for each architecture a block that answers its calls, and for everything else, pass.
//
// msync is answered only with MS_SYNC, because programs use it without to ask whether an address is mapped.
func assemble(tables []syscallTable) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	ret := func(value uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value} }
	var filter []unix.SockFilter
	for _, t := range tables {
		calls := []uint32{t.fsync, t.fdatasync, t.sync, t.syncfs, t.syncRange}
		block := []unix.SockFilter{load(offsetNumber)}
		// After the comparisons come: 0 msync's check (3 instructions), 3 pass, 4 answer.
		for i, number := range calls {
			toAnswer := uint8(len(calls) - i - 1 + 4)
			block = append(block, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: toAnswer, K: number})
		}
		block = append(block,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 2, K: t.msync}, // no: to pass
			load(offsetArg2),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, Jt: 1, K: unix.MS_SYNC}, // yes: to answer
			ret(allow),
			ret(answerZero))
		filter = append(filter, load(offsetArch), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: uint8(len(block)), K: t.arch})
		filter = append(filter, block...)
	}
	return append(filter, ret(allow))
}
