package ext4

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// Offsets in a group descriptor, in bytes (ext4 documentation, "Block Group Descriptors"). Those from 0x20 on exist with 64bit only.
const (
	gdBlockBitmap     = 0x00
	gdInodeBitmap     = 0x04
	gdInodeTable      = 0x08
	gdFreeBlocks      = 0x0C
	gdFreeInodes      = 0x0E
	gdUsedDirs        = 0x10
	gdFlags           = 0x12
	gdBlockBitmapCsum = 0x18
	gdInodeBitmapCsum = 0x1A
	gdUnusedInodes    = 0x1C
	gdChecksum        = 0x1E
	gdBlockBitmapHi   = 0x20
	gdInodeBitmapHi   = 0x24
	gdInodeTableHi    = 0x28
	gdFreeBlocksHi    = 0x2C
	gdFreeInodesHi    = 0x2E
	gdUsedDirsHi      = 0x30
	gdUnusedInodesHi  = 0x32
	gdBlockCsumHi     = 0x38
	gdInodeCsumHi     = 0x3A
)

// Flags of a group: which of its bitmaps were never written.
const (
	groupInodeUninit = 0x1
	groupBlockUninit = 0x2
)

// group is one block group whose bitmaps are in memory.
type group struct {
	index  int
	desc   []byte // in volume.gdt
	blocks []byte // block bitmap, one block long; nil until needed
	inodes []byte // inode bitmap, one block long; nil until needed
	wide   bool   // the descriptor has the upper halves of its numbers

	blocksChanged, inodesChanged bool
}

// volume is an ext file system inside a file.
type volume struct {
	file   file
	base   int64 // where in the file it begins, in bytes
	sb     *superblock
	gdt    []byte // all group descriptors
	groups []group
	sync   bool // directories and files get the attribute S
}

// file is what a file system lies in.
type file interface {
	io.ReaderAt
	io.WriterAt
}

// openVolume reads superblock and group descriptors.
func openVolume(f file, base int64) (*volume, error) {
	sb, err := readSuperblock(f, base)
	if err != nil {
		return nil, err
	}
	v := &volume{file: f, base: base, sb: sb}
	v.gdt = make([]byte, v.gdtBlocks()*sb.blockSize)
	if _, err := f.ReadAt(v.gdt, v.at(sb.firstDataBlock+1)); err != nil {
		return nil, fmt.Errorf("reading the group descriptors: %w", err)
	}
	v.groups = make([]group, sb.groups())
	for i := range v.groups {
		v.groups[i] = group{index: i, desc: v.gdt[i*sb.descSize : (i+1)*sb.descSize], wide: sb.descSize >= 64}
	}
	return v, nil
}

// gdtBlocks is how many blocks the group descriptors take.
func (v *volume) gdtBlocks() int64 {
	return (int64(v.sb.groups())*int64(v.sb.descSize) + v.sb.blockSize - 1) / v.sb.blockSize
}

// at returns where in the file a block begins.
func (v *volume) at(block uint64) int64 { return v.base + int64(block)*v.sb.blockSize }

// firstBlock returns the first block of a group.
func (v *volume) firstBlock(group int) uint64 {
	return v.sb.firstDataBlock + uint64(group)*uint64(v.sb.blocksPerGroup)
}

// blocksIn returns how many blocks a group has; the last one may have fewer than the others.
func (v *volume) blocksIn(group int) uint32 {
	return uint32(min(uint64(v.sb.blocksPerGroup), v.sb.blocks-v.firstBlock(group)))
}

// number reads a field of 16 or 32 bits that may have an upper half of the same width.
func (g *group) number16(lo, hi int) uint32 {
	n := uint32(binary.LittleEndian.Uint16(g.desc[lo:]))
	if g.wide {
		n |= uint32(binary.LittleEndian.Uint16(g.desc[hi:])) << 16
	}
	return n
}

func (g *group) setNumber16(lo, hi int, n uint32) {
	binary.LittleEndian.PutUint16(g.desc[lo:], uint16(n))
	if g.wide {
		binary.LittleEndian.PutUint16(g.desc[hi:], uint16(n>>16))
	}
}

func (g *group) number32(lo, hi int) uint64 {
	n := uint64(binary.LittleEndian.Uint32(g.desc[lo:]))
	if g.wide {
		n |= uint64(binary.LittleEndian.Uint32(g.desc[hi:])) << 32
	}
	return n
}

