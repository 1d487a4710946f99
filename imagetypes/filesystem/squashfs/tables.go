package squashfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs/compress"
)

// MaxIDs is how many different owners and groups, taken together, a file system can hold: the superblock counts them in 16 bits.
const MaxIDs = 1<<16 - 1

// ids is the table of owners and groups.
type ids struct {
	list  []uint32
	index map[uint32]uint16
}

// add returns the index of an owner or group, and false if there are too many.
func (t *ids) add(id uint32) (uint16, bool) {
	index, ok := t.index[id]
	if !ok {
		if len(t.list) == MaxIDs {
			return 0, false
		}
		index = uint16(len(t.list))
		t.index[id] = index
		t.list = append(t.list, id)
	}
	return index, true
}

// fragment is a block that holds the ends of several files.
type fragment struct {
	start int64
	size  uint32 // as stored, with dataPlain if it is not compressed
}

// noTable is the place of a table that there is not (SQUASHFS_INVALID_BLK).
const noTable = ^uint64(0)

// tables writes what comes behind the contents.
type tables struct {
	*plan
	ctx    context.Context
	method compress.Method
	out    *output
}

// metadata begins a table.
func (t *tables) metadata(plain bool) *metadata {
	m := &metadata{ctx: t.ctx, method: t.method}
	if plain {
		m.method = nil
	}
	return m
}

// put writes a table and returns where it begins.
func (t *tables) put(m *metadata) (start int64, err error) {
	m.flush()
	if m.err != nil {
		return 0, fmt.Errorf("compressing a table: %w", m.err)
	}
	start = t.out.at
	return start, t.out.write(m.stored)
}

// putIndexed writes a table and behind it head and the places of its blocks, and returns where head begins.
func (t *tables) putIndexed(m *metadata, head ...byte) (uint64, error) {
	start, err := t.put(m)
	if err != nil {
		return 0, err
	}
	at := t.out.at
	for _, s := range m.starts {
		head = binary.LittleEndian.AppendUint64(head, uint64(start+s))
	}
	return uint64(at), t.out.write(head)
}

// writeTables writes all tables and the superblock, and returns the size of the file system.
func (p *plan) writeTables(ctx context.Context, out *output, method compress.Method) (int64, error) {
	t := &tables{p, ctx, method, out}
	sb := superblock{compression: method.ID(), options: method.Options() != nil, exportTable: noTable, xattrTable: noTable, fragmentTable: noTable}
	inodes, listings := t.metadata(p.PlainInodes), t.metadata(p.PlainInodes)
	if err := p.writeInodes(inodes, listings); err != nil {
		return 0, err
	}
	start, err := t.put(inodes)
	sb.inodeTable, sb.root = uint64(start), p.root().reference
	if err != nil {
		return 0, err
	}
	if start, err = t.put(listings); err != nil {
		return 0, err
	}
	sb.directoryTable = uint64(start)
	if err := t.writeLookups(&sb); err != nil {
		return 0, err
	}
	sb.size = out.at
	if err := p.pad(out); err != nil {
		return 0, err
	}
	out.at = 0
	return sb.size, out.write(p.superblock(sb))
}

// writeLookups writes the tables that are looked up by an index.
func (t *tables) writeLookups(sb *superblock) (err error) {
	if len(t.fragments) > 0 {
		m := t.metadata(t.PlainFragments)
		for _, f := range t.fragments { // struct squashfs_fragment_entry
			entry := binary.LittleEndian.AppendUint64(nil, uint64(f.start))
			entry = binary.LittleEndian.AppendUint32(entry, f.size)
			m.write(binary.LittleEndian.AppendUint32(entry, 0))
		}
		if sb.fragmentTable, err = t.putIndexed(m); err != nil {
			return err
		}
	}
	if !t.NoExport {
		m := t.metadata(t.PlainInodes)
		for _, r := range t.references() {
			m.write(binary.LittleEndian.AppendUint64(nil, uint64(r)))
		}
		if sb.exportTable, err = t.putIndexed(m); err != nil {
			return err
		}
	}
	m := t.metadata(t.PlainInodes || t.PlainIDs)
	for _, id := range t.ids.list {
		m.write(binary.LittleEndian.AppendUint32(nil, id))
	}
	if sb.idTable, err = t.putIndexed(m); err != nil {
		return err
	}
	if len(t.xattrs.sets) > 0 {
		sb.xattrTable, err = t.writeXattrs()
	}
	return err
}

