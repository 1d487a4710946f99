// Package helperkernel runs a shell script on virtual disks that are files of this machine, inside a Linux kernel of its own.
//
// Some file systems and disk layouts can only be written faithfully by a kernel. Instead of attaching files to the kernel of this machine, which takes
// root and loop devices, a helper kernel runs as an ordinary process of an ordinary user: user-mode Linux where it is installed, else QEMU
// without hardware acceleration. Whatever happens to it, nothing stays behind on this machine.
//
// The script runs as root of the helper kernel and uses programs of this machine. User-mode Linux sees this machine's files,
// read-only; QEMU gets an initial RAM disk with the programs that [Spec.Programs] names. A script must therefore use no file of this
// machine but programs; what it works on are disks.
package helperkernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/internal/command"
)

// Disk is a virtual disk of the helper kernel: a part of a file.
type Disk struct {
	// File holds the disk. It must be open for writing too unless the disk is read-only.
	File *os.File
	// Offset is where in the file the disk begins, a multiple of 512 bytes.
	Offset int64
	// Size is its length, a multiple of 512 bytes; 0 for the rest of the file.
	Size int64
	// ReadOnly makes the disk refuse writes.
	ReadOnly bool
}

// Kind is a way to run a helper kernel.
type Kind string

// The ways to run a helper kernel, in the order in which they are preferred.
const (
	Auto Kind = ""     // the first that works on this machine
	UML  Kind = "uml"  // user-mode Linux
	QEMU Kind = "qemu" // a virtual machine without hardware acceleration
)

// Kernel is a Linux kernel that QEMU can start, with its modules.
type Kernel struct {
	FS      fs.FS  // where both lie, such as os.DirFS("/")
	Image   string // the compressed kernel, such as boot/vmlinuz-6.1.0-44-amd64
	Modules string // its directory of modules, such as lib/modules/6.1.0-44-amd64
}

// Spec says what to run.
type Spec struct {
	// Name says in a few words what the script does, for logs and errors, such as "making the xfs file system".
	Name string
	// Script is a shell script for sh, run with set -e. It finds the block devices of the disks in the variables disk1, disk2 ... and may
	// use the directory /tmp, which lies in memory. Its output is kept for the error, and returned.
	Script string
	// Disks are the disks, in order.
	Disks []Disk
	// Programs are what the script uses besides the shell's own commands.
	Programs []string
	// Modules are kernel modules that are needed, by name. One that is built into the kernel is there already.
	Modules []string
	// Memory is how much the helper kernel gets, in MiB; 0 for 512.
	Memory int
	// Timeout is how long it may take altogether; 0 for an hour.
	Timeout time.Duration
	// Kind chooses a way to run it.
	Kind Kind
	// Kernels are kernels for QEMU; without one, those of this machine are looked for.
	Kernels []Kernel
	// Log gets which way was chosen; nil drops it.
	Log *slog.Logger
}

// maxOutput is how many bytes of the script's output are kept, counted from its end.
const maxOutput = 256 << 10

// ScriptError says that the script failed.
type ScriptError struct {
	Name   string // of the spec
	Code   int    // exit code of the script
	Output string // the end of what it printed
}

// Error implements error.
func (e *ScriptError) Error() string {
	const shown = 2000
	output := strings.TrimSpace(e.Output)
	if len(output) > shown {
		output = "..." + output[len(output)-shown:]
	}
	return fmt.Sprintf("%s in a helper kernel: exit code %d; it said: %s", e.Name, e.Code, output)
}

// CrashError says that the helper kernel ended before the script did.
type CrashError struct {
	Name    string // of the spec
	Kind    Kind
	Console string // the end of what the kernel printed
	Err     error  // why it ended, nil if it just did
}

// Error implements error.
func (e *CrashError) Error() string {
	cause := "it stopped before the script was done"
	if e.Err != nil {
		cause = e.Err.Error()
	}
	return fmt.Sprintf("%s in a helper kernel (%s): %s; its console said: %s", e.Name, e.Kind, cause, e.Console)
}

// Unwrap returns the cause.
func (e *CrashError) Unwrap() error { return e.Err }

// machine is one way to run a helper kernel.
type machine interface {
	kind() Kind
	// describe names what is run, for the log.
	describe() string
	// device returns the block device that the n-th disk becomes, counted from 0.
	device(n int) string
	// prepare returns lines of the script that come first: they load modules and bring disks into place.
	prepare(s *Spec, disks []Disk) string
	// run runs the kernel until it stops. disks[0] holds the script. It returns what the kernel printed.
	run(ctx context.Context, s *Spec, disks []Disk) (console string, err error)
}

