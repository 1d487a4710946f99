package diskformat

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"unicode/utf16"
)

// Places and numbers of MS-VHDX, '[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format'. All fields are little-endian.
const (
	vhdxHeader1At   = 64 << 10
	vhdxHeader2At   = 128 << 10
	vhdxHeaderSize  = 4 << 10
	vhdxRegion1At   = 192 << 10
	vhdxRegion2At   = 256 << 10
	vhdxRegionSize  = 64 << 10
	vhdxLogAt       = 1 << 20
	vhdxLogSize     = 1 << 20
	vhdxMetadataAt  = 2 << 20
	vhdxMetadata    = 1 << 20
	vhdxItemsAt     = 64 << 10 // in the metadata region
	vhdxTableAt     = 3 << 20
	vhdxMiB         = 1 << 20
	vhdxFullPresent = 6 // PAYLOAD_BLOCK_FULLY_PRESENT
	vhdxSectorSize  = 512
	vhdxPhysical    = 4096
	// vhdxChunk is how many bytes of the disk one block of sector bitmaps covers: 2^23 sectors.
	vhdxChunk = 1 << 23 * vhdxSectorSize

	vhdxRequired    = 4
	vhdxVirtualDisk = 2
)

func checkVHDX(j *job) error {
	_, err := vhdxBlockSize(j)
	return err
}

