package ext4

import (
	"encoding/binary"
	"hash/crc32"
)

// castagnoli makes the table of crc32c; hash/crc32 keeps one copy and uses the processor's instruction.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// crc32c goes on with a checksum over p as the Linux kernel does it: without the inversions before and after that hash/crc32 makes
// (ext4 documentation, "Checksums").
func crc32c(sum uint32, p []byte) uint32 { return ^crc32.Update(^sum, castagnoli(), p) }

// crc32cNumber goes on with a checksum over a number of 32 bits, little-endian.
func crc32cNumber(sum, number uint32) uint32 {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], number)
	return crc32c(sum, b[:])
}

// inodeSeed is what the checksums of everything that belongs to one inode begin with: the file system's seed, the inode's number and
// its generation, which is always 0 here.
func (s *superblock) inodeSeed(number uint32) uint32 {
	return crc32cNumber(crc32cNumber(s.seed, number), 0)
}

// crc16 goes on with a CRC-16 (polynomial 0x8005, reflected), which the feature uninit_bg uses for group descriptors.
func crc16(sum uint16, p []byte) uint16 {
	for _, b := range p {
		sum ^= uint16(b)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xA001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}
