package xz

import (
	"encoding/binary"

	"github.com/imgbuild/imgbuild/internal/matches"
)

// LZMA2 is LZMA in chunks, each with its lengths before it, or as it is where LZMA would make it longer.

const (
	maxChunk   = 1 << 21 // bytes of a chunk before compression
	maxPacked  = 1 << 16 // and after
	maxStored  = 1 << 16 // bytes of a chunk that is not compressed
	chunkSlack = 64      // more than what one symbol can take

	chunkEnd         = 0x00
	chunkStoredFirst = 0x01 // the first chunk of a block: the dictionary is empty
	chunkStored      = 0x02
	chunkLZMA        = 0x80
	chunkReset       = 1 << 5 // the model begins anew
	chunkProperties  = 2 << 5 // the same, and its properties follow
	chunkFirst       = 3 << 5 // the same, and the dictionary is empty
)

// chunks writes the chunks of one block after the other.
type chunks struct {
	rangeEncoder
	model
	data  []byte
	begun bool // a chunk is written: the dictionary need not be emptied
	known bool // the properties are written
	fresh bool // the model is as at the begin, and the reader must make it so
}

// searcher finds the symbols.
type searcher interface {
	// incompressible reports whether bytes look as if they were compressed already, and notes them as places of matches if so.
	incompressible(pos, end int) bool
	// chunk encodes symbols from pos on, up to the limits of a chunk, and returns where it has stopped.
	chunk(pos int) int
}

// encode appends a block as LZMA2.
func (c *chunks) encode(out, data []byte, s searcher) []byte {
	c.data, c.begun, c.known, c.fresh = data, false, false, true
	c.model.reset()
	for pos := 0; pos < len(data); {
		if next := min(pos+maxStored, len(data)); s.incompressible(pos, next) {
			out = c.store(out, pos, next)
			pos = next
			continue
		}
		c.rangeEncoder.reset()
		next := s.chunk(pos)
		packed := c.finish()
		if len(packed) >= next-pos || len(packed) > maxPacked {
			c.fresh = false // what was learnt must be forgotten: the reader never sees it
			for ; pos < next; pos += maxStored {
				out = c.store(out, pos, min(pos+maxStored, next))
			}
			pos = next
			continue
		}
		out = c.header(out, next-pos, len(packed))
		out = append(out, packed...)
		pos = next
	}
	return append(out, chunkEnd)
}

func (c *chunks) header(out []byte, plain, packed int) []byte {
	control := byte(chunkLZMA)
	switch {
	case !c.begun:
		control |= chunkFirst
	case !c.known:
		control |= chunkProperties
	case c.fresh:
		control |= chunkReset
	}
	out = append(out, control|byte((plain-1)>>16))
	out = binary.BigEndian.AppendUint16(out, uint16(plain-1))
	out = binary.BigEndian.AppendUint16(out, uint16(packed-1))
	if !c.known {
		out = append(out, c.properties.encoded())
	}
	c.begun, c.known, c.fresh = true, true, false
	return out
}

// store appends a chunk of at most maxStored bytes as it is. The model begins anew after it.
func (c *chunks) store(out []byte, pos, end int) []byte {
	control := byte(chunkStored)
	if !c.begun {
		control = chunkStoredFirst
	}
	out = append(out, control)
	out = binary.BigEndian.AppendUint16(out, uint16(end-pos-1))
	c.begun = true
	if !c.fresh {
		c.model.reset()
		c.fresh = true
	}
	return append(out, c.data[pos:end]...)
}

// encoder compresses blocks quickly, one after the other.
type encoder struct {
	chunks
	finder *finder
}

func newEncoder() *encoder {
	e := &encoder{finder: newFinder()}
	e.buf, e.properties = make([]byte, maxPacked+chunkSlack), usualProperties()
	return e
}

