package xz

import (
	"encoding/binary"

	"github.com/imgbuild/imgbuild/internal/matches"
)

// finder finds earlier places of a block with the same bytes. It keeps the last place of each value of 8 bytes, for long matches, and of
// 4 bytes, for short ones.
type finder struct {
	data        []byte
	long, short []entry // by the first bits of a hash
}

// entry is a place in its low bits, and above them further bits of the hash: most places that hold something else are known without a look at
// them, which would take longer than all the rest.
type entry uint32

const (
	longBits  = 19
	shortBits = 16
	longLen   = 8
	shortLen  = 4
	farther   = 1 << 16 // a match of 4 bytes that is farther away costs more than its literals

	placeBits = dictionaryBits/2 + 12 // so that every place of a block fits
	tagBits   = 32 - placeBits
)

func newFinder() *finder {
	return &finder{long: make([]entry, 1<<longBits), short: make([]entry, 1<<shortBits)}
}

func (f *finder) reset(data []byte) {
	f.data = data
	clear(f.long)
	clear(f.short)
}

// split returns the index of a table and an entry with the tag, of a hash's first bits.
func split(hash uint32, indexBits int) (index uint32, tag entry) {
	return hash >> (32 - indexBits), entry(hash << indexBits >> placeBits << placeBits)
}

func longHash(v uint64) (index uint32, tag entry) {
	return split(uint32(v*0x9e3779b97f4a7c15>>32), longBits)
}

func shortHash(v uint32) (index uint32, tag entry) { return split(v*0x9e3779b1, shortBits) }

// place returns where an entry points to, if it has the tag.
func (e entry) place(tag entry) (at int, ok bool) {
	return int(e & (1<<placeBits - 1)), e>>placeBits == tag>>placeBits
}

// insert notes the bytes at pos, which must have longLen bytes of data from it on.
func (f *finder) insert(pos int) {
	v := binary.LittleEndian.Uint64(f.data[pos:])
	f.insertLong(pos, v)
	index, tag := shortHash(uint32(v))
	f.short[index] = tag | entry(pos)
}

func (f *finder) insertLong(pos int, v uint64) {
	index, tag := longHash(v)
	f.long[index] = tag | entry(pos)
}

// seen reports whether the 8 bytes at pos are noted at an earlier place.
func (f *finder) seen(pos int) bool {
	v := binary.LittleEndian.Uint64(f.data[pos:])
	index, tag := longHash(v)
	at, ok := f.long[index].place(tag)
	return ok && at < pos && binary.LittleEndian.Uint64(f.data[at:]) == v
}

// find returns the best match at pos, which is noted, and 0 if there is none. pos is not 0, so that an empty entry is a place like any other.
func (f *finder) find(pos, limit int) (distance uint32, length int) {
	v := binary.LittleEndian.Uint64(f.data[pos:])
	index, longTag := longHash(v)
	long := &f.long[index]
	index, shortTag := shortHash(uint32(v))
	short := &f.short[index]
	at, ok := long.place(longTag)
	near, okNear := short.place(shortTag)
	*long, *short = longTag|entry(pos), shortTag|entry(pos)
	if ok && binary.LittleEndian.Uint64(f.data[at:]) == v {
		distance, length = uint32(pos-at-1), longLen+f.extend(at+longLen, pos+longLen, limit-longLen)
	}
	if okNear && near != at && binary.LittleEndian.Uint32(f.data[near:]) == uint32(v) {
		n := shortLen + f.extend(near+shortLen, pos+shortLen, limit-shortLen)
		d := uint32(pos - near - 1)
		if n+1 > length && (n > shortLen || d < farther) && !(n < length+2 && d > distance && length > 0) {
			distance, length = d, n
		}
	}
	return distance, length
}

// extend returns how many bytes from two places on are the same, at most limit.
func (f *finder) extend(from, to, limit int) int { return matches.Common(f.data, from, to, limit) }
