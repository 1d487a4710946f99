// Package matches finds what came before in a content: the earlier places that share bytes with one, all lengths at once, for compressors that weigh
// them against each other.
package matches

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Tree finds the earlier places of a block that share most bytes with one, by binary trees: one for each hash of 4 bytes, in the order of the bytes
// that follow, with the latest place as its root. Each place is put in once, in order: as it is looked up or skipped. Places are kept plus 1, so that 0 is none.
type Tree struct {
	data      []byte
	window    int // how far back a match may be
	nice      int // a match of this length is good enough
	depth     int // how many places are looked at
	two       []uint32
	three     []uint32
	four      []uint32
	fourShift uint
	children  []uint32 // two for each place: smaller and larger
}

const (
	twoBits   = 10
	threeBits = 16
	fourBits  = 18 // at most: small contents need fewer
)

// MinLength is how many bytes there must be from a place on for it to be put in.
const MinLength = 4

// Match is an earlier place with the same bytes.
type Match struct {
	Length   uint32
	Distance uint32 // less one
}

// New returns an empty tree.
func New() *Tree {
	return &Tree{two: make([]uint32, 1<<twoBits), three: make([]uint32, 1<<threeBits), four: make([]uint32, 1<<fourBits)}
}

// Reset makes the tree one for data. Matches may be window bytes back, one of nice bytes is good enough, and depth places are looked at.
func (t *Tree) Reset(data []byte, window, nice, depth int) {
	t.data, t.window, t.nice, t.depth = data, window, nice, depth
	clear(t.two)
	clear(t.three)
	hashBits := min(max(bits.Len(uint(min(len(data), 2*window))), 10), fourBits)
	t.fourShift = uint(32 - hashBits)
	clear(t.four[:1<<hashBits])
	if len(t.children) < 2*len(data) {
		t.children = make([]uint32, 2*len(data))
	}
}

// Find appends the matches at pos, each longer and farther than the one before, and puts pos in. limit is how long they may be, at least MinLength.
func (t *Tree) Find(pos, limit int, out []Match) []Match {
	data := t.data
	v := binary.LittleEndian.Uint32(data[pos:])
	two, three, four := v&0xffff*0x9e3779b1>>(32-twoBits), v&0xffffff*0x9e3779b1>>(32-threeBits), v*0x9e3779b1>>t.fourShift
	at2, at3, at4 := t.two[two], t.three[three], t.four[four]
	here := uint32(pos + 1)
	t.two[two], t.three[three], t.four[four] = here, here, here
	lowest := uint32(max(pos-t.window, 0) + 1)
	best := 1
	if at2 >= lowest && binary.LittleEndian.Uint16(data[at2-1:]) == uint16(v) {
		best = 2
		if data[at2+1] == data[pos+2] {
			best = 3
		}
		out = append(out, Match{uint32(best), here - at2 - 1})
	}
	if at3 >= lowest && at3 != at2 && best < 3 {
		if w := binary.LittleEndian.Uint32(data[at3-1:]); (w^v)&0xffffff == 0 {
			best = 3
			out = append(out, Match{3, here - at3 - 1})
		}
	}
	if n := len(out); n > 0 && best == 3 {
		at := pos - int(out[n-1].Distance) - 1
		best = 3 + Common(data, at+3, pos+3, limit-3)
		out[n-1].Length = uint32(best)
		if best >= min(limit, t.nice) {
			t.descend(pos, at4, lowest, min(limit, t.nice), limit, nil)
			return out
		}
	}
	n := len(out)
	out = t.descend(pos, at4, lowest, min(limit, t.nice), best, out)
	if last := len(out) - 1; last >= n && int(out[last].Length) == t.nice {
		at := pos - int(out[last].Distance) - 1
		out[last].Length += uint32(Common(data, at+t.nice, pos+t.nice, limit-t.nice))
	}
	return out
}

