// Package deflate compresses small contents into zlib's format, smaller and faster than zlib does at its highest level.
//
// Where zlib takes a match or leaves it by rules of thumb, all ways to write a piece of the content are weighed by what they cost in bits, and what
// symbols cost follows from how often the last weighing has used them. Where blocks of their own codes begin is found in the same way.
//
// The formats are those of RFC 1950 and RFC 1951.
package deflate

import (
	"encoding/binary"
	"hash/adler32"

	"github.com/imgbuild/imgbuild/internal/matches"
)

// Limits of the format (RFC 1951, section 3.2.5).
const (
	minMatch  = 3
	maxMatch  = 258
	maxStored = 1<<16 - 1 // bytes of a block that is not compressed
)

// pieceSize is how many bytes are weighed at once.
const pieceSize = 64 << 10

// Settings say how [Packer] compresses.
type Settings struct {
	Window int // how far back a match may be, as the logarithm of bytes: 8 to 15
	Nice   int // a match of this length in bytes is good enough: 8 to 258
	Depth  int // how many earlier places are looked at
	Passes int // how often a block is weighed: 1 or more
}

// Packer compresses contents. It is used by one goroutine at a time.
type Packer struct {
	writer
	tree  *matches.Tree
	data  []byte
	nice  int
	found []matches.Match // of all places of a piece
	first [pieceSize + 1]uint32
	costs costs
	cheap [pieceSize + 1]uint32 // what it costs to write a piece from a place to its end
	next  [pieceSize]choice     // how that begins
	whole []choice              // how a piece is written
	again []choice              // and a part of it
	split []part
	fixed codes
}

// choice is a symbol: a literal, or a match.
type choice struct {
	length   uint16 // 1 for a literal
	distance uint16 // less one
}

// NewPacker returns one, which takes about 8 MB for each MiB of content.
func NewPacker() *Packer {
	return &Packer{tree: matches.New(), costs: costs{logarithms: newLogarithms()}, fixed: newFixed()}
}

// Append appends content in zlib's format to out.
func (p *Packer) Append(out, content []byte, s Settings) []byte {
	const method, best = 8, 3
	header := uint16(s.Window-8)<<12 | method<<8 | best<<6
	header += 31 - header%31
	p.out, p.bits, p.count = binary.BigEndian.AppendUint16(out, header), 0, 0
	p.data, p.nice = content, s.Nice
	p.tree.Reset(content, 1<<s.Window, s.Nice, s.Depth)
	p.costs.begin(content)
	for pos := 0; ; {
		end := min(pos+pieceSize, len(content))
		if matches.Even(content[pos:end]) && p.tree.Strange(pos, end) {
			p.stored(content[pos:end], end == len(content))
		} else {
			p.search(pos, end)
			p.piece(pos, end, s.Passes)
		}
		if pos = end; pos == len(content) {
			break
		}
	}
	p.flush()
	return binary.BigEndian.AppendUint32(p.out, adler32.Checksum(content))
}

// search finds the matches of a piece.
func (p *Packer) search(pos, end int) {
	p.found = p.found[:0]
	skip := pos
	for at := pos; at < end; at++ {
		p.first[at-pos] = uint32(len(p.found))
		left := min(len(p.data)-at, maxMatch)
		switch {
		case left < matches.MinLength:
		case at < skip:
			p.tree.Skip(at, left)
		default:
			begin := len(p.found)
			p.found = p.tree.Find(at, left, p.found)
			if n := len(p.found); n > begin {
				// A match ends where its piece does.
				longest := &p.found[n-1]
				longest.Length = min(longest.Length, uint32(end-at))
				if int(longest.Length) >= p.nice {
					skip = at + int(longest.Length)
				}
			}
		}
	}
	p.first[end-pos] = uint32(len(p.found))
}

// piece writes a piece: it is weighed as a whole, then cut into parts, and each of them is weighed again by its own costs.
func (p *Packer) piece(pos, end, passes int) {
	p.whole = p.weigh(p.whole[:0], pos, 0, end-pos)
	p.cut(pos)
	whole, at := p.whole, 0
	for i := range p.split {
		part := &p.split[i]
		path := whole[:part.symbols]
		whole = whole[part.symbols:]
		for range passes - 1 {
			p.costs.update(&part.counts)
			p.again = p.weigh(p.again[:0], pos, at, at+part.bytes)
			path = p.again
			part.counts.count(p.data[pos+at:], path)
		}
		p.block(p.data[pos+at:pos+at+part.bytes], path, &part.counts, i == len(p.split)-1 && end == len(p.data))
		at += part.bytes
	}
	if passes == 1 && len(p.split) > 0 {
		p.costs.update(&p.split[len(p.split)-1].counts) // for the next piece
	}
}

// weigh appends the cheapest way to write what lies between two places of the piece at pos.
func (p *Packer) weigh(path []choice, pos, from, to int) []choice {
	data := p.data[pos:]
	p.cheap[to] = 0
	for at := to - 1; at >= from; at-- {
		best, how := p.costs.literals[data[at]]+p.cheap[at+1], choice{length: 1}
		length := minMatch
		for _, m := range p.found[p.first[at]:p.first[at+1]] {
			longest := min(int(m.Length), to-at)
			if longest < length {
				continue
			}
			distance := p.costs.distances[distanceSymbol(m.Distance)]
			if longest >= p.nice {
				length = longest // shorter ones would hardly be cheaper
			}
			ahead := p.cheap[at+length : at+longest+1]
			for i, lengths := range p.costs.lengths[length : longest+1][:len(ahead)] {
				if price := distance + lengths + ahead[i]; price < best {
					best, how = price, choice{uint16(length + i), uint16(m.Distance)}
				}
			}
			length = longest + 1
		}
		p.cheap[at], p.next[at] = best, how
	}
	for at := from; at < to; {
		path = append(path, p.next[at])
		at += int(p.next[at].length)
	}
	return path
}
