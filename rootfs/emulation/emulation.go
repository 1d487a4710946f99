// Package emulation finds out how programs of another architecture can run on this machine: by qemu's user emulation, which the kernel calls for
// them (binfmt_misc).
//
// Where the machine's administrator has registered the emulator already, that is used. Else a sandbox registers it for itself alone, which Linux 6.7
// and newer allow in a user namespace: nothing changes on the machine.
package emulation

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// machine is an architecture as the head of an ELF file tells it.
type machine struct {
	class elf.Class
	data  elf.Data
	id    elf.Machine
	qemu  string // what qemu calls it
}

// machines are the architectures by the names that uname -m and descriptions give them.
func machines() map[string]machine {
	const little, big = elf.ELFDATA2LSB, elf.ELFDATA2MSB
	arm := machine{elf.ELFCLASS32, little, elf.EM_ARM, "arm"}
	x86 := machine{elf.ELFCLASS32, little, elf.EM_386, "i386"}
	return map[string]machine{
		"x86_64":      {elf.ELFCLASS64, little, elf.EM_X86_64, "x86_64"},
		"aarch64":     {elf.ELFCLASS64, little, elf.EM_AARCH64, "aarch64"},
		"armv5tel":    arm,
		"armv6l":      arm,
		"armv7l":      arm,
		"armv7hl":     arm,
		"armv8l":      arm,
		"i386":        x86,
		"i486":        x86,
		"i586":        x86,
		"i686":        x86,
		"ix86":        x86,
		"riscv64":     {elf.ELFCLASS64, little, elf.EM_RISCV, "riscv64"},
		"ppc":         {elf.ELFCLASS32, big, elf.EM_PPC, "ppc"},
		"ppc64":       {elf.ELFCLASS64, big, elf.EM_PPC64, "ppc64"},
		"ppc64le":     {elf.ELFCLASS64, little, elf.EM_PPC64, "ppc64le"},
		"s390x":       {elf.ELFCLASS64, big, elf.EM_S390, "s390x"},
		"mips64el":    {elf.ELFCLASS64, little, elf.EM_MIPS, "mips64el"},
		"mips64":      {elf.ELFCLASS64, big, elf.EM_MIPS, "mips64"},
		"mipsel":      {elf.ELFCLASS32, little, elf.EM_MIPS, "mipsel"},
		"loongarch64": {elf.ELFCLASS64, little, elf.EM_LOONGARCH, "loongarch64"},
		"alpha":       {elf.ELFCLASS64, little, elf.EM_ALPHA, "alpha"},
		"m68k":        {elf.ELFCLASS32, big, elf.EM_68K, "m68k"},
		"sparc64":     {elf.ELFCLASS64, big, elf.EM_SPARCV9, "sparc64"},
	}
}

// Native reports whether this machine runs programs of an architecture, given as uname -m names it, by itself.
func Native(arch string) bool { return native(runtime.GOARCH, arch) }

func native(host, arch string) bool {
	switch host {
	case "amd64":
		return slices.Contains([]string{"x86_64", "i386", "i486", "i586", "i686", "ix86"}, arch)
	case "386":
		return slices.Contains([]string{"i386", "i486", "i586", "i686", "ix86"}, arch)
	case "arm64":
		return arch == "aarch64" // not every processor runs 32-bit programs too
	case "arm":
		return slices.Contains([]string{"armv5tel", "armv6l", "armv7l", "armv7hl", "armv8l"}, arch)
	case "ppc64le", "s390x", "riscv64", "mips64", "ppc64":
		return arch == host
	case "mips64le":
		return arch == "mips64el"
	case "loong64":
		return arch == "loongarch64"
	}
	return false
}

// Machine is where the kernel's list of formats lies, and where programs are looked for. A zero value is this machine's.
type Machine struct {
	// Formats is the directory that binfmt_misc is mounted at; "" is the usual one.
	Formats string
	// Find looks for a program; nil is [command.Find].
	Find func(name string) (string, error)
}

