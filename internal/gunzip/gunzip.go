// Package gunzip decompresses gzip about twice as fast as other readers in Go do: layers are gzip mostly, and decompressing them is most of
// the work of reading a container.
//
// One look into a table gives a literal, or the length or distance of a match with the number of its extra bits; there are 56 bits or more at hand for it; and
// matches are copied word by word, straight into the caller's memory. All of it is checked by the language: there is no unsafe code.
package gunzip

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// Reader decompresses gzip (RFC 1952), one member or several behind each other, as Go's compress/gzip does. It reads ahead of what it has given. Large
// buffers, of 32 KiB and more, spare it a copy.
type Reader struct {
	inflater
	sum  uint32 // CRC-32 of the member so far
	size uint32 // its length so far in bytes, modulo 2^32
	err  error  // what ended the stream

	small, ready []byte // memory for small reads, and what is left of it to be given
}

// FormatError says that data is not gzip, or damaged.
type FormatError string

// Error implements error.
func (e FormatError) Error() string { return string(e) }

// What is wrong outside of the compressed data.
const (
	errMagic    FormatError = "it does not begin like gzip"
	errHeader   FormatError = "a header is damaged"
	errChecksum FormatError = "a checksum is wrong"
)

// NewReader reads the header of the first member. The errors are those of [Reader.Read].
func NewReader(src io.Reader) (*Reader, error) {
	r := &Reader{inflater: inflater{input: input{store: make([]byte, inputSize)}, symbols: newAlphabets()}}
	if err := r.Reset(src); err != nil {
		return nil, err
	}
	return r, nil
}

// Reset makes the Reader read another stream, as a new one would.
func (r *Reader) Reset(src io.Reader) error {
	r.input = input{src: src, store: r.store}
	r.length, r.err, r.ready = 0, nil, nil
	r.err = r.memberHeader()
	return r.err
}

// Read implements io.Reader. The error is a [FormatError] if the data is damaged, [io.ErrUnexpectedEOF] if it breaks off, and otherwise that of the
// source. Bytes that came before an error are not to be trusted.
func (r *Reader) Read(p []byte) (int, error) {
	if len(r.ready) == 0 && len(p) < windowSize && r.err == nil {
		if r.small == nil {
			r.small = make([]byte, 2*windowSize)
		}
		r.ready = r.small[:r.decode(r.small)]
	}
	if len(r.ready) > 0 {
		n := copy(p, r.ready)
		r.ready = r.ready[n:]
		return n, nil
	}
	n := r.decode(p)
	return n, r.err
}

// decode fills p as far as it can, and sets r.err at the end of the stream.
func (r *Reader) decode(p []byte) int {
	n := 0
	for n == 0 && len(p) > 0 && r.err == nil {
		n, r.err = r.inflate(p)
		r.sum = crc32.Update(r.sum, crc32.IEEETable, p[:n])
		r.size += uint32(n)
		if r.err == nil && r.phase == phaseEnd {
			r.err = r.nextMember()
		}
	}
	return n
}

// nextMember checks the trailer of a member, a CRC-32 and the length (RFC 1952, 2.3.1), and begins the next one. The error is io.EOF if there is none.
func (r *Reader) nextMember() error {
	r.align()
	var trailer [8]byte
	if err := r.readFull(trailer[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(trailer[:]) != r.sum || binary.LittleEndian.Uint32(trailer[4:]) != r.size {
		return errChecksum
	}
	return r.memberHeader()
}

// Flags of a member's header (RFC 1952, 2.3.1). The reserved ones do not count, as nowhere in Go.
const (
	flagChecksum = 1 << 1
	flagExtra    = 1 << 2
	flagName     = 1 << 3
	flagComment  = 1 << 4
)

func (r *Reader) memberHeader() error {
	r.sum, r.size, r.phase, r.window = 0, 0, phaseBlock, r.window[:0]
	var header [10]byte
	if _, err := r.readBytes(header[:1]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return err
	}
	if err := r.readFull(header[1:]); err != nil {
		return err
	}
	if header[0] != 0x1f || header[1] != 0x8b {
		return errMagic
	}
	flags := header[3]
	if header[2] != 8 {
		return errHeader
	}
	sum := crc32.ChecksumIEEE(header[:])
	if flags&flagExtra != 0 {
		var length [2]byte
		if err := r.readFull(length[:]); err != nil {
			return err
		}
		extra := make([]byte, binary.LittleEndian.Uint16(length[:]))
		if err := r.readFull(extra); err != nil {
			return err
		}
		sum = crc32.Update(crc32.Update(sum, crc32.IEEETable, length[:]), crc32.IEEETable, extra)
	}
	for _, flag := range []byte{flagName, flagComment} {
		if flags&flag != 0 {
			if err := r.skipText(&sum); err != nil {
				return err
			}
		}
	}
	if flags&flagChecksum != 0 {
		var want [2]byte
		if err := r.readFull(want[:]); err != nil {
			return err
		}
		if binary.LittleEndian.Uint16(want[:]) != uint16(sum) {
			return errHeader
		}
	}
	return nil
}

// skipText reads a text that ends with a zero, and adds it to a checksum.
func (r *Reader) skipText(sum *uint32) error {
	for {
		var c [1]byte
		if err := r.readFull(c[:]); err != nil {
			return err
		}
		*sum = crc32.Update(*sum, crc32.IEEETable, c[:])
		if c[0] == 0 {
			return nil
		}
	}
}

func (r *Reader) readFull(p []byte) error {
	for len(p) > 0 {
		n, err := r.readBytes(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Close does nothing: memory is all that a Reader holds.
func (r *Reader) Close() error { return nil }
