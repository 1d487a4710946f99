package xz

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"github.com/imgbuild/imgbuild/internal/matches"
)

// Settings say how [Packer] compresses.
type Settings struct {
	Dictionary int    // how far back a match may be, in bytes: 4096 or more, 2^n or 2^n+2^(n+1)
	Filter     Filter // what is done to machine code first
	// The properties of LZMA: how many bits of the byte before and of the position a literal's probabilities depend on, at most 4 together, and how
	// many bits of the position those of other symbols do, at most 4.
	LiteralContext, LiteralPosition, Position uint8
	Nice                                      int // a match of this length in bytes is good enough: 8 to 273
	Depth                                     int // how many earlier places are looked at
}

// Packer compresses small contents, as much as LZMA allows and the program xz does at its level 6. It is used by one goroutine at a time.
type Packer struct {
	chunks
	parser   parser
	tree     *matches.Tree
	filtered []byte
}

// pieceSlack is more than what a piece can take after compression.
const pieceSlack = 12 << 10

// NewPacker returns one, which takes about 10 MB for each MiB of content.
func NewPacker() *Packer {
	p := &Packer{tree: matches.New()}
	p.buf = make([]byte, maxPacked+pieceSlack)
	p.parser.model, p.parser.tree, p.parser.prices = &p.model, p.tree, newPrices()
	return p
}

// Append appends a complete .xz file with one block and a check by CRC-32 to out. Its content has at most 1 GiB.
func (p *Packer) Append(out, content []byte, s Settings) []byte {
	begin := len(out)
	flags := []byte{0, checkCRC32}
	out = append(out, headerMagic...)
	out = append(out, flags...)
	out = sum(out, begin+len(headerMagic))
	header := s.blockHeader()
	out = append(out, header...)
	data := content
	if s.Filter != None {
		p.filtered = append(p.filtered[:0], content...)
		s.Filter.apply(p.filtered)
		data = p.filtered
	}
	from := len(out)
	out = p.lzma2(out, data, s)
	unpadded := len(header) + len(out) - from + crc32.Size
	for (len(out)-from)%align != 0 {
		out = append(out, 0)
	}
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(content))
	return appendIndex(out, flags, 1, binary.AppendUvarint(binary.AppendUvarint(nil, uint64(unpadded)), uint64(len(content))))
}

// blockHeader is that of section 3.1, without sizes: they are in the index.
func (s Settings) blockHeader() []byte {
	header := []byte{0, 0}
	if s.Filter != None {
		header[1] = 1
		header = append(header, byte(s.Filter), 0)
	}
	high := bits.Len(uint(s.Dictionary)) - 1
	size := byte(2 * (high - 12)) // section 5.3.1
	if s.Dictionary > 1<<high {
		size++
	}
	header = pad(append(header, filterLZMA2, 1, size))
	header[0] = byte((len(header)+crc32.Size)/align - 1)
	return sum(header, 0)
}

// lzma2 appends data as LZMA2.
func (p *Packer) lzma2(out, data []byte, s Settings) []byte {
	p.properties = properties{s.LiteralContext, s.LiteralPosition, s.Position}
	p.tree.Reset(data, s.Dictionary, s.Nice, s.Depth)
	p.parser.data, p.parser.nice, p.parser.found = data, s.Nice, false
	return p.encode(out, data, p)
}

// incompressible implements [searcher].
func (p *Packer) incompressible(pos, end int) bool {
	if !matches.Even(p.data[pos:end]) || !p.tree.Strange(pos, end) {
		return false
	}
	p.parser.found = false
	return true
}

// chunk implements [searcher].
func (p *Packer) chunk(pos int) int {
	data := p.data
	p.parser.priced = pos - refresh // the model may have begun anew
	end := min(len(data), pos+maxChunk-maxPiece-2*maxMatch)
	for pos < end && p.size() < maxPacked-pieceSlack {
		symbols := p.parser.parse(pos)
		for i := len(symbols) - 1; i >= 0; i-- {
			switch s := symbols[i]; {
			case s.back == backLiteral:
				p.literalSymbol(&p.rangeEncoder, data, pos)
			case s.back < backMatch:
				p.repeat(&p.rangeEncoder, pos, int(s.back), s.length)
			default:
				p.match(&p.rangeEncoder, pos, s.back-backMatch, s.length)
			}
			pos += symbols[i].length
		}
	}
	return pos
}
