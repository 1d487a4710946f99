package sums

import (
	"encoding"
	"encoding/binary"
	"hash"
)

// worthwhile is how many streams make lanes quicker than one after the other.
const worthwhile = 5

// md5Block is the size of MD5's blocks, in bytes.
const md5Block = 64

// laneCount is how many streams are counted at once.
const laneCount = 16

// stream is the MD5 of one file. Its pieces are counted as they come, each but the last a whole number of blocks.
type stream struct {
	state  [4]uint32
	length uint64
	pieces []piece
	begun  bool // a lane is at it, or it waits for one
	ended  bool // the last piece is in pieces, the padding included
	tail   [2 * md5Block]byte
	file   *File
}

// piece is bytes of a file.
type piece struct {
	left   []byte // of data, to be counted
	buffer []byte // to be given back
}

func newStream(f *File) *stream {
	return &stream{state: [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}, file: f}
}

// pad makes the last piece of what is left of less than a block (RFC 1321, 3.1 and 3.2).
func (s *stream) pad(rest []byte) {
	n := copy(s.tail[:], rest)
	s.tail[n] = 0x80
	end := md5Block
	if n >= md5Block-8 {
		end = 2 * md5Block
	}
	binary.LittleEndian.PutUint64(s.tail[end-8:], s.length*8)
	s.pieces = append(s.pieces, piece{left: s.tail[:end]})
	s.ended = true
}

// alone counts whole blocks as the standard library does, which keeps its state in a form of its own.
func (s *stream) alone(data []byte) {
	const mark, words = "md5\x01", 4 + 16
	var kept [words + md5Block + 8]byte
	copy(kept[:], mark)
	for i, word := range s.state {
		binary.BigEndian.PutUint32(kept[4+4*i:], word)
	}
	h := s.file.counter.alone
	if err := h.UnmarshalBinary(kept[:]); err != nil {
		panic("md5 keeps its state in another form: " + err.Error()) // the tests would have shown it
	}
	h.Write(data)
	now, _ := h.AppendBinary(kept[:0]) // it never fails
	for i := range s.state {
		s.state[i] = binary.BigEndian.Uint32(now[4+4*i:])
	}
}

// sum is the digest.
func (s *stream) sum() string {
	var sum [16]byte
	for i, word := range s.state {
		binary.LittleEndian.PutUint32(sum[4*i:], word)
	}
	return string(sum[:])
}

// keepingHash is a hash whose state can be kept.
type keepingHash interface {
	hash.Hash
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// lanes counts streams side by side.
type lanes struct {
	ready []*stream // those with pieces
	free  func(buffer []byte)
	done  func(s *stream)
}

// add adds bytes to a stream. Last says that there are no more.
func (l *lanes) add(s *stream, data, buffer []byte, last bool) {
	s.length += uint64(len(data))
	whole := len(data) / md5Block * md5Block
	if whole > 0 {
		s.pieces = append(s.pieces, piece{data[:whole], buffer})
	}
	if last {
		s.pad(data[whole:])
	}
	if whole == 0 {
		l.free(buffer)
	}
	if !s.begun && len(s.pieces) > 0 {
		s.begun = true
		l.ready = append(l.ready, s)
	}
}

// step counts as many blocks as the first streams all have, or a piece of the first one where there are too few.
func (l *lanes) step() {
	active := l.ready[:min(len(l.ready), laneCount)]
	if len(active) < worthwhile {
		active = active[:1]
		n := len(active[0].pieces[0].left)
		active[0].alone(active[0].pieces[0].left)
		l.pass(active, n)
		return
	}
	var state [2][4][8]uint32
	var data [laneCount]*byte
	blocks := len(active[0].pieces[0].left) / md5Block
	for i, s := range active {
		for word := range s.state {
			state[i/8][word][i%8] = s.state[word]
		}
		data[i] = &s.pieces[0].left[0]
		blocks = min(blocks, len(s.pieces[0].left)/md5Block)
	}
	for i := len(active); i < laneCount; i++ {
		data[i] = data[0] // whatever comes of it
	}
	blocks16(&state, &data, blocks)
	for i, s := range active {
		for word := range s.state {
			s.state[word] = state[i/8][word][i%8]
		}
	}
	l.pass(active, blocks*md5Block)
}

// pass passes so many bytes of the first streams, and leaves those out that have no more.
func (l *lanes) pass(active []*stream, n int) {
	kept := 0
	for _, s := range active {
		if l.advance(s, n) {
			l.ready[kept] = s
			kept++
		}
	}
	if kept < len(active) {
		rest := copy(l.ready[kept:], l.ready[len(active):])
		clear(l.ready[kept+rest:])
		l.ready = l.ready[:kept+rest]
	}
}

// advance passes bytes of a stream. It reports whether there are more now.
func (l *lanes) advance(s *stream, n int) bool {
	first := &s.pieces[0]
	if first.left = first.left[n:]; len(first.left) > 0 {
		return true
	}
	if first.buffer != nil {
		l.free(first.buffer)
	}
	s.pieces = s.pieces[:copy(s.pieces, s.pieces[1:])]
	if len(s.pieces) > 0 {
		return true
	}
	s.begun = false
	if s.ended {
		l.done(s)
	}
	return false
}
