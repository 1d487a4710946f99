package partition

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Places and types in an MBR: UEFI specification 2.10, section 5.2, which writes down the PC's old custom.
const (
	mbrSignatureAt  = 440
	mbrEntriesAt    = 446
	mbrEntrySize    = 16
	mbrMagicAt      = 510
	mbrBootable     = 0x80
	mbrTypeGPT      = 0xee
	mbrTypeExtended = 0x0f // extended, addressed by sector numbers
	mbrTypeEBRLink  = 0x05
	mbrMaxSector    = 1<<32 - 1
)

func (p *Plan) validateMBR() error {
	primary, boot := 0, 0
	logical := false
	for i, q := range p.Partitions {
		if q.Boot {
			boot++
		}
		want := i + 1
		if q.Logical {
			if !logical && i != 3 {
				return fmt.Errorf("planning an MBR: logical partitions begin with the fourth, not partition %d (%s)", i+1, q.Name)
			}
			logical = true
			want = i + 2
			if q.Start < Align {
				return fmt.Errorf("planning an MBR: there is no room for the boot record of logical partition %d (%s)", q.Number, q.Name)
			}
		} else {
			primary++
			if logical {
				return fmt.Errorf("planning an MBR: the primary partition %d (%s) comes after a logical one", q.Number, q.Name)
			}
		}
		if q.Number != want {
			return fmt.Errorf("planning an MBR: partition %s has number %d instead of %d", q.Name, q.Number, want)
		}
	}
	if primary > 4 {
		return fmt.Errorf("planning an MBR: %d primary partitions; it holds 4", primary)
	}
	if boot > 1 {
		return fmt.Errorf("planning an MBR: %d partitions have the boot flag; one may", boot)
	}
	return nil
}

// mbrEntry is one record of a table: sectors are counted from base.
type mbrEntry struct {
	boot         bool
	kind         byte
	start, count uint64 // in sectors of the disk; start from the disk's begin
	base         uint64 // what the record's start is relative to
}

func (e mbrEntry) encode(b []byte) {
	if e.boot {
		b[0] = mbrBootable
	}
	first := chs(e.start)
	last := chs(e.start + e.count - 1)
	copy(b[1:4], first[:])
	b[4] = e.kind
	copy(b[5:8], last[:])
	binary.LittleEndian.PutUint32(b[8:], uint32(e.start-e.base))
	binary.LittleEndian.PutUint32(b[12:], uint32(min(e.count, mbrMaxSector)))
}

// chs is the address of a sector for BIOSes from before 1996, with the customary 255 heads and 63 sectors; sectors beyond its reach get the
// largest one.
func chs(sector uint64) [3]byte {
	const heads, perTrack = 255, 63
	cylinder := sector / (heads * perTrack)
	if cylinder > 1023 {
		return [3]byte{0xfe, 0xff, 0xff}
	}
	head := sector / perTrack % heads
	return [3]byte{byte(head), byte(sector%perTrack+1) | byte(cylinder>>8<<6), byte(cylinder)}
}

// tableBytes is what lies from byte 440 to 511: signature, four records, magic number.
func tableBytes(signature uint32, entries []mbrEntry) []byte {
	b := make([]byte, 512)
	binary.LittleEndian.PutUint32(b[mbrSignatureAt:], signature)
	for i, e := range entries {
		if e.count > 0 {
			e.encode(b[mbrEntriesAt+i*mbrEntrySize:][:mbrEntrySize])
		}
	}
	b[mbrMagicAt], b[mbrMagicAt+1] = 0x55, 0xaa
	return b[mbrSignatureAt:]
}

func (p *Plan) entry(q Partition) mbrEntry {
	return mbrEntry{boot: q.Boot, kind: q.Type.MBR, start: uint64(q.Start / p.SectorSize), count: uint64(q.Size / p.SectorSize)}
}

func (p *Plan) writeMBR(w io.WriterAt) error {
	var entries []mbrEntry
	var logical []Partition
	for _, q := range p.Partitions {
		if q.Logical {
			logical = append(logical, q)
			continue
		}
		entries = append(entries, p.entry(q))
	}
	if len(logical) > 0 {
		extended, err := p.writeExtended(w, logical)
		if err != nil {
			return err
		}
		entries = append(entries, extended)
	}
	if _, err := w.WriteAt(tableBytes(p.Signature, entries), mbrSignatureAt); err != nil {
		return fmt.Errorf("writing the MBR: %w", err)
	}
	return nil
}

// writeExtended writes the chain of extended boot records, each 1 MiB before its logical partition, and returns the record of the extended
// partition that holds them all.
func (p *Plan) writeExtended(w io.WriterAt, logical []Partition) (mbrEntry, error) {
	sector := func(at int64) uint64 { return uint64(at / p.SectorSize) }
	begin := logical[0].Start - Align
	end := logical[len(logical)-1].End()
	for i, q := range logical {
		own := q.Start - Align
		self := p.entry(q)
		self.base = sector(own)
		entries := []mbrEntry{self}
		if i+1 < len(logical) {
			next := logical[i+1]
			entries = append(entries, mbrEntry{kind: mbrTypeEBRLink, start: sector(next.Start - Align), count: sector(next.Size + Align), base: sector(begin)})
		}
		if _, err := w.WriteAt(tableBytes(0, entries), own+mbrSignatureAt); err != nil {
			return mbrEntry{}, fmt.Errorf("writing the extended boot record of partition %d: %w", q.Number, err)
		}
	}
	return mbrEntry{kind: mbrTypeExtended, start: sector(begin), count: sector(end - begin)}, nil
}

// writeProtectiveMBR writes the MBR of a GPT disk: one record over the whole disk, or over what lies before the partitions that a hybrid MBR
// shows too.
func (p *Plan) writeProtectiveMBR(w io.WriterAt) error {
	protective := mbrEntry{kind: mbrTypeGPT, start: 1, count: uint64(p.DiskSize/p.SectorSize) - 1}
	entries := []mbrEntry{protective}
	for _, q := range p.Partitions {
		for _, number := range p.Hybrid {
			if q.Number != number {
				continue
			}
			e := p.entry(q)
			if len(entries) == 1 || e.start <= entries[0].start+entries[0].count {
				entries[0].count = min(entries[0].count, e.start-1)
			}
			entries = append(entries, e)
		}
	}
	table := tableBytes(p.Signature, entries)
	if len(p.Hybrid) == 0 {
		// UEFI 2.10 table 5.4 fixes both CHS addresses of a protective record.
		record := table[mbrEntriesAt-mbrSignatureAt:]
		copy(record[1:4], []byte{0x00, 0x02, 0x00})
		copy(record[5:8], []byte{0xff, 0xff, 0xff})
	}
	if _, err := w.WriteAt(table, mbrSignatureAt); err != nil {
		return fmt.Errorf("writing the protective MBR: %w", err)
	}
	return nil
}
