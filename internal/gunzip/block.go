package gunzip

import (
	"encoding/binary"
	"io"
)

// What is wrong in compressed data.
const (
	errBlock    FormatError = "a block is of an unknown type"
	errStored   FormatError = "the length of a block is damaged"
	errTables   FormatError = "the code of a block is damaged"
	errSymbol   FormatError = "a symbol is not in the code of its block"
	errDistance FormatError = "a distance is not in the code of its block"
	errTooFar   FormatError = "a match begins before the data"
)

// inputSize is how many bytes of input are in memory at once.
const inputSize = 128 << 10

// input reads bits and bytes.
type input struct {
	src    io.Reader
	store  []byte // the memory of buf
	buf    []byte
	pos    int    // of the first byte of buf that is not in bits
	bits   uint64 // the next bits of the stream, the first lowest
	count  uint   // how many of them count
	srcErr error  // what ended src
}

// more brings more bytes behind those that are left in buf and those that are in bits. At the end of the source it does nothing.
func (in *input) more() error {
	if in.srcErr == nil {
		loaded := min(in.pos, 8)
		left := copy(in.store, in.buf[in.pos-loaded:])
		var n int
		n, in.srcErr = in.src.Read(in.store[left:])
		in.buf, in.pos = in.store[:left+n], loaded
	}
	if in.srcErr != nil && in.srcErr != io.EOF {
		return in.srcErr
	}
	return nil
}

// load makes count 56 or more, or as much as there is up to the end of the input.
func (in *input) load() error {
	for len(in.buf)-in.pos < roundInput && in.srcErr == nil {
		if err := in.more(); err != nil {
			return err
		}
	}
	if in.pos <= len(in.buf)-8 {
		in.bits |= binary.LittleEndian.Uint64(in.buf[in.pos:]) << (in.count & 63)
		in.pos += int((63 - in.count) >> 3)
		in.count |= 56
		return nil
	}
	for in.count <= 56 && in.pos < len(in.buf) {
		in.bits |= uint64(in.buf[in.pos]) << in.count
		in.pos++
		in.count += 8
	}
	return nil
}

func (in *input) drop(n uint) {
	in.bits >>= n
	in.count -= n
}

// take returns the next n bits, at most 32.
func (in *input) take(n uint) (uint32, error) {
	if in.count < n {
		if err := in.load(); err != nil {
			return 0, err
		}
		if in.count < n {
			return 0, io.ErrUnexpectedEOF
		}
	}
	value := uint32(in.bits & (1<<n - 1))
	in.drop(n)
	return value, nil
}

// align goes on to the next whole byte, and gives what was loaded ahead back to buf.
func (in *input) align() {
	in.drop(in.count & 7)
	in.pos -= int(in.count >> 3)
	in.bits, in.count = 0, 0
}

// readBytes reads some bytes; the input must be aligned.
func (in *input) readBytes(p []byte) (int, error) {
	for in.pos == len(in.buf) {
		if in.srcErr == io.EOF {
			return 0, io.ErrUnexpectedEOF
		}
		if err := in.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.buf[in.pos:])
	in.pos += n
	return n, nil
}

// blockHeader reads the header of a block (RFC 1951, 3.2.3).
func (d *inflater) blockHeader() error {
	header, err := d.take(3)
	if err != nil {
		return err
	}
	d.last = header&1 != 0
	switch header >> 1 {
	case 0:
		return d.storedHeader()
	case 1:
		return d.fixedTables()
	case 2:
		d.fixed = false
		return d.dynamicTables()
	}
	return errBlock
}

// storedHeader reads the length of a stored block and its complement (RFC 1951, 3.2.4).
func (d *inflater) storedHeader() error {
	d.align()
	both, err := d.take(32)
	if err != nil {
		return err
	}
	d.align()
	if both>>16 != ^both&0xffff {
		return errStored
	}
	d.phase, d.stored = phaseStored, int(both&0xffff)
	if d.stored == 0 {
		d.endBlock()
	}
	return nil
}

// fixedTables makes the tables of RFC 1951, 3.2.6.
func (d *inflater) fixedTables() error {
	d.phase = phaseCodes
	if d.fixed {
		return nil
	}
	var lits [maxLits]uint8
	for i := range lits {
		switch {
		case i < 144:
			lits[i] = 8
		case i < 256:
			lits[i] = 9
		case i < 280:
			lits[i] = 7
		default:
			lits[i] = 8
		}
	}
	var dists [maxDists]uint8
	for i := range dists {
		dists[i] = 5
	}
	if !d.fill(lits[:], dists[:]) {
		return errTables
	}
	d.fixed = true
	return nil
}

func (d *inflater) fill(lits, dists []uint8) bool {
	return fillTable(d.lits[:], litBits, lits, d.symbols.lits[:]) && fillTable(d.dists[:], distBits, dists, d.symbols.dists[:])
}

// codeOrder is the order of the lengths of the code of code lengths (RFC 1951, 3.2.7).
var codeOrder = [maxCodes]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicTables reads the codes of a block (RFC 1951, 3.2.7).
func (d *inflater) dynamicTables() error {
	header, err := d.take(14)
	if err != nil {
		return err
	}
	lits, dists, codes := int(header&31)+257, int(header>>5&31)+1, int(header>>10)+4
	if lits > maxLits-2 || dists > maxDists-2 {
		return errTables
	}
	var lengths [maxLits + maxDists]uint8
	for _, symbol := range codeOrder[:codes] {
		n, err := d.take(3)
		if err != nil {
			return err
		}
		lengths[symbol] = uint8(n)
	}
	var table codeTable
	if !fillTable(table[:], codeBits, lengths[:maxCodes], d.symbols.codes[:]) {
		return errTables
	}
	clear(lengths[:maxCodes])
	if err := d.codeLengths(&table, lengths[:lits+dists]); err != nil {
		return err
	}
	if !d.fill(lengths[:lits], lengths[lits:lits+dists]) {
		return errTables
	}
	d.phase = phaseCodes
	return nil
}

// codeLengths reads the lengths of both codes, which follow each other.
func (d *inflater) codeLengths(table *codeTable, lengths []uint8) error {
	for i := 0; i < len(lengths); {
		if err := d.load(); err != nil {
			return err
		}
		e := table[d.bits&(1<<codeBits-1)]
		switch {
		case e&entrySpecial != 0:
			return errTables
		case uint(e&63) > d.count:
			return io.ErrUnexpectedEOF
		}
		d.drop(uint(e & 63))
		symbol := uint8(e >> 16)
		if symbol < 16 {
			lengths[i] = symbol
			i++
			continue
		}
		least, extra, value := uint32(3), uint(3), uint8(0)
		switch symbol {
		case 16:
			if i == 0 {
				return errTables
			}
			extra, value = 2, lengths[i-1]
		case 18:
			least, extra = 11, 7
		}
		more, err := d.take(extra)
		if err != nil {
			return err
		}
		repeat := int(least + more)
		if repeat > len(lengths)-i {
			return errTables
		}
		for range repeat {
			lengths[i] = value
			i++
		}
	}
	return nil
}
