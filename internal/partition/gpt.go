package partition

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// Sizes of a GPT: UEFI specification 2.10, section 5.3.
const (
	gptEntrySize   = 128
	gptEntriesSize = maxGPTPartitions * gptEntrySize
	gptHeaderSize  = 92
	gptNameUnits   = 36
)

func (p *Plan) validateGPT() error {
	if len(p.Partitions) > maxGPTPartitions {
		return fmt.Errorf("planning a GPT: %d partitions; it holds %d", len(p.Partitions), maxGPTPartitions)
	}
	if _, err := encodeGUID(p.DiskGUID); err != nil {
		return fmt.Errorf("planning a GPT: %w", err)
	}
	seen := map[int]bool{}
	for _, q := range p.Partitions {
		if q.Number < 1 || q.Number > maxGPTPartitions || seen[q.Number] {
			return fmt.Errorf("planning a GPT: partition number %d (%s) is out of range or there twice", q.Number, q.Name)
		}
		seen[q.Number] = true
		if n := len(utf16.Encode([]rune(q.Name))); n > gptNameUnits {
			return fmt.Errorf("planning a GPT: the partition name %q has %d characters; %d fit", q.Name, n, gptNameUnits)
		}
		for _, guid := range []string{q.GUID, q.Type.GUID} {
			if _, err := encodeGUID(guid); err != nil {
				return fmt.Errorf("planning partition %d (%s): %w", q.Number, q.Name, err)
			}
		}
	}
	if len(p.Hybrid) > 3 {
		return fmt.Errorf("planning a hybrid MBR: %d partitions; it holds 3", len(p.Hybrid))
	}
	for _, number := range p.Hybrid {
		if !seen[number] {
			return fmt.Errorf("planning a hybrid MBR: there is no partition %d", number)
		}
	}
	return nil
}

// Write puts the table into w, which is a disk of DiskSize bytes. Bytes 0 to 439, a BIOS's boot code, stay as they are.
func (p *Plan) Write(w io.WriterAt) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if p.Scheme == MBR {
		return p.writeMBR(w)
	}
	entries, err := p.gptEntries()
	if err != nil {
		return err
	}
	sectors := p.DiskSize / p.SectorSize
	entrySectors := int64(gptEntriesSize) / p.SectorSize
	writes := []struct {
		data   []byte
		sector int64
	}{
		{p.gptHeader(1, sectors-1, 2, entries), 1},
		{entries, 2},
		{entries, sectors - 1 - entrySectors},
		{p.gptHeader(sectors-1, 1, sectors-1-entrySectors, entries), sectors - 1},
	}
	for _, part := range writes {
		if _, err := w.WriteAt(part.data, part.sector*p.SectorSize); err != nil {
			return fmt.Errorf("writing the GPT at sector %d: %w", part.sector, err)
		}
	}
	return p.writeProtectiveMBR(w)
}

// gptHeader is the header of UEFI 2.10 table 5.5, in one whole sector.
func (p *Plan) gptHeader(at, other, entriesAt int64, entries []byte) []byte {
	first, last := p.usable()
	b := make([]byte, p.SectorSize)
	le := binary.LittleEndian
	copy(b, "EFI PART")
	le.PutUint32(b[8:], 0x00010000)
	le.PutUint32(b[12:], gptHeaderSize)
	le.PutUint64(b[24:], uint64(at))
	le.PutUint64(b[32:], uint64(other))
	le.PutUint64(b[40:], uint64(first/p.SectorSize))
	le.PutUint64(b[48:], uint64(last/p.SectorSize-1))
	guid, _ := encodeGUID(p.DiskGUID) // Validate has checked it
	copy(b[56:], guid[:])
	le.PutUint64(b[72:], uint64(entriesAt))
	le.PutUint32(b[80:], maxGPTPartitions)
	le.PutUint32(b[84:], gptEntrySize)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeaderSize]))
	return b
}

// gptEntries is the array of entries of UEFI 2.10 table 5.6.
func (p *Plan) gptEntries() ([]byte, error) {
	b := make([]byte, gptEntriesSize)
	le := binary.LittleEndian
	for _, q := range p.Partitions {
		e := b[(q.Number-1)*gptEntrySize:][:gptEntrySize]
		typeGUID, err := encodeGUID(q.Type.GUID)
		if err != nil {
			return nil, err
		}
		guid, err := encodeGUID(q.GUID)
		if err != nil {
			return nil, err
		}
		copy(e, typeGUID[:])
		copy(e[16:], guid[:])
		le.PutUint64(e[32:], uint64(q.Start/p.SectorSize))
		le.PutUint64(e[40:], uint64(q.End()/p.SectorSize-1))
		le.PutUint64(e[48:], q.Attributes)
		for i, unit := range utf16.Encode([]rune(q.Name)) {
			le.PutUint16(e[56+2*i:], unit)
		}
	}
	return b, nil
}

// encodeGUID gives the bytes of a GUID in the order of the UEFI specification, appendix A: the first three groups are little-endian.
func encodeGUID(s string) ([16]byte, error) {
	var out [16]byte
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != len(out) {
		return out, fmt.Errorf("%q is not a GUID", s)
	}
	slices.Reverse(raw[0:4])
	slices.Reverse(raw[4:6])
	slices.Reverse(raw[6:8])
	copy(out[:], raw)
	return out, nil
}
