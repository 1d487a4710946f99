package partition

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// ErrNoTable says that a disk has no partition table.
var ErrNoTable = errors.New("there is no partition table")

// maxLogical bounds the chain of logical partitions, which a stranger may have closed to a ring.
const maxLogical = 128

// maxReadEntries bounds the number of entries of a GPT.
const maxReadEntries = 1024

// Read returns the partition table of the disk of the given size in bytes that r holds. A GPT whose header at the beginning is damaged is read from the copy at the
// end. Partitions have their numbers, names, types, GUIDs and places; those that reach beyond the disk are left out. A disk without a table is
// [ErrNoTable].
func Read(r io.ReaderAt, size int64) (*Plan, error) {
	first := make([]byte, 512)
	if _, err := r.ReadAt(first, 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, ErrNoTable
		}
		return nil, fmt.Errorf("reading the first sector: %w", err)
	}
	for _, sector := range []int64{512, 4096} {
		for _, at := range []int64{sector, size - sector} {
			plan, err := readGPT(r, size, sector, at)
			if err != nil {
				return nil, err
			}
			if plan != nil {
				plan.Signature = binary.LittleEndian.Uint32(first[mbrSignatureAt:])
				return plan, nil
			}
		}
	}
	if first[mbrMagicAt] != 0x55 || first[mbrMagicAt+1] != 0xaa {
		return nil, ErrNoTable
	}
	return readMBR(r, size, first)
}