// references returns the places of all inodes, in the order of their numbers.
func (p *plan) references() []reference {
	list := make([]reference, p.inodes)
	for _, d := range p.dirs {
		for _, in := range d.entries {
			list[in.number-1] = in.reference
		}
	}
	list[p.root().number-1] = p.root().reference
	return list
}

// writeXattrs writes the different sets of extended attributes and the table that leads to them (struct squashfs_xattr_id).
func (t *tables) writeXattrs() (uint64, error) {
	values, table := t.metadata(t.PlainXattrs), t.metadata(t.PlainXattrs)
	for _, set := range t.xattrs.sets {
		entry := binary.LittleEndian.AppendUint64(nil, uint64(values.next()))
		entry = binary.LittleEndian.AppendUint32(entry, uint32(len(set)))
		size := 0 // of the names as C has them, and of the values
		for _, x := range set {
			size += len(x.Name) + 1 + len(x.Value)
		}
		table.write(binary.LittleEndian.AppendUint32(entry, uint32(size)))
		values.write(encodeXattrs(set))
	}
	start, err := t.put(values)
	if err != nil {
		return 0, err
	}
	head := binary.LittleEndian.AppendUint64(nil, uint64(start)) // struct squashfs_xattr_id_table
	head = binary.LittleEndian.AppendUint32(head, uint32(len(t.xattrs.sets)))
	return t.putIndexed(table, binary.LittleEndian.AppendUint32(head, 0)...)
}

// padding is what the size of a file system is a multiple of, so that devices with any size of sectors can hold it.
const padding = 4 << 10

// pad makes the file end behind the file system.
func (p *plan) pad(out *output) error {
	if rest := out.at % padding; rest != 0 && !p.NoPadding {
		if err := out.write(make([]byte, padding-rest)); err != nil {
			return err
		}
	}
	return out.file.Truncate(out.at)
}

// superblock has what is not in the plan (struct squashfs_super_block).
type superblock struct {
	compression uint16
	options     bool // options of the compression follow
	root        reference
	size        int64

	idTable, xattrTable, inodeTable, directoryTable, fragmentTable, exportTable uint64
}

const (
	superblockSize = 96
	magic          = 0x73717368
)

// Bits of the superblock's flags (SQUASHFS_NOI and following).
const (
	flagPlainInodes = 1 << iota
	flagPlainData
	_
	flagPlainFragments
	flagNoFragments
	flagAlwaysFragments
	flagDuplicates
	flagExport
	flagPlainXattrs
	flagNoXattrs
	flagOptions
	flagPlainIDs
)

func (p *plan) superblock(s superblock) []byte {
	flags := uint16(0)
	for _, f := range []struct {
		bit uint16
		set bool
	}{
		{flagPlainInodes, p.PlainInodes}, {flagPlainData, p.PlainData}, {flagPlainFragments, p.PlainFragments}, {flagNoFragments, p.Fragments == FragmentsNone},
		{flagAlwaysFragments, p.Fragments == FragmentsAlways}, {flagDuplicates, !p.KeepDuplicates}, {flagExport, !p.NoExport}, {flagPlainXattrs, p.PlainXattrs},
		{flagNoXattrs, p.NoXattrs}, {flagOptions, s.options}, {flagPlainIDs, p.PlainIDs},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	le := binary.LittleEndian
	b := make([]byte, 0, superblockSize)
	for _, v := range []uint32{magic, p.inodes, p.Epoch, uint32(p.BlockSize), uint32(len(p.fragments))} {
		b = le.AppendUint32(b, v)
	}
	for _, v := range []uint16{s.compression, uint16(bits.TrailingZeros(uint(p.BlockSize))), flags, uint16(len(p.ids.list)), 4, 0} {
		b = le.AppendUint16(b, v)
	}
	for _, v := range []uint64{
		uint64(s.root), uint64(s.size), s.idTable, s.xattrTable, s.inodeTable, s.directoryTable, s.fragmentTable, s.exportTable,
	} {
		b = le.AppendUint64(b, v)
	}
	return b
}
