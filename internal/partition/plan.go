// Package partition plans and writes partition tables: GPT and MBR.
//
// A [Plan] is plain data. It is made by [Layout], can be printed and compared, and is written into a file by [Plan.Write]; nothing here needs
// a block device. All offsets and sizes are in bytes unless a name says otherwise.
package partition

import (
	"fmt"
	"slices"
	"strings"
)

// Scheme is the kind of a partition table.
type Scheme int

const (
	// GPT is the GUID partition table of the UEFI specification, with a protective or hybrid MBR before it.
	GPT Scheme = iota
	// MBR is the partition table of the PC BIOS ("msdos").
	MBR
)

// String returns "gpt" or "mbr".
func (s Scheme) String() string {
	if s == MBR {
		return "mbr"
	}
	return "gpt"
}

// Type is what a partition is for, in the words of both tables.
type Type struct {
	Name string // short name for people
	GUID string // partition type GUID of GPT, upper case
	MBR  byte   // partition type of MBR
}

// The partition types below have their GUIDs from the UEFI specification (ESP), from GRUB (BIOS boot) and from the Discoverable Partitions
// Specification of the UAPI group.

// BIOSBoot is where GRUB's core image lies on a GPT disk that a BIOS boots.
func BIOSBoot() Type { return Type{"BIOS boot", "21686148-6449-6E6F-744E-656564454649", 0xda} }

