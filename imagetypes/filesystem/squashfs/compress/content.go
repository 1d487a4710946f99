package compress

import (
	"bytes"
	"encoding/binary"
)

// Content is what a block holds, as far as that matters for compressing it. Contents of one kind compress best together.
type Content int

// The kinds of content.
const (
	Other    Content = iota
	Metadata         // tables of the file system
	Packed           // compressed already
	X86              // ELF files, by architecture
	ARM
	Thumb
	PowerPC
	SPARC
	IA64
)

// The ELF header (System V ABI, chapter 4), places in bytes.
const (
	elfMagic   = "\x7fELF"
	elfData    = 5 // 1: the lowest byte first, 2: the highest
	elfMachine = 18
)

// Guess tells the kind of a file from its first bytes; 64 are enough.
func Guess(beginning []byte) Content {
	if bytes.HasPrefix(beginning, []byte(elfMagic)) && len(beginning) >= elfMachine+2 {
		machine := binary.LittleEndian.Uint16(beginning[elfMachine:])
		if beginning[elfData] == 2 {
			machine = binary.BigEndian.Uint16(beginning[elfMachine:])
		}
		return machines(machine)
	}
	for _, magic := range []string{
		"\x1f\x8b", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd", "BZh", "PK\x03\x04", "\x89PNG\r\n\x1a\n", "\xff\xd8\xff", "wOF2", "7z\xbc\xaf\x27\x1c", "\x04\x22\x4d\x18", "GIF8", "OggS",
	} {
		if bytes.HasPrefix(beginning, []byte(magic)) {
			return Packed
		}
	}
	return Other
}

// machines returns the kind of an ELF file by its e_machine.
func machines(machine uint16) Content {
	switch machine {
	case 3, 62: // EM_386, EM_X86_64
		return X86
	case 40: // EM_ARM: almost everything of today is Thumb
		return Thumb
	case 20: // EM_PPC; EM_PPC64 is as often little-endian, which the filter is not for
		return PowerPC
	case 2, 18, 43: // EM_SPARC, EM_SPARC32PLUS, EM_SPARCV9
		return SPARC
	case 50: // EM_IA_64
		return IA64
	}
	return Other
}