func (g *group) blockBitmap() uint64 { return g.number32(gdBlockBitmap, gdBlockBitmapHi) }
func (g *group) inodeBitmap() uint64 { return g.number32(gdInodeBitmap, gdInodeBitmapHi) }
func (g *group) inodeTable() uint64  { return g.number32(gdInodeTable, gdInodeTableHi) }

func (g *group) flags() uint16     { return binary.LittleEndian.Uint16(g.desc[gdFlags:]) }
func (g *group) clear(flag uint16) { binary.LittleEndian.PutUint16(g.desc[gdFlags:], g.flags()&^flag) }

// loadBlocks brings the block bitmap of a group into memory.
func (v *volume) loadBlocks(index int) (*group, error) {
	g := &v.groups[index]
	if g.blocks != nil {
		return g, nil
	}
	bitmap := make([]byte, v.sb.blockSize)
	if v.sb.groupCsum() && g.flags()&groupBlockUninit != 0 {
		v.fillFreshBitmap(g, bitmap)
	} else if _, err := v.file.ReadAt(bitmap, v.at(g.blockBitmap())); err != nil {
		return nil, fmt.Errorf("reading the block bitmap of group %d: %w", index, err)
	}
	g.blocks = bitmap
	return g, nil
}

// fillFreshBitmap makes the block bitmap of a group that was never written: in use are the copies of superblock and descriptors and
// those of its own bitmaps and inode table that lie in it.
func (v *volume) fillFreshBitmap(g *group, bitmap []byte) {
	first, count := v.firstBlock(g.index), v.blocksIn(g.index)
	mark := func(block, n uint64) {
		for ; n > 0; block, n = block+1, n-1 {
			if block >= first && block < first+uint64(count) {
				setBit(bitmap, uint32(block-first))
			}
		}
	}
	if v.sb.hasSuper(g.index) {
		mark(first, 1+uint64(v.gdtBlocks())+v.sb.reservedGDT)
	}
	mark(g.blockBitmap(), 1)
	mark(g.inodeBitmap(), 1)
	mark(g.inodeTable(), uint64(v.inodeTableBlocks()))
	for bit := count; bit < uint32(8*len(bitmap)); bit++ {
		setBit(bitmap, bit)
	}
}

// inodeTableBlocks is how many blocks the inode table of each group takes.
func (v *volume) inodeTableBlocks() int64 {
	return (int64(v.sb.inodesPerGroup)*int64(v.sb.inodeSize) + v.sb.blockSize - 1) / v.sb.blockSize
}

// loadInodes brings the inode bitmap of a group into memory.
func (v *volume) loadInodes(index int) (*group, error) {
	g := &v.groups[index]
	if g.inodes != nil {
		return g, nil
	}
	bitmap := make([]byte, v.sb.blockSize)
	if v.sb.groupCsum() && g.flags()&groupInodeUninit != 0 {
		for bit := v.sb.inodesPerGroup; bit < uint32(8*len(bitmap)); bit++ {
			setBit(bitmap, bit)
		}
	} else if _, err := v.file.ReadAt(bitmap, v.at(g.inodeBitmap())); err != nil {
		return nil, fmt.Errorf("reading the inode bitmap of group %d: %w", index, err)
	}
	g.inodes = bitmap
	return g, nil
}

// flushGroups writes the bitmaps that changed and brings descriptors and superblock up to date, backups included.
func (v *volume) flushGroups(out *output) error {
	for i := range v.groups {
		g := &v.groups[i]
		if g.blocksChanged {
			g.clear(groupBlockUninit)
			if err := out.write(v.at(g.blockBitmap()), g.blocks); err != nil {
				return err
			}
			v.setBitmapChecksum(g, gdBlockBitmapCsum, gdBlockCsumHi, g.blocks[:(v.sb.blocksPerGroup+7)/8])
		}
		if g.inodesChanged {
			g.clear(groupInodeUninit)
			if err := out.write(v.at(g.inodeBitmap()), g.inodes); err != nil {
				return err
			}
			v.setBitmapChecksum(g, gdInodeBitmapCsum, gdInodeCsumHi, g.inodes[:(v.sb.inodesPerGroup+7)/8])
			v.setUnusedInodes(g)
		}
		v.sealGroup(g)
	}
	return v.flushSupers(out)
}