// ESP is the EFI system partition.
func ESP() Type { return Type{"EFI system", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", 0xef} }

// Linux is any Linux file system.
func Linux() Type { return Type{"Linux file system", "0FC63DAF-8483-4772-8E79-3D69D8477DE4", 0x83} }

// Swap is Linux swap space.
func Swap() Type { return Type{"Linux swap", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", 0x82} }

// XBOOTLDR is a boot partition as the Boot Loader Specification has it.
func XBOOTLDR() Type {
	return Type{"Linux extended boot", "BC13C2FF-59E6-4262-A352-B275FD6F7172", 0xea}
}

// LVM is a physical volume of LVM.
func LVM() Type { return Type{"Linux LVM", "E6D6D379-F507-44C2-A23C-238F2A3DF928", 0x8e} }

// RAID is a member of a Linux RAID.
func RAID() Type { return Type{"Linux RAID", "A19D880F-05FC-4D3B-A006-743F0F84911E", 0xfd} }

// PReP is the boot partition of PowerPC machines.
func PReP() Type { return Type{"PReP boot", "9E1A2D38-C612-4316-AA26-8B49521E5A8B", 0x41} }

// Root is the root file system of a machine architecture as uname -m names it; an unknown one gives [Linux].
func Root(arch string) Type {
	guid := map[string]string{
		"x86_64":  "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
		"i686":    "44479540-F297-41B2-9AF7-D131D5F0458A",
		"i586":    "44479540-F297-41B2-9AF7-D131D5F0458A",
		"aarch64": "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
		"armv7l":  "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3",
		"riscv64": "72EC70A6-CF74-40E6-BD49-4BDA08E8F224",
		"ppc64le": "C31C45E6-3F39-412E-80FB-4809C4980599",
		"s390x":   "5EEAD9A9-FE09-4A1E-A1D7-520D00531306",
	}[arch]
	if guid == "" {
		return Linux()
	}
	return Type{"Linux root (" + arch + ")", guid, 0x83}
}

// Attribute bits of a GPT partition: UEFI specification, table 'GPT Partition Entry', and the Discoverable Partitions Specification.
const (
	AttrRequired     uint64 = 1 << 0
	AttrLegacyBoot   uint64 = 1 << 2
	AttrGrowFS       uint64 = 1 << 59
	AttrReadOnly     uint64 = 1 << 60
	AttrNoAutoMount  uint64 = 1 << 63
	maxGPTPartitions        = 128
)

// Partition is one entry of a table.
type Partition struct {
	Number     int    // as in the device's name, from 1
	Name       string // name in a GPT, up to 36 UTF-16 units; in an MBR plan it only helps people
	Type       Type
	GUID       string // unique GUID in a GPT
	Start      int64  // first byte
	Size       int64  // length in bytes
	Attributes uint64 // Attr bits of a GPT
	Boot       bool   // boot flag of an MBR
	Logical    bool   // in the extended partition of an MBR
}

// End returns the byte after the last one.
func (p Partition) End() int64 { return p.Start + p.Size }

// Plan is a partition table.
type Plan struct {
	Scheme     Scheme
	SectorSize int64  // 512 or 4096
	DiskSize   int64  // length of the whole disk
	DiskGUID   string // of a GPT
	Signature  uint32 // disk signature at byte 440 of the MBR, in both schemes
	Hybrid     []int  // numbers of up to three GPT partitions that the MBR shows too
	Partitions []Partition
}

// Named returns the partition of the given name.
func (p *Plan) Named(name string) (Partition, bool) {
	i := slices.IndexFunc(p.Partitions, func(q Partition) bool { return q.Name == name })
	if i < 0 {
		return Partition{}, false
	}
	return p.Partitions[i], true
}

// String prints the plan as a table, one line for each partition, sizes in bytes and starts in sectors.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s disk of %d bytes, sectors of %d bytes, signature 0x%08x", p.Scheme, p.DiskSize, p.SectorSize, p.Signature)
	if p.Scheme == GPT {
		fmt.Fprintf(&b, ", GUID %s", p.DiskGUID)
	}
	b.WriteByte('\n')
	for _, q := range p.Partitions {
		fmt.Fprintf(&b, "%3d  start %9d  size %12d  %-12s %s", q.Number, q.Start/p.SectorSize, q.Size, q.Name, q.Type.Name)
		switch {
		case p.Scheme == GPT:
			fmt.Fprintf(&b, " %s", q.GUID)
		case q.Boot:
			b.WriteString(" boot")
		}
		if q.Logical {
			b.WriteString(" logical")
		}
		if slices.Contains(p.Hybrid, q.Number) {
			b.WriteString(" hybrid")
		}
		if q.Attributes != 0 {
			fmt.Fprintf(&b, " attributes %#x", q.Attributes)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Validate checks that the plan can be written: known sector size, nothing overlaps or lies outside, numbers and names fit the table.
func (p *Plan) Validate() error {
	if p.SectorSize != 512 && p.SectorSize != 4096 {
		return fmt.Errorf("planning a partition table: sectors of %d bytes; only 512 and 4096 are possible", p.SectorSize)
	}
	if p.DiskSize%p.SectorSize != 0 {
		return fmt.Errorf("planning a partition table: the disk's %d bytes are no whole number of sectors of %d", p.DiskSize, p.SectorSize)
	}
	first, last := p.usable()
	sorted := slices.SortedFunc(slices.Values(p.Partitions), func(a, b Partition) int { return int(a.Start/p.SectorSize - b.Start/p.SectorSize) })
	at := first
	for _, q := range sorted {
		switch {
		case q.Start%p.SectorSize != 0 || q.Size%p.SectorSize != 0 || q.Size <= 0:
			return fmt.Errorf("planning partition %d (%s): start %d and size %d are not whole sectors of %d", q.Number, q.Name, q.Start, q.Size, p.SectorSize)
		case q.Start < at:
			return fmt.Errorf("planning partition %d (%s): it begins at byte %d, in what ends at %d", q.Number, q.Name, q.Start, at)
		case q.End() > last:
			return fmt.Errorf("planning partition %d (%s): it ends at byte %d, after the last usable one, %d", q.Number, q.Name, q.End(), last)
		}
		at = q.End()
	}
	if p.Scheme == MBR {
		return p.validateMBR()
	}
	return p.validateGPT()
}

// usable returns the first byte that a partition may use and the byte after the last one.
func (p *Plan) usable() (first, last int64) {
	if p.Scheme == MBR {
		return p.SectorSize, min(p.DiskSize, p.SectorSize<<32)
	}
	reserved := p.SectorSize + gptEntriesSize
	return p.SectorSize + reserved, p.DiskSize - reserved
}
