package diskformat

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// Numbers of Microsoft's 'Virtual Hard Disk Image Format Specification', version 1.0. All fields are big-endian.
const (
	vhdFooterSize    = 512
	vhdHeaderSize    = 1024
	vhdTableAt       = vhdFooterSize + vhdHeaderSize
	vhdFixed         = 2
	vhdDynamic       = 3
	vhdBlockSize     = 2 << 20
	vhdBitmapSize    = vhdBlockSize / 512 / 8 // one bit for each sector of a block: 512 bytes
	vhdUnallocated   = 0xffffffff
	vhdNoOffset      = 1<<64 - 1
	vhdTagAt         = 64 << 10
	vhdTagSize       = 512
	vhdVersion       = 0x00010000
	vhdFeatures      = 2 // a bit that is always set
	vhdCreatorWin10  = 0x000a0000
	vhdMaxCylinders  = 65535
	vhdLargeGeometry = vhdMaxCylinders * 16 * 255
	vhdMaxDynamic    = 2040 << 30 // beyond it the table can't name sectors
)

// vhdFooter is the record that ends every VHD. The creator is given as Hyper-V, which counts the disk's size in bytes; readers take the
// size of other creators from the geometry, which can't name every size.
func vhdFooter(j *job, kind uint32, dataOffset uint64) ([]byte, error) {
	b := make([]byte, vhdFooterSize)
	be := binary.BigEndian
	copy(b, "conectix")
	be.PutUint32(b[8:], vhdFeatures)
	be.PutUint32(b[12:], vhdVersion)
	be.PutUint64(b[16:], dataOffset)
	since := j.settings.IDs.Epoch.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	be.PutUint32(b[24:], uint32(max(since/time.Second, 0)))
	copy(b[28:], "win ")
	be.PutUint32(b[32:], vhdCreatorWin10)
	copy(b[36:], "Wi2k")
	be.PutUint64(b[40:], uint64(j.size))
	be.PutUint64(b[48:], uint64(j.size))
	cylinders, heads, sectors := vhdGeometry(j.size / 512)
	be.PutUint16(b[56:], cylinders)
	b[58], b[59] = heads, sectors
	be.PutUint32(b[60:], kind)
	id, err := plainUUID(j.settings.IDs.UUID("vhd"))
	if err != nil {
		return nil, err
	}
	copy(b[68:], id[:])
	be.PutUint32(b[64:], vhdChecksum(b))
	return b, nil
}

// vhdChecksum is the ones' complement of the sum of all bytes; the checksum field itself must be zero.
func vhdChecksum(b []byte) uint32 {
	var sum uint32
	for _, c := range b {
		sum += uint32(c)
	}
	return ^sum
}

// vhdGeometry is the specification's appendix 'CHS Calculation'.
func vhdGeometry(total int64) (cylinders uint16, heads, perTrack uint8) {
	total = min(total, vhdLargeGeometry)
	var h, s, cylinderHeads int64
	if total >= vhdMaxCylinders*16*63 {
		s, h = 255, 16
		cylinderHeads = total / s
	} else {
		s = 17
		cylinderHeads = total / s
		h = max((cylinderHeads+1023)/1024, 4)
		if cylinderHeads >= h*1024 || h > 16 {
			s, h = 31, 16
			cylinderHeads = total / s
		}
		if cylinderHeads >= h*1024 {
			s, h = 63, 16
			cylinderHeads = total / s
		}
	}
	return uint16(cylinderHeads / h), uint8(h), uint8(s)
}

func checkVHDFixed(j *job) error {
	if j.settings.Tag == "" {
		return nil
	}
	_, err := mixedGUID(j.settings.Tag)
	return err
}

// writeVHDFixed writes the disk as it is with a footer behind, and the tag if one is asked for.
func writeVHDFixed(ctx context.Context, j *job) error {
	if err := writeRaw(ctx, j); err != nil {
		return err
	}
	if j.settings.Tag != "" {
		tag, err := mixedGUID(j.settings.Tag)
		if err != nil {
			return err
		}
		sector := make([]byte, vhdTagSize)
		copy(sector, tag[:])
		if _, err := j.out.WriteAt(sector, vhdTagAt); err != nil {
			return err
		}
	}
	footer, err := vhdFooter(j, vhdFixed, vhdNoOffset)
	if err != nil {
		return err
	}
	_, err = j.out.WriteAt(footer, j.size)
	return err
}

// writeVHD writes an image that grows, with blocks of 2 MiB.
func writeVHD(ctx context.Context, j *job) error {
	if j.size > vhdMaxDynamic {
		return fmt.Errorf("the disk has %d GiB, but a VHD that grows ends at 2040 GiB: use vhdx or vhd-fixed", j.size>>30)
	}
	blocks := (j.size + vhdBlockSize - 1) / vhdBlockSize
	tableSize := (4*blocks + 511) / 512 * 512
	table := make([]byte, tableSize)
	for i := range tableSize / 4 {
		binary.BigEndian.PutUint32(table[4*i:], vhdUnallocated)
	}
	at := vhdTableAt + tableSize
	bitmap := make([]byte, vhdBitmapSize)
	for i := range bitmap {
		bitmap[i] = 0xff
	}
	err := eachBlock(ctx, j, vhdBlockSize, noWork, func(b *block) error {
		binary.BigEndian.PutUint32(table[4*b.index:], uint32(at/512))
		if _, err := j.out.WriteAt(bitmap, at); err != nil {
			return err
		}
		err := writeSparse(j.out, b.data, at+vhdBitmapSize)
		at += vhdBitmapSize + vhdBlockSize
		return err
	})
	if err != nil {
		return err
	}
	footer, err := vhdFooter(j, vhdDynamic, vhdFooterSize)
	if err != nil {
		return err
	}
	h := make([]byte, vhdHeaderSize)
	be := binary.BigEndian
	copy(h, "cxsparse")
	be.PutUint64(h[8:], vhdNoOffset)
	be.PutUint64(h[16:], vhdTableAt)
	be.PutUint32(h[24:], vhdVersion)
	be.PutUint32(h[28:], uint32(blocks))
	be.PutUint32(h[32:], vhdBlockSize)
	be.PutUint32(h[36:], vhdChecksum(h))
	for _, part := range []struct {
		data []byte
		at   int64
	}{{footer, 0}, {h, vhdFooterSize}, {table, vhdTableAt}, {footer, at}} {
		if _, err := j.out.WriteAt(part.data, part.at); err != nil {
			return err
		}
	}
	return nil
}
