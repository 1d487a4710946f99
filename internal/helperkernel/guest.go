package helperkernel

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The script reaches the helper kernel as the first disk, which the shell reads like a file, and its result comes back on the second: a first line
// with its exit code and then the end of its output. So both kinds of machine need nothing but disks.
const (
	scriptDisk = 0
	resultDisk = 1
	firstDisk  = 2 // of the spec

	resultHeader = 512
	resultMark   = "helperkernel exit "
)

// guestScript is all that the helper kernel's first process runs.
func guestScript(m machine, s *Spec) string {
	var b strings.Builder
	b.WriteString(`export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs run /run
mount -t tmpfs -o mode=1777 tmp /tmp && cd /tmp || {
	printf '%s%d\nmounting a tmpfs on /tmp failed\n' '` + resultMark + `' 125 >` + m.device(resultDisk) + `
	exit
}
(
set -e
`)
	b.WriteString(m.prepare(s, s.Disks))
	for i := range s.Disks {
		fmt.Fprintf(&b, "disk%d=%s\n", i+1, diskDevice(m, s.Disks, i))
	}
	b.WriteString(s.Script)
	fmt.Fprintf(&b, `
) >/tmp/.output 2>&1 </dev/null
code=$?
{ echo "%s$code"; tail -c %d /tmp/.output; } >%s
sync
echo o >/proc/sysrq-trigger
sleep 10
`, resultMark, maxOutput, m.device(resultDisk))
	return b.String()
}

// diskDevice is the block device of a disk of the spec.
func diskDevice(m machine, disks []Disk, i int) string {
	device := m.device(firstDisk + i)
	if p, ok := m.(interface {
		partition(device string, d Disk) string
	}); ok {
		return p.partition(device, disks[i])
	}
	return device
}

// MemoryDisk returns a file in memory that a disk of a [Spec] can be: data, filled up with newlines to a whole number of sectors. The caller closes it.
func MemoryDisk(name string, data []byte) (*os.File, error) { return memoryDisk(name, data, 0) }

// memoryDisk returns a file in memory that a disk can be: data, filled up with newlines to a whole number of sectors or with zeros to
// size.
func memoryDisk(name string, data []byte, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a disk in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if rest := len(data) % 512; rest != 0 {
		data = append(data, bytes.Repeat([]byte{'\n'}, 512-rest)...)
	}
	if _, err = f.Write(data); err == nil && size > 0 {
		err = f.Truncate(size)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("filling a disk in memory: %w", err)
	}
	return f, nil
}

// readResult reads what the script left on the result disk, and reports whether there is something.
func readResult(f *os.File) (output string, code int, ok bool) {
	data := make([]byte, maxOutput+resultHeader)
	n, _ := f.ReadAt(data, 0) // a short file is a result that was not written, as the mark tells
	text, _, _ := strings.Cut(string(data[:n]), "\x00")
	line, output, _ := strings.Cut(text, "\n")
	digits, ok := strings.CutPrefix(line, resultMark)
	if !ok {
		return "", 0, false
	}
	code, err := strconv.Atoi(digits)
	return output, code, err == nil
}
