package xz

import (
	"encoding/binary"
	"math/bits"
)

// finder finds earlier places of a block with the same bytes. It keeps the last place of each value of 8 bytes, for long matches, and of
// 4 bytes, for short ones.
type finder struct {
	data        []byte
	long, short []int32 // places plus one, by hash
}

const (
	longBits  = 19
	shortBits = 16
	longLen   = 8
	shortLen  = 4
	farther   = 1 << 16 // a match of 4 bytes that is farther away costs more than its literals
)

func newFinder() *finder {
	return &finder{long: make([]int32, 1<<longBits), short: make([]int32, 1<<shortBits)}
}

func (f *finder) reset(data []byte) {
	f.data = data
	clear(f.long)
	clear(f.short)
}

func longHash(v uint64) uint32 { return uint32(v * 0x9e3779b97f4a7c15 >> (64 - longBits)) }

func shortHash(v uint32) uint32 { return v * 0x9e3779b1 >> (32 - shortBits) }

// insert notes the bytes at pos, which must have longLen bytes of data from it on.
func (f *finder) insert(pos int) {
	v := binary.LittleEndian.Uint64(f.data[pos:])
	f.long[longHash(v)] = int32(pos + 1)
	f.short[shortHash(uint32(v))] = int32(pos + 1)
}

// find returns the best match at pos, which is noted, and 0 if there is none.
func (f *finder) find(pos, limit int) (distance uint32, length int) {
	v := binary.LittleEndian.Uint64(f.data[pos:])
	long, short := &f.long[longHash(v)], &f.short[shortHash(uint32(v))]
	at, near := int(*long)-1, int(*short)-1
	*long, *short = int32(pos+1), int32(pos+1)
	if at >= 0 && binary.LittleEndian.Uint64(f.data[at:]) == v {
		distance, length = uint32(pos-at-1), longLen+f.extend(at+longLen, pos+longLen, limit-longLen)
	}
	if near >= 0 && near != at && binary.LittleEndian.Uint32(f.data[near:]) == uint32(v) {
		n := shortLen + f.extend(near+shortLen, pos+shortLen, limit-shortLen)
		d := uint32(pos - near - 1)
		if n+1 > length && (n > shortLen || d < farther) && !(n < length+2 && d > distance && length > 0) {
			distance, length = d, n
		}
	}
	return distance, length
}

// extend returns how many bytes from two places on are the same, at most limit.
func (f *finder) extend(from, to, limit int) int {
	data := f.data
	n := 0
	for n+8 <= limit {
		if diff := binary.LittleEndian.Uint64(data[from+n:]) ^ binary.LittleEndian.Uint64(data[to+n:]); diff != 0 {
			return n + bits.TrailingZeros64(diff)/8
		}
		n += 8
	}
	for n < limit && data[from+n] == data[to+n] {
		n++
	}
	return n
}
