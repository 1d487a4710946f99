package squashfs

import (
	"encoding/binary"
	"fmt"

	"github.com/imgbuild/imgbuild/layers"
)

// Types of inodes (SQUASHFS_DIR_TYPE and following). That of the larger form, which holds extended attributes besides, is extended more.
const (
	typeDir = 1 + iota
	typeRegular
	typeSymlink
	typeBlock
	typeChar
	typeFIFO
	typeSocket

	extended = typeSocket
)

// modeSocket is the file type of a socket in st_mode, which trees have no name for.
const modeSocket = 0o140000

func typeOf(n *layers.Node) (uint16, bool) {
	t, ok := map[uint32]uint16{
		layers.TypeDir: typeDir, layers.TypeRegular: typeRegular, layers.TypeSymlink: typeSymlink, layers.TypeBlock: typeBlock, layers.TypeChar: typeChar,
		layers.TypeFIFO: typeFIFO, modeSocket: typeSocket,
	}[n.Type()]
	return t, ok
}

func (p *plan) root() *directory { return p.dirs[len(p.dirs)-1] }

// writeInodes writes the inode table and the directory table. A directory's inode leads to its listing, and the listing to the inodes of what is in it.
func (p *plan) writeInodes(inodes, listings *metadata) error {
	for _, d := range p.dirs {
		for i, in := range d.entries {
			if in.written {
				continue
			}
			in.written = true
			raw, err := p.inode(in)
			if err != nil {
				return fmt.Errorf("writing the inode of %s: %w", d.names[i], err)
			}
			in.reference = inodes.next()
			inodes.write(raw)
		}
		if err := d.list(listings); err != nil {
			return err
		}
	}
	raw, err := p.inode(p.root().inode)
	if err != nil {
		return fmt.Errorf("writing the inode of the top directory: %w", err)
	}
	p.root().reference = inodes.next()
	inodes.write(raw)
	return nil
}

// inode returns an inode as it is stored.
func (p *plan) inode(in *inode) ([]byte, error) {
	n := in.node
	kind, ok := typeOf(n)
	if !ok {
		return nil, fmt.Errorf("it is a %s", layers.TypeName(n.Mode))
	}
	form, body := p.body(in)
	le := binary.LittleEndian
	b := le.AppendUint16(make([]byte, 0, 64), kind+form) // struct squashfs_base_inode
	for _, v := range []uint16{uint16(n.Perm()), in.uid, in.gid} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, in.mtime)
	b = le.AppendUint32(b, in.number)
	return append(b, body...), nil
}

// body returns what follows the part of an inode that all kinds have, and whether the inode is extended.
func (p *plan) body(in *inode) (form uint16, b []byte) {
	n, le := in.node, binary.LittleEndian
	switch {
	case n.IsDir():
		return in.dir.body(p.inodes + 1)
	case n.IsRegular():
		return in.content.body(in)
	}
	b = le.AppendUint32(nil, in.links)
	switch {
	case n.IsSymlink():
		b = le.AppendUint32(b, uint32(len(n.Target)))
		b = append(b, n.Target...)
	case n.IsDevice():
		b = le.AppendUint32(b, device(n.Major, n.Minor))
	}
	if in.xattrs == noXattrs {
		return 0, b
	}
	return extended, le.AppendUint32(b, in.xattrs)
}

// device returns a device number as the kernel encodes it in 32 bits (new_encode_dev).
func device(major, minor uint32) uint32 { return minor&0xff | major<<8 | minor&^0xff<<12 }

// body returns struct squashfs_reg_inode or squashfs_lreg_inode behind what all inodes have.
func (c *content) body(in *inode) (form uint16, b []byte) {
	from := c
	if c.same != nil {
		from = c.same
	}
	le, size := binary.LittleEndian, c.node.Size
	const max32 = 1<<32 - 1
	if in.links == 1 && in.xattrs == noXattrs && from.sparse == 0 && from.start <= max32 && size <= max32 {
		for _, v := range []uint32{uint32(from.start), from.fragment, from.offset, uint32(size)} {
			b = le.AppendUint32(b, v)
		}
	} else {
		form = extended
		for _, v := range []int64{from.start, size, from.sparse} {
			b = le.AppendUint64(b, uint64(v))
		}
		for _, v := range []uint32{in.links, from.fragment, from.offset, in.xattrs} {
			b = le.AppendUint32(b, v)
		}
	}
	for _, size := range from.sizes {
		b = le.AppendUint32(b, size)
	}
	return form, b
}