// setBitmapChecksum stores the crc32c of a bitmap in its group's descriptor.
func (v *volume) setBitmapChecksum(g *group, lo, hi int, bitmap []byte) {
	if v.sb.metadataCsum() {
		g.setNumber16(lo, hi, crc32c(v.sb.seed, bitmap))
	}
}

// setUnusedInodes stores how many inodes at the end of a group's table were never used.
func (v *volume) setUnusedInodes(g *group) {
	if !v.sb.groupCsum() {
		return
	}
	unused := uint32(0)
	for unused < v.sb.inodesPerGroup && !getBit(g.inodes, v.sb.inodesPerGroup-unused-1) {
		unused++
	}
	g.setNumber16(gdUnusedInodes, gdUnusedInodesHi, unused)
}

// sealGroup computes the checksum of a group descriptor ("Block Group Descriptors", bg_checksum).
func (v *volume) sealGroup(g *group) {
	var number [4]byte
	binary.LittleEndian.PutUint32(number[:], uint32(g.index))
	switch {
	case v.sb.metadataCsum():
		binary.LittleEndian.PutUint16(g.desc[gdChecksum:], 0)
		sum := crc32c(crc32c(v.sb.seed, number[:]), g.desc)
		binary.LittleEndian.PutUint16(g.desc[gdChecksum:], uint16(sum))
	case v.sb.groupCsum():
		sum := crc16(^uint16(0), v.sb.uuid())
		sum = crc16(sum, number[:])
		sum = crc16(sum, g.desc[:gdChecksum])
		sum = crc16(sum, g.desc[gdChecksum+2:])
		binary.LittleEndian.PutUint16(g.desc[gdChecksum:], sum)
	}
}

// flushSupers writes the superblock and the group descriptors, and brings the copies in other groups up to date.
func (v *volume) flushSupers(out *output) error {
	v.sb.seal()
	for i := range v.groups {
		if !v.sb.hasSuper(i) {
			continue
		}
		first := v.firstBlock(i)
		if err := out.write(v.at(first+1), v.gdt); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		if err := v.flushBackup(out, v.at(first)); err != nil {
			return err
		}
	}
	return out.write(v.base+superOffset, v.sb.raw[:])
}

// flushBackup brings the counters and features of one copy of the superblock up to date; its state and its group number are its own.
func (v *volume) flushBackup(out *output, at int64) error {
	backup := superblock{roCompat: v.sb.roCompat}
	if _, err := v.file.ReadAt(backup.raw[:], at); err != nil {
		return fmt.Errorf("reading a copy of the superblock: %w", err)
	}
	for _, field := range []int{sbFreeBlocksLo, sbFreeInodes, sbFreeBlocksHi, sbCompat, sbROCompat} {
		copy(backup.raw[field:field+4], v.sb.raw[field:])
	}
	backup.seal()
	return out.write(at, backup.raw[:])
}

func setBit(bitmap []byte, bit uint32)      { bitmap[bit/8] |= 1 << (bit % 8) }
func clearBit(bitmap []byte, bit uint32)    { bitmap[bit/8] &^= 1 << (bit % 8) }
func getBit(bitmap []byte, bit uint32) bool { return bitmap[bit/8]&(1<<(bit%8)) != 0 }

// nextClear returns the first bit from start on that is clear, or limit.
func nextClear(bitmap []byte, start, limit uint32) uint32 {
	return min(scanBits(bitmap, start, limit, ^uint64(0)), limit)
}

// nextSet returns the first bit from start on that is set, or limit.
func nextSet(bitmap []byte, start, limit uint32) uint32 {
	return min(scanBits(bitmap, start, limit, 0), limit)
}

// scanBits looks for a bit that differs from those of the pattern, 64 at a time. Bitmaps are a whole number of 64-bit words long.
func scanBits(bitmap []byte, start, limit uint32, pattern uint64) uint32 {
	for at := start; at < limit; at = at&^63 + 64 {
		word := binary.LittleEndian.Uint64(bitmap[at/64*8:]) ^ pattern
		word &= ^uint64(0) << (at % 64)
		if word != 0 {
			return at&^63 + uint32(bits.TrailingZeros64(word))
		}
	}
	return limit
}
