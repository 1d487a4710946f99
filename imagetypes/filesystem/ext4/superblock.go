package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The superblock lies 1024 bytes after the start of the file system and is 1024 bytes long (ext4 documentation, "The Super Block").
const (
	superOffset = 1024
	superSize   = 1024
	superMagic  = 0xEF53
)

// Offsets in the superblock, in bytes.
const (
	sbInodesCount    = 0x00
	sbBlocksCountLo  = 0x04
	sbFreeBlocksLo   = 0x0C
	sbFreeInodes     = 0x10
	sbFirstDataBlock = 0x14
	sbLogBlockSize   = 0x18 // block size is 1024 << this
	sbBlocksPerGroup = 0x20
	sbInodesPerGroup = 0x28
	sbMagic          = 0x38
	sbCreatorOS      = 0x48
	sbRevLevel       = 0x4C
	sbFirstInode     = 0x54
	sbInodeSize      = 0x58
	sbCompat         = 0x5C
	sbIncompat       = 0x60
	sbROCompat       = 0x64
	sbUUID           = 0x68
	sbReservedGDT    = 0xCE // blocks kept after the group descriptors so that the file system can grow
	sbHashSeed       = 0xEC // 16 bytes
	sbHashVersion    = 0xFC
	sbDescSize       = 0xFE
	sbMkfsTime       = 0x108
	sbBlocksCountHi  = 0x150
	sbFreeBlocksHi   = 0x158
	sbWantExtraIsize = 0x15E
	sbFlags          = 0x160
	sbBackupGroups   = 0x24C // two numbers of 32 bits, for sparse_super2
	sbChecksumSeed   = 0x270
	sbChecksum       = 0x3FC
)

// Feature flags that change what has to be written ("The Super Block", compatible, incompatible and read-only compatible features).
const (
	compatExtAttr      = 0x8
	compatDirIndex     = 0x20
	compatSparseSuper2 = 0x200

	incompatFiletype  = 0x2
	incompatRecover   = 0x4
	incompatJournal   = 0x8
	incompatMetaBG    = 0x10
	incompatExtents   = 0x40
	incompat64Bit     = 0x80
	incompatMMP       = 0x100
	incompatFlexBG    = 0x200
	incompatEAInode   = 0x400
	incompatCsumSeed  = 0x2000
	incompatLargeDir  = 0x4000
	incompatInline    = 0x8000
	incompatEncrypt   = 0x10000
	incompatCasefold  = 0x20000
	incompatSupported = incompatFiletype | incompatExtents | incompat64Bit | incompatMMP | incompatFlexBG | incompatEAInode | incompatCsumSeed |
		incompatLargeDir | incompatInline | incompatEncrypt | incompatCasefold

	roCompatSparseSuper = 0x1
	roCompatLargeFile   = 0x2
	roCompatHugeFile    = 0x8
	roCompatGDTCsum     = 0x10
	roCompatDirNlink    = 0x20
	roCompatExtraIsize  = 0x40
	roCompatQuota       = 0x100
	roCompatBigalloc    = 0x200
	roCompatCsum        = 0x400
	roCompatProject     = 0x2000
	roCompatVerity      = 0x8000
	roCompatOrphan      = 0x10000 // an orphan file is present but not in use
	roCompatSupported   = roCompatSparseSuper | roCompatLargeFile | 0x4 | roCompatHugeFile | roCompatGDTCsum | roCompatDirNlink | roCompatExtraIsize |
		roCompatCsum | roCompatVerity
)

// superblock is what the superblock of an empty file system says, and its bytes.
type superblock struct {
	raw [superSize]byte

	blockSize        int64 // bytes
	blocks           uint64
	firstDataBlock   uint64
	blocksPerGroup   uint32
	inodesPerGroup   uint32
	inodes           uint32
	firstInode       uint32 // below it lie the reserved inodes
	inodeSize        int    // bytes
	extraIsize       int    // how many of the bytes after the first 128 are fields
	descSize         int    // bytes of one group descriptor
	reservedGDT      uint64 // blocks
	compat, incompat uint32
	roCompat         uint32
	seed             uint32 // with which metadata checksums begin
}

// UnsupportedError says that mke2fs was told to make something that can't be filled here.
type UnsupportedError struct {
	Feature string // as mke2fs's option -O calls it
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("the ext feature %s is not supported; take it out with the mkfs option -O ^%s", e.Feature, e.Feature)
}

