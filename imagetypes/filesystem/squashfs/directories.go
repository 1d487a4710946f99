package squashfs

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A listing consists of runs: a header (struct squashfs_dir_header) and at most runEntries entries (struct squashfs_dir_entry) whose inodes lie in the
// same block of the inode table and have numbers near that of the header.
const (
	runEntries   = 256
	runHeader    = 12
	notInListing = 3 // counted in the size of a directory, for "." and ".."
)

// indexEntry says that a run begins a block of the directory table or nearly so, for directories of several blocks (struct squashfs_dir_index).
type indexEntry struct {
	at    uint32 // of the run in the listing
	start uint32 // of the block in the directory table
	name  string // of its first entry
}

// list writes a directory's listing.
func (d *directory) list(out *metadata) error {
	begin := out.next()
	d.start, d.offset = begin.block(), begin.offset()
	indexed := len(out.starts)
	for i := 0; i < len(d.entries); {
		here, block := out.next(), len(out.starts)
		if block != indexed {
			indexed = block
			d.index = append(d.index, indexEntry{uint32(d.length), here.block(), d.names[i]})
		}
		run := d.run(i, metadataSize-len(out.block))
		head := d.entries[i]
		le := binary.LittleEndian
		b := le.AppendUint32(nil, uint32(run-1))
		b = le.AppendUint32(b, head.reference.block())
		b = le.AppendUint32(b, head.number)
		for ; run > 0; run-- {
			in := d.entries[i]
			kind, _ := typeOf(in.node)
			b = le.AppendUint16(b, in.reference.offset())
			b = le.AppendUint16(b, uint16(in.number-head.number))
			b = le.AppendUint16(b, kind)
			b = le.AppendUint16(b, uint16(len(d.names[i])-1))
			b = append(b, d.names[i]...)
			i++
		}
		out.write(b)
		d.length += int64(len(b))
	}
	if d.length+notInListing > math.MaxUint32 {
		return fmt.Errorf("a directory of %d entries is too large for squashfs", len(d.entries))
	}
	return nil
}

// run returns how many entries from the i-th one on can stand behind one header. It ends at the first one that begins behind the room that is left in
// the block, so that the next run is one that the index can lead to.
func (d *directory) run(i, room int) int {
	const entry = 8 // bytes without the name
	head, size := d.entries[i], runHeader
	for n := 1; ; n++ {
		size += entry + len(d.names[i+n-1])
		if n == runEntries || i+n == len(d.entries) || size >= room {
			return n
		}
		next := d.entries[i+n]
		if distance := int64(next.number) - int64(head.number); next.reference.block() != head.reference.block() || distance != int64(int16(distance)) {
			return n
		}
	}
}

// body returns struct squashfs_dir_inode or squashfs_ldir_inode behind what all inodes have. The top directory's parent is above, a number that no inode has.
func (d *directory) body(above uint32) (form uint16, b []byte) {
	parent := above
	if d.parent != nil {
		parent = d.parent.number
	}
	le, size := binary.LittleEndian, d.length+notInListing
	if d.xattrs == noXattrs && size <= math.MaxUint16 && len(d.index) == 0 {
		b = le.AppendUint32(b, d.start)
		b = le.AppendUint32(b, d.links)
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint16(b, d.offset)
		return 0, le.AppendUint32(b, parent)
	}
	for _, v := range []uint32{d.links, uint32(size), d.start, parent} {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint16(b, uint16(len(d.index)))
	b = le.AppendUint16(b, d.offset)
	b = le.AppendUint32(b, d.xattrs)
	for _, e := range d.index {
		for _, v := range []uint32{e.at, e.start, uint32(len(e.name) - 1)} {
			b = le.AppendUint32(b, v)
		}
		b = append(b, e.name...)
	}
	return extended, b
}