// encode appends a block as LZMA2.
func (e *encoder) encode(out, data []byte) []byte {
	e.finder.reset(data)
	return e.chunks.encode(out, data, e)
}

// incompressible implements [searcher]: all values are about as frequent, and hardly any place has come before.
func (e *encoder) incompressible(pos, end int) bool {
	if !matches.Even(e.data[pos:end]) {
		return false
	}
	const step = 16
	seen := 0
	for at := pos; at+longLen <= end; at += step {
		if e.finder.seen(at) {
			seen++
		}
	}
	if seen > (end-pos)/step/20 {
		return false
	}
	for at := pos; at+longLen <= end; at += step {
		e.finder.insertLong(at, binary.LittleEndian.Uint64(e.data[at:]))
	}
	return true
}

// chunk implements [searcher].
func (e *encoder) chunk(pos int) int {
	data := e.data
	end := min(len(data), pos+maxChunk)
	last := len(data) - longLen // beyond it nothing is looked for
	m, f := &e.model, e.finder
	for pos < end && e.size() < maxPacked-chunkSlack {
		if pos > last || pos == 0 {
			if pos == 0 && last >= 0 {
				f.insert(0)
			}
			m.literalSymbol(&e.rangeEncoder, data, pos)
			pos++
			continue
		}
		limit := min(end-pos, maxMatch)
		if limit < longLen {
			m.literalSymbol(&e.rangeEncoder, data, pos)
			pos++
			continue
		}
		rep, length := e.bestRepeat(pos, limit)
		if length >= goodRepeat {
			f.insert(pos)
			m.repeat(&e.rangeEncoder, pos, rep, length)
			pos = e.skip(pos, length, last)
			continue
		}
		distance, found := f.find(pos, limit)
		if length >= minMatch && (length+1 >= found || length+2 >= found && distance >= 1<<9 || length+3 >= found && distance >= 1<<15) {
			m.repeat(&e.rangeEncoder, pos, rep, length)
			pos = e.skip(pos, length, last)
			continue
		}
		if found < shortLen {
			if reps := m.reps[0]; int(reps) < pos && data[pos] == data[pos-int(reps)-1] {
				m.repeat(&e.rangeEncoder, pos, 0, 1)
			} else {
				m.literalSymbol(&e.rangeEncoder, data, pos)
			}
			pos++
			continue
		}
		// A better match at the next place is worth a literal.
		for found < goodRepeat && pos+1 <= last && pos+1 < end && end-pos-1 >= longLen && e.size() < maxPacked-2*chunkSlack {
			nextLimit := min(end-pos-1, maxMatch)
			nextDistance, nextFound := f.find(pos+1, nextLimit)
			if nextFound <= found+1 && !(nextFound == found+1 && nextDistance < distance) && !(nextFound >= found && nextDistance>>7 < distance) {
				break
			}
			m.literalSymbol(&e.rangeEncoder, data, pos)
			pos++
			distance, found = nextDistance, nextFound
		}
		m.match(&e.rangeEncoder, pos, distance, found)
		pos = e.skip(pos, found, last)
	}
	return pos
}

// goodRepeat is how long a match is that is taken without looking for a better one.
const goodRepeat = 32

// bestRepeat returns the longest match at one of the last four distances.
func (e *encoder) bestRepeat(pos, limit int) (rep, length int) {
	v := binary.LittleEndian.Uint16(e.data[pos:])
	for i, d := range e.model.reps {
		from := pos - int(d) - 1
		if from < 0 || binary.LittleEndian.Uint16(e.data[from:]) != v {
			continue
		}
		if n := 2 + e.finder.extend(from+2, pos+2, limit-2); n > length {
			rep, length = i, n
		}
	}
	return rep, length
}

// skip notes the places inside of a match and returns its end.
func (e *encoder) skip(pos, length, last int) int {
	end := pos + length
	for at := pos + 1; at < min(end, last+1); at += 1 {
		e.finder.insert(at)
	}
	return end
}