// Run runs the script and returns its output. A script that fails gives a [*ScriptError], a kernel that breaks down a [*CrashError], and a
// machine that has no way to run a helper kernel a [*UnavailableError].
func Run(ctx context.Context, s Spec) (string, error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Memory == 0 {
		s.Memory = 512
	}
	if s.Timeout == 0 {
		s.Timeout = time.Hour
	}
	for i, d := range s.Disks {
		if d.File == nil || d.Offset < 0 || d.Offset%512 != 0 || d.Size < 0 || d.Size%512 != 0 {
			return "", fmt.Errorf("%s in a helper kernel: disk %d is no whole number of 512-byte sectors", s.Name, i+1)
		}
	}
	m, err := choose(&s)
	if err != nil {
		return "", err
	}
	s.Log.Info("starting a helper kernel", "for", s.Name, "kind", string(m.kind()), "program", m.describe())
	start := time.Now()
	output, err := runOn(ctx, m, &s)
	s.Log.Debug("the helper kernel has stopped", "for", s.Name, "seconds", time.Since(start).Seconds(), "failed", err != nil)
	return output, err
}

// Available reports which way Run would choose, or why there is none.
func Available(kernels []Kernel) (Kind, error) {
	m, err := choose(&Spec{Kernels: kernels})
	if err != nil {
		return "", err
	}
	return m.kind(), nil
}

// UnavailableError says that this machine has no way to run a helper kernel.
type UnavailableError struct{ Reasons []string }

// Error implements error.
func (e *UnavailableError) Error() string {
	return "a helper kernel is needed, but " + strings.Join(e.Reasons, ", and ")
}

// choose returns the way to run a helper kernel on this machine.
func choose(s *Spec) (machine, error) {
	var reasons []string
	if s.Kind == Auto || s.Kind == UML {
		m, err := findUML()
		if err == nil {
			return m, nil
		}
		reasons = append(reasons, err.Error())
	}
	if s.Kind == Auto || s.Kind == QEMU {
		m, err := findQEMU(s.Kernels)
		if err == nil {
			return m, nil
		}
		reasons = append(reasons, err.Error())
	}
	return nil, &UnavailableError{reasons}
}

// runOn runs the script on a chosen machine: it makes the disks for the script and its result, and reads the result.
func runOn(ctx context.Context, m machine, s *Spec) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout, fmt.Errorf("it was not done after %v", s.Timeout))
	defer cancel()
	script, err := memoryDisk("script", []byte(guestScript(m, s)), 0)
	if err != nil {
		return "", err
	}
	defer script.Close()
	result, err := memoryDisk("result", nil, maxOutput+resultHeader)
	if err != nil {
		return "", err
	}
	defer result.Close()
	disks := append([]Disk{{File: script, ReadOnly: true}, {File: result}}, s.Disks...)
	console, err := m.run(ctx, s, disks)
	if cause := context.Cause(ctx); cause != nil {
		return "", &CrashError{Name: s.Name, Kind: m.kind(), Console: lastLines(console), Err: cause}
	}
	if missing := (*command.MissingError)(nil); errors.As(err, &missing) {
		return "", err
	}
	output, code, ok := readResult(result)
	if !ok {
		return "", &CrashError{Name: s.Name, Kind: m.kind(), Console: lastLines(console), Err: err}
	}
	if code != 0 {
		return output, &ScriptError{s.Name, code, output}
	}
	if lost := lostWrites().FindAllString(console, 3); lost != nil {
		return output, &WriteError{s.Name, m.kind(), strings.Join(lost, "; ")}
	}
	return output, nil
}

// WriteError says that this machine could not write what the helper kernel wrote to a disk, although the script has not noticed.
type WriteError struct {
	Name    string // of the spec
	Kind    Kind
	Console string // what the kernel said of it
}

// Error implements error.
func (e *WriteError) Error() string {
	return fmt.Sprintf("%s in a helper kernel (%s): this machine could not write all of it, most likely for want of space; the console said: %s", e.Name, e.Kind, e.Console)
}

// lostWrites knows what Linux says (block/blk-core.c, fs/buffer.c, fs/iomap, fs/xfs, fs/btrfs) when a disk has not taken what was written. A disk that can't
// discard or clear blocks is no such thing.
func lostWrites() *regexp.Regexp {
	return regexp.MustCompile(`[^\n\r]*(error, dev (ubd|vd)[a-z]+, sector [0-9]+ op 0x[0-9a-f]+:\((WRITE|FLUSH)\)|: writeback error on inode|lost (async|sync) page write|metadata I/O error|BTRFS error)[^\n\r]*`)
}