// readSuperblock reads and checks the superblock of the file system that begins at base.
func readSuperblock(r io.ReaderAt, base int64) (*superblock, error) {
	s := &superblock{}
	if _, err := r.ReadAt(s.raw[:], base+superOffset); err != nil {
		return nil, fmt.Errorf("reading the superblock: %w", err)
	}
	if s.u16(sbMagic) != superMagic {
		return nil, errors.New("reading the superblock: there is no ext file system")
	}
	s.decode()
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *superblock) decode() {
	s.blockSize = 1024 << (s.u32(sbLogBlockSize) & 0xF)
	s.firstDataBlock = uint64(s.u32(sbFirstDataBlock))
	s.blocksPerGroup = s.u32(sbBlocksPerGroup)
	s.inodesPerGroup = s.u32(sbInodesPerGroup)
	s.inodes = s.u32(sbInodesCount)
	s.compat, s.incompat, s.roCompat = s.u32(sbCompat), s.u32(sbIncompat), s.u32(sbROCompat)
	s.firstInode, s.inodeSize = 11, 128
	if s.u32(sbRevLevel) > 0 {
		s.firstInode, s.inodeSize = s.u32(sbFirstInode), int(s.u16(sbInodeSize))
	}
	if s.inodeSize > 128 {
		s.extraIsize = min(max(int(s.u16(sbWantExtraIsize)), 32), s.inodeSize-128)
	}
	s.blocks = uint64(s.u32(sbBlocksCountLo))
	s.descSize = 32
	if s.incompat&incompat64Bit != 0 {
		s.blocks |= uint64(s.u32(sbBlocksCountHi)) << 32
		s.descSize = int(s.u16(sbDescSize))
	}
	s.reservedGDT = uint64(s.u16(sbReservedGDT))
	switch {
	case s.incompat&incompatCsumSeed != 0:
		s.seed = s.u32(sbChecksumSeed)
	case s.metadataCsum():
		s.seed = crc32c(^uint32(0), s.uuid())
	}
}

func (s *superblock) check() error {
	unsupported := map[string]bool{
		"meta_bg":     s.incompat&incompatMetaBG != 0,
		"journal_dev": s.incompat&incompatJournal != 0,
		"bigalloc":    s.roCompat&roCompatBigalloc != 0,
	}
	for _, name := range []string{"meta_bg", "journal_dev", "bigalloc"} {
		if unsupported[name] {
			return &UnsupportedError{name}
		}
	}
	known := uint32(roCompatSupported | roCompatQuota | roCompatProject | roCompatOrphan)
	if extra := s.incompat &^ incompatSupported; extra != 0 {
		return &UnsupportedError{fmt.Sprintf("FEATURE_I%d", highestBit(extra))}
	}
	if extra := s.roCompat &^ known; extra != 0 {
		return &UnsupportedError{fmt.Sprintf("FEATURE_R%d", highestBit(extra))}
	}
	switch {
	case s.u32(sbCreatorOS) != 0:
		return errors.New("the ext file system is not made for Linux (mkfs option -o)")
	case s.blockSize > 64<<10 || s.inodeSize < 128 || int64(s.inodeSize) > s.blockSize || s.descSize < 32 || s.descSize > 1024:
		return errors.New("the superblock has impossible sizes")
	case s.blocksPerGroup == 0 || s.inodesPerGroup == 0 || int64(s.blocksPerGroup) > 8*s.blockSize || int64(s.inodesPerGroup) > 8*s.blockSize:
		return errors.New("the superblock has impossible group sizes")
	case s.blocks <= s.firstDataBlock:
		return errors.New("the superblock has an impossible number of blocks")
	}
	return nil
}

func highestBit(v uint32) int {
	n := -1
	for ; v != 0; v >>= 1 {
		n++
	}
	return n
}

func (s *superblock) u16(at int) uint16 { return binary.LittleEndian.Uint16(s.raw[at:]) }
func (s *superblock) u32(at int) uint32 { return binary.LittleEndian.Uint32(s.raw[at:]) }

func (s *superblock) put32(at int, v uint32) { binary.LittleEndian.PutUint32(s.raw[at:], v) }

func (s *superblock) uuid() []byte       { return s.raw[sbUUID : sbUUID+16] }
func (s *superblock) metadataCsum() bool { return s.roCompat&roCompatCsum != 0 }

// groupCsum reports whether group descriptors have a checksum, and with it flags for what is not initialised.
func (s *superblock) groupCsum() bool { return s.roCompat&(roCompatCsum|roCompatGDTCsum) != 0 }

func (s *superblock) extents() bool { return s.incompat&incompatExtents != 0 }

// groups returns the number of block groups.
func (s *superblock) groups() int {
	per := uint64(s.blocksPerGroup)
	return int((s.blocks - s.firstDataBlock + per - 1) / per)
}

// hasSuper reports whether a block group begins with a copy of the superblock and the group descriptors ("Layout", "Block Groups":
// with sparse_super in groups 0, 1 and the powers of 3, 5 and 7).
func (s *superblock) hasSuper(group int) bool {
	switch {
	case group == 0:
		return true
	case s.compat&compatSparseSuper2 != 0:
		return uint32(group) == s.u32(sbBackupGroups) || uint32(group) == s.u32(sbBackupGroups+4)
	case s.roCompat&roCompatSparseSuper == 0 || group == 1:
		return true
	}
	for _, base := range []int{3, 5, 7} {
		power := base
		for power < group {
			power *= base
		}
		if power == group {
			return true
		}
	}
	return false
}

// freeBlocks and the setters below keep the counters of the superblock.
func (s *superblock) freeBlocks() uint64 {
	n := uint64(s.u32(sbFreeBlocksLo))
	if s.incompat&incompat64Bit != 0 {
		n |= uint64(s.u32(sbFreeBlocksHi)) << 32
	}
	return n
}

func (s *superblock) setFreeBlocks(n uint64) {
	s.put32(sbFreeBlocksLo, uint32(n))
	if s.incompat&incompat64Bit != 0 {
		s.put32(sbFreeBlocksHi, uint32(n>>32))
	}
}

// seal computes the superblock's checksum ("Checksums": crc32c of the 1020 bytes before it).
func (s *superblock) seal() {
	if s.metadataCsum() {
		s.put32(sbChecksum, crc32c(^uint32(0), s.raw[:sbChecksum]))
	}
}