// Emulator returns what a sandbox needs to run programs of an architecture, given as uname -m names it: nil if they run by themselves, or because the machine has
// an emulator registered that works in any root directory. The error is a *[command.MissingError] if there is no emulator.
func (m Machine) Emulator(arch string) (*sandbox.Emulator, error) {
	if arch == "" || Native(arch) {
		return nil, nil
	}
	known, ok := machines()[arch]
	if !ok {
		return nil, fmt.Errorf("running programs for %s: this architecture is not known here", arch)
	}
	magic, mask := known.pattern()
	if m.registered(magic) {
		return nil, nil
	}
	program, err := m.find(known.qemu)
	if err != nil {
		return nil, fmt.Errorf("running programs for %s on this machine: %w", arch, err)
	}
	return &sandbox.Emulator{Name: "qemu-" + known.qemu, Program: program, Magic: magic, Mask: mask}, nil
}

// find looks for a qemu without libraries, since there are none of this machine's where it runs.
func (m Machine) find(qemu string) (string, error) {
	find := m.Find
	if find == nil {
		find = command.Find
	}
	path, missing := find("qemu-" + qemu + "-static")
	if missing == nil {
		return filepath.EvalSymlinks(path)
	}
	if path, err := find("qemu-" + qemu); err == nil && static(path) {
		return filepath.EvalSymlinks(path)
	}
	return "", missing
}

// static reports whether a program needs no libraries.
func static(path string) bool {
	file, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	return !slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// pattern is how the kernel knows programs of the machine: the first bytes of the file, and which of their bits count. Any operating system counts, and
// any kind of program, with a fixed address or without (elf(5), e_ident, e_type and e_machine).
func (m machine) pattern() (magic, mask []byte) {
	magic = make([]byte, 20)
	mask = []byte("\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	copy(magic, elf.ELFMAG)
	magic[elf.EI_CLASS], magic[elf.EI_DATA], magic[elf.EI_VERSION] = byte(m.class), byte(m.data), byte(elf.EV_CURRENT)
	var order binary.ByteOrder = binary.LittleEndian
	if m.data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	order.PutUint16(magic[16:], uint16(elf.ET_EXEC))
	order.PutUint16(mask[16:], 0xffff&^uint16(elf.ET_EXEC^elf.ET_DYN)) // ET_EXEC is 2, ET_DYN is 3
	order.PutUint16(magic[18:], uint16(m.id))
	return magic, mask
}

// registered reports whether the machine has an emulator for a magic that was opened when it was registered (flag F), so that it works where its file is not in
// view. Other registrations are of no use here.
func (m Machine) registered(magic []byte) bool {
	dir := m.Formats
	if dir == "" {
		dir = "/proc/sys/fs/binfmt_misc"
	}
	if state, err := os.ReadFile(filepath.Join(dir, "status")); err != nil || strings.TrimSpace(string(state)) != "enabled" {
		return false
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil && matches(string(text), magic) {
			return true
		}
	}
	return false
}

// matches reads what the kernel says of a registration: "enabled", then lines such as "flags: OCF" and "magic 7f454c46...".
func matches(text string, magic []byte) bool {
	lines := strings.Split(text, "\n")
	enabled, fixed, same := lines[0] == "enabled", false, false
	for _, line := range lines[1:] {
		if flags, ok := strings.CutPrefix(line, "flags:"); ok {
			fixed = strings.Contains(flags, "F")
		}
		if hex, ok := strings.CutPrefix(line, "magic "); ok {
			same = hex == fmt.Sprintf("%x", magic)
		}
	}
	return enabled && fixed && same
}

// Explain adds to the error of a sandbox what an administrator can do where this kernel allows no registration for a sandbox alone.
func Explain(err error, arch string) error {
	if err == nil || !errors.Is(err, sandbox.ErrNoRegistration) {
		return err
	}
	var name unix.Utsname
	release := "this kernel"
	if unix.Uname(&name) == nil {
		release = "this one is " + unix.ByteSliceToString(name.Release[:])
	}
	return fmt.Errorf("running programs for %s: %w; that needs Linux 6.7 or newer with binfmt_misc (%s), or an emulator that is registered on this machine for all root directories: "+
		"install qemu-user-static with binfmt-support or systemd-binfmt, and as root run: systemctl restart systemd-binfmt", arch, err, release)
}