// readGPT reads the table whose header lies at a place; nil if there is none.
func readGPT(r io.ReaderAt, size, sector, at int64) (*Plan, error) {
	header := make([]byte, gptHeaderSize)
	if _, err := r.ReadAt(header, at); err != nil || at < sector {
		return nil, nil // a disk that is too small has none
	}
	le := binary.LittleEndian
	sum := le.Uint32(header[16:])
	le.PutUint32(header[16:], 0)
	if !bytes.HasPrefix(header, []byte("EFI PART")) || le.Uint32(header[12:]) != gptHeaderSize || crc32.ChecksumIEEE(header) != sum {
		return nil, nil
	}
	count, length := le.Uint32(header[80:]), le.Uint32(header[84:])
	entriesAt := le.Uint64(header[72:])
	if count > maxReadEntries || length < gptEntrySize || length > 4096 || entriesAt > uint64(size/sector) {
		return nil, fmt.Errorf("reading the GPT: its header has impossible sizes")
	}
	entries := make([]byte, int(count)*int(length))
	if _, err := r.ReadAt(entries, int64(entriesAt)*sector); err != nil {
		return nil, fmt.Errorf("reading the entries of the GPT: %w", err)
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(header[88:]) {
		return nil, nil
	}
	plan := &Plan{Scheme: GPT, SectorSize: sector, DiskSize: size, DiskGUID: decodeGUID(header[56:72])}
	for i := range int(count) {
		e := entries[i*int(length):][:gptEntrySize]
		start, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if bytes.Equal(e[:16], make([]byte, 16)) || start > last || last >= uint64(size/sector) {
			continue
		}
		units := make([]uint16, 0, gptNameUnits)
		for j := range gptNameUnits {
			unit := le.Uint16(e[56+2*j:])
			if unit == 0 {
				break
			}
			units = append(units, unit)
		}
		plan.Partitions = append(plan.Partitions, Partition{
			Number: i + 1, Name: string(utf16.Decode(units)), Type: typeOf(decodeGUID(e[:16])), GUID: decodeGUID(e[16:32]),
			Start: int64(start) * sector, Size: int64(last-start+1) * sector, Attributes: le.Uint64(e[48:]),
		})
	}
	return plan, nil
}

// decodeGUID is the opposite of [encodeGUID].
func decodeGUID(b []byte) string {
	raw := bytes.Clone(b)
	slices.Reverse(raw[0:4])
	slices.Reverse(raw[4:6])
	slices.Reverse(raw[6:8])
	text := strings.ToUpper(hex.EncodeToString(raw))
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// knownTypes are the types that have a name here.
func knownTypes() []Type {
	list := []Type{BIOSBoot(), ESP(), Linux(), Swap(), XBOOTLDR(), LVM(), RAID(), PReP()}
	for _, arch := range []string{"x86_64", "i686", "aarch64", "armv7l", "riscv64", "ppc64le", "s390x"} {
		list = append(list, Root(arch))
	}
	return list
}

// typeOf names a type GUID.
func typeOf(guid string) Type {
	for _, t := range knownTypes() {
		if t.GUID == guid {
			return t
		}
	}
	return Type{Name: guid, GUID: guid}
}

// typeOfByte names a partition type of an MBR.
func typeOfByte(b byte) Type {
	for _, t := range knownTypes() {
		if t.MBR == b {
			return t
		}
	}
	return Type{Name: fmt.Sprintf("type %#02x", b), MBR: b}
}

// readMBR reads the four records of an MBR, and the chain of logical partitions that one of them may begin.
func readMBR(r io.ReaderAt, size int64, first []byte) (*Plan, error) {
	const sector = 512
	plan := &Plan{Scheme: MBR, SectorSize: sector, DiskSize: size, Signature: binary.LittleEndian.Uint32(first[mbrSignatureAt:])}
	extended := int64(-1)
	for i := range 4 {
		e, used := decodeRecord(first[mbrEntriesAt+i*mbrEntrySize:], 0)
		switch {
		case !used:
		case e.boot && first[mbrEntriesAt+i*mbrEntrySize] != mbrBootable:
			return nil, ErrNoTable // code or text in the place of a table, as in the first sector of a FAT file system
		case e.kind == mbrTypeExtended || e.kind == mbrTypeEBRLink || e.kind == 0x85:
			extended = int64(e.start) * sector
		default:
			plan.take(e, i+1, false)
		}
	}
	if extended >= 0 {
		if err := plan.readLogical(r, extended); err != nil {
			return nil, err
		}
	}
	if len(plan.Partitions) == 0 {
		return nil, ErrNoTable
	}
	return plan, nil
}

// decodeRecord is the opposite of mbrEntry.encode. boot is set for any first byte that is not zero.
func decodeRecord(b []byte, base uint64) (mbrEntry, bool) {
	start, count := uint64(binary.LittleEndian.Uint32(b[8:])), uint64(binary.LittleEndian.Uint32(b[12:]))
	return mbrEntry{boot: b[0] != 0, kind: b[4], start: base + start, count: count}, b[4] != 0 && count > 0
}

// take adds a partition that lies within the disk.
func (p *Plan) take(e mbrEntry, number int, logical bool) {
	start, length := int64(e.start)*p.SectorSize, int64(e.count)*p.SectorSize
	if start > 0 && start < p.DiskSize && length <= p.DiskSize-start {
		p.Partitions = append(p.Partitions, Partition{Number: number, Type: typeOfByte(e.kind), Start: start, Size: length, Boot: e.boot, Logical: logical})
	}
}

// readLogical follows the chain of extended boot records: the first record of each is a partition, the second one leads to the next.
func (p *Plan) readLogical(r io.ReaderAt, begin int64) error {
	table := make([]byte, 512)
	at := begin
	for number := 5; number < 5+maxLogical; number++ {
		if at <= 0 || at > p.DiskSize-int64(len(table)) {
			return nil
		}
		if _, err := r.ReadAt(table, at); err != nil {
			return fmt.Errorf("reading an extended boot record: %w", err)
		}
		if table[mbrMagicAt] != 0x55 || table[mbrMagicAt+1] != 0xaa {
			return nil
		}
		if e, used := decodeRecord(table[mbrEntriesAt:], uint64(at/p.SectorSize)); used {
			p.take(e, number, true)
		}
		next, used := decodeRecord(table[mbrEntriesAt+mbrEntrySize:], uint64(begin/p.SectorSize))
		if !used {
			return nil
		}
		at = int64(next.start) * p.SectorSize
	}
	return fmt.Errorf("reading the extended partition: it has more than %d partitions", maxLogical)
}