// vhdxBlockSize returns the size of a block in bytes.
func vhdxBlockSize(j *job) (int64, error) {
	text := j.option("block_size", "")
	switch {
	case text == "" && j.size > 1<<40:
		return 32 << 20, nil
	case text == "":
		return 1 << 20, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1<<20 || n > 256<<20 || n&(n-1) != 0 {
		return 0, fmt.Errorf("block_size=%s: it must be a power of two from 1048576 to 268435456", text)
	}
	return n, nil
}

// writeVHDX writes an image that grows. Its blocks have 1 MiB up to a disk of 1 TiB, beyond 32 MiB, or what block_size asks for in bytes.
func writeVHDX(ctx context.Context, j *job) error {
	blockSize, err := vhdxBlockSize(j)
	if err != nil {
		return err
	}
	blocks := (j.size + blockSize - 1) / blockSize
	ratio := vhdxChunk / blockSize
	// After each ratio payload entries stands the entry of a sector bitmap, unused here.
	entries := blocks + (blocks-1)/ratio
	tableSize := (8*entries + vhdxMiB - 1) / vhdxMiB * vhdxMiB
	table := make([]byte, 8*entries)
	at := vhdxTableAt + tableSize
	err = eachBlock(ctx, j, blockSize, noWork, func(b *block) error {
		binary.LittleEndian.PutUint64(table[8*(b.index+b.index/ratio):], uint64(at)|vhdxFullPresent)
		err := writeSparse(j.out, b.data, at)
		at += blockSize
		return err
	})
	if err != nil {
		return err
	}
	if err := j.out.Truncate(at); err != nil {
		return err
	}
	if _, err := j.out.WriteAt(table, vhdxTableAt); err != nil {
		return err
	}
	return vhdxTables(j, blockSize, tableSize)
}

// vhdxTables writes all that comes before the table of blocks.
func vhdxTables(j *job, blockSize, tableSize int64) error {
	metadata, err := vhdxMetadataRegion(j, blockSize)
	if err != nil {
		return err
	}
	region, err := vhdxRegionTable(tableSize)
	if err != nil {
		return err
	}
	header1, err := vhdxHeader(j, 1)
	if err != nil {
		return err
	}
	header2, err := vhdxHeader(j, 2)
	if err != nil {
		return err
	}
	identifier := []byte("vhdxfile")
	for _, unit := range utf16.Encode([]rune("imgbuild")) {
		identifier = binary.LittleEndian.AppendUint16(identifier, unit)
	}
	for _, part := range []struct {
		data []byte
		at   int64
	}{
		{identifier, 0}, {header1, vhdxHeader1At}, {header2, vhdxHeader2At}, {region, vhdxRegion1At}, {region, vhdxRegion2At}, {metadata, vhdxMetadataAt},
	} {
		if _, err := j.out.WriteAt(part.data, part.at); err != nil {
			return err
		}
	}
	return nil
}

// vhdxSum puts the CRC-32C of b, with the field itself zero, into byte 4.
func vhdxSum(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// vhdxHeader is section 2.2.2; the log is empty.
func vhdxHeader(j *job, sequence uint64) ([]byte, error) {
	b := make([]byte, vhdxHeaderSize)
	le := binary.LittleEndian
	copy(b, "head")
	le.PutUint64(b[8:], sequence)
	for at, label := range map[int]string{16: "vhdx file write", 32: "vhdx data write"} {
		id, err := mixedGUID(j.settings.IDs.UUID(label))
		if err != nil {
			return nil, err
		}
		copy(b[at:], id[:])
	}
	le.PutUint16(b[66:], 1) // version
	le.PutUint32(b[68:], vhdxLogSize)
	le.PutUint64(b[72:], vhdxLogAt)
	return vhdxSum(b), nil
}

// vhdxRegionTable is section 2.2.3: where the table of blocks and the metadata lie.
func vhdxRegionTable(tableSize int64) ([]byte, error) {
	b := make([]byte, vhdxRegionSize)
	le := binary.LittleEndian
	copy(b, "regi")
	le.PutUint32(b[8:], 2)
	for i, region := range []struct {
		guid     string
		at, size int64
	}{
		{"2DC27766-F623-4200-9D64-115E9BFD4A08", vhdxTableAt, tableSize},
		{"8B7CA206-4790-4B9A-B8FE-575F050F886E", vhdxMetadataAt, vhdxMetadata},
	} {
		e := b[16+32*i:]
		guid, err := mixedGUID(region.guid)
		if err != nil {
			return nil, err
		}
		copy(e, guid[:])
		le.PutUint64(e[16:], uint64(region.at))
		le.PutUint32(e[24:], uint32(region.size))
		le.PutUint32(e[28:], 1) // required
	}
	return vhdxSum(b), nil
}

// vhdxMetadataRegion is section 2.6: a table of items and the items.
func vhdxMetadataRegion(j *job, blockSize int64) ([]byte, error) {
	le := binary.LittleEndian
	id, err := mixedGUID(j.settings.IDs.UUID("vhdx disk"))
	if err != nil {
		return nil, err
	}
	items := []struct {
		guid  string
		flags uint32
		value []byte
	}{
		{"CAA16737-FA36-4D43-B3B6-33F0AA44E76B", vhdxRequired, le.AppendUint64(nil, uint64(blockSize))}, // file parameters; the upper half holds flags
		{"2FA54224-CD1B-4876-B211-5DBED83BF4B8", vhdxRequired | vhdxVirtualDisk, le.AppendUint64(nil, uint64(j.size))},
		{"BECA12AB-B2E6-4523-93EF-C309E000C746", vhdxRequired | vhdxVirtualDisk, id[:]},
		{"8141BF1D-A96F-4709-BA47-F233A8FAAB5F", vhdxRequired | vhdxVirtualDisk, le.AppendUint32(nil, vhdxSectorSize)},
		{"CDA348C7-445D-4471-9CC9-E9885251C556", vhdxRequired | vhdxVirtualDisk, le.AppendUint32(nil, vhdxPhysical)},
	}
	b := make([]byte, vhdxItemsAt+4096)
	copy(b, "metadata")
	le.PutUint16(b[10:], uint16(len(items)))
	at := vhdxItemsAt
	for i, item := range items {
		e := b[32+32*i:]
		guid, err := mixedGUID(item.guid)
		if err != nil {
			return nil, err
		}
		copy(e, guid[:])
		le.PutUint32(e[16:], uint32(at))
		le.PutUint32(e[20:], uint32(len(item.value)))
		le.PutUint32(e[24:], item.flags)
		at += copy(b[at:], item.value)
	}
	return b, nil
}
