package gunzip

import (
	"encoding/binary"
	"io"
)

// windowSize is how far back a match may reach, in bytes (RFC 1951, 2).
const windowSize = 32 << 10

// Room that one round of the fast loop may need: two loads of eight bytes of input; of output two literals and a match of 258 bytes, rounded up to
// words that are copied at once.
const (
	roundInput  = 16
	roundOutput = 2 + 258 + 24
)

// phase is what comes next in a deflate stream.
type phase uint8

const (
	phaseBlock  phase = iota // the header of a block
	phaseStored              // bytes of a block as they are
	phaseCodes               // symbols of a compressed block
	phaseEnd                 // nothing: the last block has ended
)

// inflater decodes a deflate stream (RFC 1951).
type inflater struct {
	input
	phase  phase
	last   bool // this block is the last
	stored int  // bytes left of a stored block

	length, dist int // of a match that there was no room for

	window  []byte // what came before the bytes that are being written
	lits    litTable
	dists   distTable
	fixed   bool // the tables are those of the fixed codes
	symbols *alphabets
}

// inflate writes the bytes that come next into out, until it is full or the stream has ended.
func (d *inflater) inflate(out []byte) (int, error) {
	at := 0
	for at < len(out) {
		var err error
		switch d.phase {
		case phaseBlock:
			err = d.blockHeader()
		case phaseStored:
			at, err = d.copyStored(out, at)
		case phaseCodes:
			if d.length == 0 {
				at, err = d.fast(out, at)
			}
			if err == nil {
				at, err = d.slow(out, at)
			}
		case phaseEnd:
			d.keep(out[:at])
			return at, nil
		}
		if err != nil {
			return at, err
		}
	}
	d.keep(out)
	return at, nil
}

// keep remembers the last bytes that were written, for matches to come.
func (d *inflater) keep(out []byte) {
	if len(out) >= windowSize {
		d.window = append(d.window[:0], out[len(out)-windowSize:]...)
		return
	}
	if drop := len(d.window) + len(out) - windowSize; drop > 0 {
		d.window = d.window[:copy(d.window, d.window[drop:])]
	}
	d.window = append(d.window, out...)
}

func (d *inflater) endBlock() {
	d.phase = phaseBlock
	if d.last {
		d.phase = phaseEnd
	}
}

func (d *inflater) copyStored(out []byte, at int) (int, error) {
	n, err := d.readBytes(out[at:min(len(out), at+d.stored)])
	d.stored -= n
	if err == nil && d.stored == 0 {
		d.endBlock()
	}
	return at + n, err
}

// fast decodes as long as the input in memory and out have room for a whole round.
func (d *inflater) fast(out []byte, at int) (int, error) {
	in, pos, bits, count := d.buf, d.pos, d.bits, d.count
	lits, dists := &d.lits, &d.dists
	var err error
	for pos <= len(in)-roundInput && at <= len(out)-roundOutput {
		// After this there are 56 bits or more. What is above count are bits of the stream too, which the next load brings again.
		bits |= binary.LittleEndian.Uint64(in[pos:]) << (count & 63)
		pos += int((63 - count) >> 3)
		count |= 56
		entry := lits[bits&(1<<litBits-1)]
		if entry&entryLiteral != 0 {
			bits >>= entry & 63
			count -= uint(entry & 63)
			out[at] = byte(entry >> 16)
			at++
			entry = lits[bits&(1<<litBits-1)]
			if entry&entryLiteral != 0 {
				bits >>= entry & 63
				count -= uint(entry & 63)
				out[at] = byte(entry >> 16)
				at++
				entry = lits[bits&(1<<litBits-1)]
			}
		}
		if entry&entrySpecial != 0 {
			if entry = lits.follow(entry, bits); entry&entrySpecial != 0 {
				break // the end of the block, or an error
			}
		}
		taken := bits
		bits >>= entry & 63
		count -= uint(entry & 63)
		if entry&entryLiteral != 0 {
			out[at] = byte(entry >> 16)
			at++
			continue
		}
		length := entry.value(taken)
		bits |= binary.LittleEndian.Uint64(in[pos:]) << (count & 63)
		pos += int((63 - count) >> 3)
		count |= 56
		entry = dists[bits&(1<<distBits-1)]
		if entry&entrySpecial != 0 {
			if entry = dists.follow(entry, bits); entry&entrySpecial != 0 {
				err = errDistance
				break
			}
		}
		taken = bits
		bits >>= entry & 63
		count -= uint(entry & 63)
		dist := entry.value(taken)
		if dist > at {
			d.length, d.dist = length, dist
			break
		}
		at = copyMatch(out, at, length, dist)
	}
	d.pos, d.bits, d.count = pos, bits, count
	return at, err
}

// copyMatch repeats length bytes from dist back, and may write up to seven bytes more.
func copyMatch(out []byte, at, length, dist int) int {
	end := at + length
	if dist < 8 {
		// Repeated often enough, what repeats has the length of a word.
		far := dist * ((dist + 7) / dist)
		for near := min(end, at+far-dist); at < near; at++ {
			out[at] = out[at-dist]
		}
		dist = far
	}
	for ; at < end; at += 8 {
		binary.LittleEndian.PutUint64(out[at:], binary.LittleEndian.Uint64(out[at-dist:]))
	}
	return end
}

// slow decodes until fast can go on, with regard to the ends of the input and of out.
func (d *inflater) slow(out []byte, at int) (int, error) {
	for at < len(out) {
		if d.length > 0 {
			n, err := d.copyPending(out, at)
			if at += n; err != nil {
				return at, err
			}
			continue
		}
		if err := d.load(); err != nil {
			return at, err
		}
		entry := d.lits[d.bits&(1<<litBits-1)]
		if entry&entryLink != 0 {
			entry = d.lits.follow(entry, d.bits)
		}
		switch {
		case entry&entrySpecial != 0 && entry&entryEnd == 0:
			return at, errSymbol
		case uint(entry&63) > d.count:
			return at, io.ErrUnexpectedEOF
		}
		taken := d.bits
		d.drop(uint(entry & 63))
		switch {
		case entry&entryLiteral != 0:
			out[at] = byte(entry >> 16)
			at++
		case entry&entryEnd != 0 && entry&entrySpecial != 0:
			d.endBlock()
			return at, nil
		default:
			if err := d.distance(entry.value(taken)); err != nil {
				return at, err
			}
		}
		if d.pos <= len(d.buf)-roundInput && at <= len(out)-roundOutput && d.length == 0 {
			return at, nil
		}
	}
	return at, nil
}

// distance reads the distance of a match.
func (d *inflater) distance(length int) error {
	entry := d.dists[d.bits&(1<<distBits-1)]
	if entry&entryLink != 0 {
		entry = d.dists.follow(entry, d.bits)
	}
	switch {
	case entry&entrySpecial != 0:
		return errDistance
	case uint(entry&63) > d.count:
		return io.ErrUnexpectedEOF
	}
	d.length, d.dist = length, entry.value(d.bits)
	d.drop(uint(entry & 63))
	return nil
}

// copyPending copies as much of a match as there is room for. It may begin in the window.
func (d *inflater) copyPending(out []byte, at int) (int, error) {
	n := min(d.length, len(out)-at)
	if back := d.dist - at; back > 0 {
		if back > len(d.window) {
			return 0, errTooFar
		}
		n = copy(out[at:at+n], d.window[len(d.window)-back:])
	} else {
		for i := at; i < at+n; i++ {
			out[i] = out[i-d.dist]
		}
	}
	d.length -= n
	return n, nil
}
