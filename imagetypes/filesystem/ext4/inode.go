package ext4

import (
	"encoding/binary"
	"fmt"

	"github.com/imgbuild/imgbuild/layers"
)

// Offsets in an inode, in bytes (ext4 documentation, "Inode Table"). Those from 0x80 on exist in inodes of more than 128 bytes only.
const (
	inMode       = 0x00
	inUID        = 0x02
	inSize       = 0x04
	inATime      = 0x08
	inCTime      = 0x0C
	inMTime      = 0x10
	inGID        = 0x18
	inLinks      = 0x1A
	inBlocks     = 0x1C // of 512 bytes, whatever the block size is
	inFlags      = 0x20
	inBlock      = 0x28 // 60 bytes: where the content lies, or a short symbolic link, or a device number
	inACL        = 0x68 // block of extended attributes
	inSizeHi     = 0x6C
	inBlocksHi   = 0x74
	inACLHi      = 0x76
	inUIDHi      = 0x78
	inGIDHi      = 0x7A
	inChecksum   = 0x7C
	inExtraIsize = 0x80
	inChecksumHi = 0x82
	inCTimeExtra = 0x84
	inMTimeExtra = 0x88
	inATimeExtra = 0x8C
	inCRTime     = 0x90
	inCRExtra    = 0x94
)

// Flags of an inode.
const (
	flagSync    = 0x8
	flagIndex   = 0x1000 // a directory with a hash tree
	flagExtents = 0x80000
	flagInline  = 0x10000000
)

// Limits of an inode's link count: with the feature dir_nlink a directory that has more subdirectories counts as 1.
const maxLinks = 65000

// fastSymlink is how long a symbolic link may be to lie in the inode itself.
const fastSymlink = inodeBlockSize - 1

// inode is one entry of a tree on its way to the disk.
type inode struct {
	node      *layers.Node
	number    uint32
	links     uint32
	parent    uint32      // of a directory: the inode of the directory it lies in
	dir       *directory  // of a directory
	runs      []run       // where the content lies
	mapBlocks []uint64    // blocks of the extent tree or block map
	inline    []byte      // extended attributes behind the fields
	block     *xattrBlock // further extended attributes
}

// sectors is the inode's size on disk in units of 512 bytes.
func (in *inode) sectors(blockSize int64) uint64 {
	blocks := uint64(len(in.mapBlocks))
	for _, r := range in.runs {
		blocks += r.count
	}
	if in.block != nil {
		blocks++
	}
	return blocks * uint64(blockSize/512)
}

// size is what stat(2) shows as the size, in bytes.
func (in *inode) size(blockSize int64) int64 {
	switch {
	case in.dir != nil:
		return int64(in.dir.blocks()) * blockSize
	case in.node.IsSymlink():
		return int64(len(in.node.Target))
	}
	return in.node.Size
}

// linkCount is what stat(2) shows as the number of links.
func (in *inode) linkCount() uint16 {
	if in.links > maxLinks {
		return 1
	}
	return uint16(in.links)
}

// putInode encodes an inode into p, which is as long as an inode. What the tree says about the content's place must be written to
// p's block field before.
func (v *volume) putInode(p []byte, in *inode) {
	n := in.node
	le := binary.LittleEndian
	le.PutUint16(p[inMode:], uint16(n.Mode))
	le.PutUint16(p[inUID:], uint16(n.UID))
	le.PutUint16(p[inUIDHi:], uint16(n.UID>>16))
	le.PutUint16(p[inGID:], uint16(n.GID))
	le.PutUint16(p[inGIDHi:], uint16(n.GID>>16))
	le.PutUint16(p[inLinks:], in.linkCount())
	size := in.size(v.sb.blockSize)
	le.PutUint32(p[inSize:], uint32(size))
	le.PutUint32(p[inSizeHi:], uint32(size>>32))
	sectors := in.sectors(v.sb.blockSize)
	le.PutUint32(p[inBlocks:], uint32(sectors))
	le.PutUint16(p[inBlocksHi:], uint16(sectors>>32))
	le.PutUint32(p[inFlags:], v.inodeFlags(in))
	if in.block != nil {
		le.PutUint32(p[inACL:], uint32(in.block.number))
		le.PutUint16(p[inACLHi:], uint16(in.block.number>>32))
	}
	for _, field := range []int{inATime, inCTime, inMTime} {
		le.PutUint32(p[field:], uint32(n.MTime.Sec))
	}
	if v.sb.inodeSize > 128 {
		le.PutUint16(p[inExtraIsize:], uint16(v.sb.extraIsize))
		extra := timeExtra(n.MTime)
		for _, field := range []int{inATimeExtra, inCTimeExtra, inMTimeExtra, inCRExtra} {
			le.PutUint32(p[field:], extra)
		}
		le.PutUint32(p[inCRTime:], uint32(n.MTime.Sec))
		copy(p[128+v.sb.extraIsize:], in.inline)
	}
	v.sealInode(p, in.number)
}