// Skip puts pos in. limit is how many bytes there are from it on, at least MinLength.
func (t *Tree) Skip(pos, limit int) {
	v := binary.LittleEndian.Uint32(t.data[pos:])
	two, three, four := v&0xffff*0x9e3779b1>>(32-twoBits), v&0xffffff*0x9e3779b1>>(32-threeBits), v*0x9e3779b1>>t.fourShift
	at4 := t.four[four]
	here := uint32(pos + 1)
	t.two[two], t.three[three], t.four[four] = here, here, here
	t.descend(pos, at4, uint32(max(pos-t.window, 0)+1), min(limit, t.nice), limit, nil)
}

// descend goes down the tree whose root is at, and makes pos its root. It appends the matches longer than best.
func (t *Tree) descend(pos int, at, lowest uint32, limit, best int, out []Match) []Match {
	data, children := t.data, t.children
	here := data[pos : pos+limit]
	own := (*[2]uint32)(children[2*pos:])
	smaller, larger := &own[0], &own[1] // where the next place that is smaller or larger than pos goes
	var smaller0, larger0 int           // how many bytes of those so far are those at pos
	for depth := t.depth; at >= lowest && depth > 0; depth-- {
		from := int(at - 1)
		both := (*[2]uint32)(children[2*from:])
		n := min(larger0, smaller0)
		there := data[from : from+len(here)]
		if there[n] == here[n] {
			n += 1 + Common(data, from+n+1, pos+n+1, limit-n-1)
			if n > best {
				best = n
				out = append(out, Match{uint32(n), uint32(pos - from - 1)})
			}
			if n >= limit {
				*smaller, *larger = both[0], both[1]
				return out
			}
		}
		if there[n] < here[n] {
			*smaller, smaller = at, &both[1]
			at, smaller0 = *smaller, n
		} else {
			*larger, larger = at, &both[0]
			at, larger0 = *larger, n
		}
	}
	*smaller, *larger = 0, 0
	return out
}

// Strange reports whether hardly any of at most 65536 places has come before. If so, it puts in a few, and the others are not to be put in.
func (t *Tree) Strange(pos, end int) bool {
	const (
		length  = 8
		step    = 5 // of the places that are looked up
		putStep = 4 // of those that can be found, so that a shift by any number of places leaves some
		rare    = 20
	)
	var here [1 << 14]uint16 // of the places in question, which are not in the tree yet
	index := func(at int) uint32 { return binary.LittleEndian.Uint32(t.data[at:]) * 0x9e3779b1 >> t.fourShift }
	same := func(from, at int) bool {
		return from >= 0 && from < at && binary.LittleEndian.Uint64(t.data[from:]) == binary.LittleEndian.Uint64(t.data[at:])
	}
	seen, tried := 0, 0
	for at := pos; at+length <= end; at++ {
		i := index(at)
		if (at-pos)%step == 0 {
			tried++
			if same(int(t.four[i])-1, at) || same(pos+int(here[i*0x9e3779b1>>18]), at) {
				seen++
			}
		}
		if (at-pos)%putStep == 0 {
			here[i*0x9e3779b1>>18] = uint16(at - pos)
		}
	}
	if seen > tried/rare {
		return false
	}
	for at := pos; at+length <= end; at += putStep {
		t.four[index(at)] = uint32(at + 1)
		t.children[2*at], t.children[2*at+1] = 0, 0
	}
	return true
}

// Common returns how many bytes of data from two places on are the same, at most limit.
func Common(data []byte, from, to, limit int) int {
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

// Even reports whether bytes are enough to tell and all values are about as frequent.
func Even(data []byte) bool {
	const (
		least   = 4096
		perByte = 7.9 // bits
	)
	if len(data) < least {
		return false
	}
	var counts [256]int32
	for _, b := range data {
		counts[b]++
	}
	sum := 0.0
	for _, n := range counts {
		if n > 0 {
			sum -= float64(n) * math.Log2(float64(n)/float64(len(data)))
		}
	}
	return sum >= perByte*float64(len(data))
}
