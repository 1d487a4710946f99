package xz

import "encoding/binary"

// Filter makes machine code compress better: it turns the targets of calls and jumps, which are counted from where they stand, into places counted
// from the content's beginning, so that all calls of one function look the same. Its value is its number in the format (section 5.3.2).
type Filter byte

// The filters.
const (
	None     Filter = 0
	X86      Filter = 4
	PowerPC  Filter = 5 // the highest byte first
	ARM      Filter = 7
	ARMThumb Filter = 8
	SPARC    Filter = 9
)

func (f Filter) apply(data []byte) {
	switch f {
	case X86:
		filterX86(data)
	case PowerPC:
		filterPowerPC(data)
	case ARM:
		filterARM(data)
	case ARMThumb:
		filterThumb(data)
	case SPARC:
		filterSPARC(data)
	}
}

// filterX86 changes the four bytes after CALL (E8) and JMP (E9) if the highest of them is 00 or FF: a target within 16 MiB. Such a byte within the
// last few bytes may be the begin of another instruction, and readers must see the same: recent notes where the last ones were, a bit for each byte
// with the last byte's lowest, and 16 times that for those whose highest byte was 00 or FF.
func filterX86(data []byte) {
	const length = 5
	near := func(b byte) bool { return b == 0 || b == 0xff }
	recent, last := uint32(0), -length
	for at := 0; at+length <= len(data); {
		if data[at]&0xfe != 0xe8 {
			at++
			continue
		}
		if at-last > length {
			recent = 0
		} else {
			for range at - last {
				recent = recent & 0x77 << 1
			}
		}
		last = at
		highest := data[at+4]
		seen := recent >> 1
		if !near(highest) || seen >= 16 || seen&7 == 3 || seen&7 >= 5 {
			recent |= 1
			if near(highest) {
				recent |= 16
			}
			at++
			continue
		}
		target := filterX86Target(binary.LittleEndian.Uint32(data[at+1:]), uint32(at+length), recent, near)
		target = target&0xffffff | -(target>>24&1)<<24
		binary.LittleEndian.PutUint32(data[at+1:], target)
		at += length
		recent = 0
	}
}

// PaysX86 reports whether the filter X86 makes content smaller, as far as one can tell without compressing it: whether more calls and jumps go to
// places that others go to than have distances that others have. It is not so with object files, whose calls are still to be filled in, and data.
func PaysX86(content []byte) bool {
	const hashBits = 12
	var places, distances [1 << hashBits]uint32
	gained, lost := 0, 0
	for at := 0; at+5 <= len(content); at++ {
		if content[at]&0xfe != 0xe8 || content[at+4] != 0 && content[at+4] != 0xff {
			continue
		}
		distance := binary.LittleEndian.Uint32(content[at+1:])
		place := distance + uint32(at)
		if i := distance * 0x9e3779b1 >> (32 - hashBits); distances[i] == distance {
			lost++
		} else {
			distances[i] = distance
		}
		if i := place * 0x9e3779b1 >> (32 - hashBits); places[i] == place {
			gained++
		} else {
			places[i] = place
		}
	}
	return gained > lost
}

// filterX86Target counts a target from the beginning. Where another instruction may begin within it, what would look like its highest byte must not
// become 00 or FF.
func filterX86Target(source, place, recent uint32, near func(byte) bool) uint32 {
	for {
		target := source + place
		if recent == 0 {
			return target
		}
		bit := [8]uint32{0, 1, 2, 2, 3, 3, 3, 3}[recent>>1&7]
		if !near(byte(target >> (24 - 8*bit))) {
			return target
		}
		source = target ^ (1<<(32-8*bit) - 1)
	}
}

// filterARM changes BL.
func filterARM(data []byte) {
	for at := 0; at+4 <= len(data); at += 4 {
		if v := binary.LittleEndian.Uint32(data[at:]); v>>24 == 0xeb {
			binary.LittleEndian.PutUint32(data[at:], (v+uint32(at+8)>>2)&0xffffff|0xeb<<24)
		}
	}
}

// filterThumb changes BL, which is two instructions of 16 bits.
func filterThumb(data []byte) {
	for at := 0; at+4 <= len(data); at += 2 {
		high, low := uint32(binary.LittleEndian.Uint16(data[at:])), uint32(binary.LittleEndian.Uint16(data[at+2:]))
		if high>>11 != 0x1e || low>>11 != 0x1f {
			continue
		}
		target := (high&0x7ff<<11 | low&0x7ff) + uint32(at+4)>>1
		binary.LittleEndian.PutUint16(data[at:], uint16(0xf000|target>>11&0x7ff))
		binary.LittleEndian.PutUint16(data[at+2:], uint16(0xf800|target&0x7ff))
		at += 2
	}
}

// filterPowerPC changes bl.
func filterPowerPC(data []byte) {
	for at := 0; at+4 <= len(data); at += 4 {
		if v := binary.BigEndian.Uint32(data[at:]); v>>26 == 0x12 && v&3 == 1 {
			binary.BigEndian.PutUint32(data[at:], (v+uint32(at))&0x3fffffc|0x12<<26|1)
		}
	}
}

// filterSPARC changes call.
func filterSPARC(data []byte) {
	for at := 0; at+4 <= len(data); at += 4 {
		if v := binary.BigEndian.Uint32(data[at:]); v>>22 == 0x100 || v>>22 == 0x1ff {
			target := v + uint32(at)>>2
			binary.BigEndian.PutUint32(data[at:], -(target>>22&1)<<22&0x3fffffff|target&0x3fffff|1<<30)
		}
	}
}
