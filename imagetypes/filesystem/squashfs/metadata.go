package squashfs

import (
	"context"
	"encoding/binary"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs/compress"
)

// Metadata comes in blocks that hold metadataSize bytes, the last one fewer. Before each there are 16 bits: its length as stored, and
// metadataPlain if it is not compressed (SQUASHFS_METADATA_SIZE, SQUASHFS_COMPRESSED_BIT).
const (
	metadataSize  = compress.MetadataSize
	metadataPlain = 1 << 15
)

// reference leads to a place in metadata: a block by its distance in bytes from the beginning of the table, and in the low 16 bits the place in what it
// holds.
type reference uint64

func (r reference) block() uint32  { return uint32(r >> 16) }
func (r reference) offset() uint16 { return uint16(r) }

// metadata gathers a table.
type metadata struct {
	ctx    context.Context
	method compress.Method // nil for a table that is not compressed
	block  []byte          // less than metadataSize
	stored []byte          // finished blocks
	starts []int64         // where each of them begins in stored
	err    error
}

// next returns where the next byte goes.
func (m *metadata) next() reference { return reference(len(m.stored)<<16 | len(m.block)) }

func (m *metadata) write(p []byte) {
	for len(p) > 0 {
		n := min(metadataSize-len(m.block), len(p))
		m.block = append(m.block, p[:n]...)
		p = p[n:]
		if len(m.block) == metadataSize {
			m.flush()
		}
	}
}

// flush ends a block.
func (m *metadata) flush() {
	if len(m.block) == 0 {
		return
	}
	m.starts = append(m.starts, int64(len(m.stored)))
	at := len(m.stored)
	m.stored = append(m.stored, 0, 0)
	if m.method != nil && m.err == nil {
		m.stored, m.err = m.method.Block(m.ctx, m.stored, m.block, compress.Metadata)
	}
	size := len(m.stored) - at - 2
	header := uint16(size)
	if size == 0 || size >= len(m.block) {
		m.stored = append(m.stored[:at+2], m.block...)
		header = uint16(len(m.block)) | metadataPlain
	}
	binary.LittleEndian.PutUint16(m.stored[at:], header)
	m.block = m.block[:0]
}

// plainMetadata returns a block that is not compressed.
func plainMetadata(p []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(nil, uint16(len(p))|metadataPlain), p...)
}
