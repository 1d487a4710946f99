package diskformat

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Numbers of VirtualBox's VDI, version 1.1 (its include/VBox/vd-ifs and Storage/VDICore.h).
const (
	vdiSignature   = 0xbeda107f
	vdiVersion     = 0x00010001
	vdiHeaderSize  = 400
	vdiDynamic     = 1
	vdiBlockSize   = 1 << 20
	vdiMapAt       = 512
	vdiUnallocated = 0xffffffff
)

// writeVDI writes an image that grows, with blocks of 1 MiB.
func writeVDI(ctx context.Context, j *job) error {
	blocks := (j.size + vdiBlockSize - 1) / vdiBlockSize
	dataAt := (vdiMapAt + 4*blocks + vdiBlockSize - 1) / vdiBlockSize * vdiBlockSize
	table := make([]byte, 4*blocks)
	for i := range blocks {
		binary.LittleEndian.PutUint32(table[4*i:], vdiUnallocated)
	}
	used := uint32(0)
	err := eachBlock(ctx, j, vdiBlockSize, noWork, func(b *block) error {
		binary.LittleEndian.PutUint32(table[4*b.index:], used)
		at := dataAt + int64(used)*vdiBlockSize
		used++
		return writeSparse(j.out, b.data, at)
	})
	if err != nil {
		return err
	}
	if err := j.out.Truncate(dataAt + int64(used)*vdiBlockSize); err != nil {
		return err
	}
	h := make([]byte, vdiMapAt)
	le := binary.LittleEndian
	copy(h, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	le.PutUint32(h[64:], vdiSignature)
	le.PutUint32(h[68:], vdiVersion)
	le.PutUint32(h[72:], vdiHeaderSize)
	le.PutUint32(h[76:], vdiDynamic)
	le.PutUint32(h[340:], vdiMapAt)
	le.PutUint32(h[344:], uint32(dataAt))
	le.PutUint32(h[360:], 512)
	le.PutUint64(h[368:], uint64(j.size))
	le.PutUint32(h[376:], vdiBlockSize)
	le.PutUint32(h[384:], uint32(blocks))
	le.PutUint32(h[388:], used)
	id, err := mixedGUID(j.settings.IDs.UUID("vdi image"))
	if err != nil {
		return err
	}
	snapshot, err := mixedGUID(j.settings.IDs.UUID("vdi snapshot"))
	if err != nil {
		return err
	}
	copy(h[392:], id[:])
	copy(h[408:], snapshot[:])
	if _, err := j.out.WriteAt(h, 0); err != nil {
		return err
	}
	_, err = j.out.WriteAt(table, vdiMapAt)
	return err
}

// mixedGUID gives the bytes of a GUID as Microsoft stores them: the first three groups little-endian.
func mixedGUID(s string) ([16]byte, error) {
	b, err := plainUUID(s)
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return b, err
}

// plainUUID gives the bytes of a UUID in the order they are written.
func plainUUID(s string) ([16]byte, error) {
	var b [16]byte
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.Trim(s, "{}"), "-", ""))
	if err != nil || len(raw) != len(b) {
		return b, fmt.Errorf("%q is not a GUID like 12345678-9abc-def0-1234-56789abcdef0", s)
	}
	copy(b[:], raw)
	return b, nil
}