func (v *volume) inodeFlags(in *inode) uint32 {
	flags := uint32(0)
	if v.sb.extents() && (in.dir != nil || in.node.IsRegular() || len(in.runs) > 0) {
		flags |= flagExtents
	}
	if in.dir != nil && in.dir.inner > 0 {
		flags |= flagIndex
	}
	if v.sync && (in.dir != nil || in.node.IsRegular()) {
		flags |= flagSync
	}
	return flags
}

// sealInode computes the inode's checksum, whose upper half exists in large inodes only.
func (v *volume) sealInode(p []byte, number uint32) {
	if !v.sb.metadataCsum() {
		return
	}
	sum := crc32c(v.sb.inodeSeed(number), p)
	binary.LittleEndian.PutUint16(p[inChecksum:], uint16(sum))
	if v.sb.inodeSize > 128 {
		binary.LittleEndian.PutUint16(p[inChecksumHi:], uint16(sum>>16))
	}
}

// The times that an inode can hold ("Inode Timestamps"): 32 bits, and 2 more with the nanoseconds in large inodes.
const (
	minTime      = -1 << 31
	maxTimeSmall = 1<<31 - 1
	maxTimeLarge = 1<<34 - 1<<31 - 1
)

// timeExtra is the second word of a time: nanoseconds and the bits 32 and 33 of the seconds.
func timeExtra(t layers.Timespec) uint32 {
	return t.Nsec<<2 | uint32((t.Sec-int64(int32(t.Sec)))>>32)&3
}

// fitTime returns the time as nearly as an inode can hold it, and a note if that is not the same second.
func (s *superblock) fitTime(t layers.Timespec) (layers.Timespec, string) {
	most := int64(maxTimeLarge)
	if s.inodeSize == 128 {
		most = maxTimeSmall
	}
	fit := layers.Timespec{Sec: min(max(t.Sec, minTime), most), Nsec: t.Nsec}
	if fit.Sec == t.Sec {
		return fit, ""
	}
	return fit, fmt.Sprintf("time of last change %s set to %s: inodes of %d bytes hold no other", t.Time().Format(timeFormat),
		fit.Time().Format(timeFormat), s.inodeSize)
}

const timeFormat = "2006-01-02 15:04:05"

// putDevice encodes a device number into an inode's block field: the old form where it fits into 8 bits each, else the new one.
func putDevice(p []byte, n *layers.Node) {
	if n.Major < 256 && n.Minor < 256 {
		binary.LittleEndian.PutUint32(p, n.Major<<8|n.Minor)
		return
	}
	binary.LittleEndian.PutUint32(p[4:], n.Minor&0xFF|n.Major<<8|n.Minor&^0xFF<<12)
}

// readInode reads one inode of the file system as mke2fs has made it.
func (v *volume) readInode(number uint32) ([]byte, error) {
	p := make([]byte, v.sb.inodeSize)
	if _, err := v.file.ReadAt(p, v.inodeAt(number)); err != nil {
		return nil, fmt.Errorf("reading inode %d: %w", number, err)
	}
	return p, nil
}

// inodeAt returns where in the file an inode lies.
func (v *volume) inodeAt(number uint32) int64 {
	index := number - 1
	g := &v.groups[index/v.sb.inodesPerGroup]
	return v.at(g.inodeTable()) + int64(index%v.sb.inodesPerGroup)*int64(v.sb.inodeSize)
}

// blocksOf returns the blocks of a directory that mke2fs has made, those of its block map included, and how many of them hold entries.
func (v *volume) blocksOf(number uint32) (blocks []uint64, entries int, err error) {
	p, err := v.readInode(number)
	if err != nil {
		return nil, 0, err
	}
	le := binary.LittleEndian
	root := p[inBlock : inBlock+inodeBlockSize]
	switch flags := le.Uint32(p[inFlags:]); {
	case flags&flagInline != 0:
		return nil, 0, nil
	case flags&flagExtents != 0:
		if le.Uint16(root[6:]) != 0 {
			return nil, 0, fmt.Errorf("reading inode %d: its extent tree is deeper than mke2fs makes it", number)
		}
		for i := range int(min(le.Uint16(root[2:]), extentsInRoot)) {
			record := root[extentRecord*(i+1):]
			first := uint64(le.Uint32(record[8:])) | uint64(le.Uint16(record[6:]))<<32
			for n := range uint64(le.Uint16(record[4:])) {
				blocks = append(blocks, first+n)
			}
		}
		return blocks, len(blocks), nil
	}
	numbers := root[:4*directBlocks]
	if indirect := le.Uint32(root[4*directBlocks:]); indirect != 0 {
		more := make([]byte, v.sb.blockSize)
		if _, err := v.file.ReadAt(more, v.at(uint64(indirect))); err != nil {
			return nil, 0, fmt.Errorf("reading the block map of inode %d: %w", number, err)
		}
		numbers = append(append([]byte(nil), numbers...), more...)
		defer func() { blocks = append(blocks, uint64(indirect)) }()
	}
	for ; len(numbers) > 0; numbers = numbers[4:] {
		if block := le.Uint32(numbers); block != 0 {
			blocks = append(blocks, uint64(block))
		}
	}
	return blocks, len(blocks), nil
}
