package layers

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// gnuExtents reads pairs of offset and length, 12 bytes each, of the old GNU sparse form (GNU tar manual, D.2.1 "Old GNU Format"). Unused pairs are zero.
func gnuExtents(p *fieldParser, b []byte) []Extent {
	var list []Extent
	for ; len(b) >= 24 && b[0] != 0; b = b[24:] {
		list = append(list, Extent{p.number(b[:12]), p.number(b[12:24])})
	}
	return list
}

// readSparse reads where a sparse file has data, and puts h.data, h.realSize, h.size and h.offset right.
func (t *tarReader) readSparse(h *foundEntry, pax *paxSparse) error {
	var err error
	switch {
	case h.typ == 'S':
		err = t.readGNUSparse(h)
	case pax.major == "1" && pax.minor == "0":
		if err = setRealSize(h, pax); err == nil {
			err = t.readSparseMap(h)
		}
	case pax.major == "" || pax.major == "0":
		if err = setRealSize(h, pax); err == nil {
			err = parseSparseList(h, pax, t.limits.extents)
		}
	default:
		return errFormat(fmt.Sprintf("it is sparse in the unknown form %.20s.%.20s", pax.major, pax.minor))
	}
	if err != nil {
		return err
	}
	return checkExtents(h)
}

func setRealSize(h *foundEntry, pax *paxSparse) error {
	if pax.size == "" {
		return nil
	}
	size, err := strconv.ParseInt(pax.size, 10, 64)
	if err != nil || size < 0 {
		return errFormat("the length of a sparse file is not a number")
	}
	h.realSize = size
	return nil
}

// readGNUSparse reads the blocks of the map that follow the header. They are not counted in the entry's size.
func (t *tarReader) readGNUSparse(h *foundEntry) error {
	h.realSize = h.gnuRealSize
	for h.gnuMore {
		var b [tarBlock]byte
		if err := t.in.readFull(b[:]); err != nil {
			return breaksOff(err, "in the map of a sparse file")
		}
		var p fieldParser
		h.data = append(h.data, gnuExtents(&p, b[:504])...)
		if p.err != nil {
			return errFormat("the map of a sparse file has a field that is not a number")
		}
		if len(h.data) > t.limits.extents {
			return errHostile(fmt.Sprintf("it is sparse with more than %d parts", t.limits.extents))
		}
		h.gnuMore = b[504] != 0
	}
	h.offset = t.in.pos
	t.next = h.offset + padded(h.size)
	return nil
}

// readSparseMap reads the map of form 1.0 (GNU tar manual, D.2.3), decimal numbers with a newline each, that lies before the data and is counted
// in the entry's size.
func (t *tarReader) readSparseMap(h *foundEntry) error {
	var b [tarBlock]byte
	var text []byte
	read := int64(0)
	number := func() (int64, error) {
		for {
			if i := bytes.IndexByte(text, '\n'); i >= 0 {
				n, err := strconv.ParseInt(string(text[:i]), 10, 64)
				text = text[i+1:]
				if err != nil || n < 0 {
					return 0, errFormat("the map of a sparse file has a line that is not a number")
				}
				return n, nil
			}
			if len(text) > 20 {
				return 0, errFormat("the map of a sparse file has a line that is not a number")
			}
			if read+tarBlock > h.size {
				return 0, errFormat("the map of a sparse file is longer than its data")
			}
			if err := t.in.readFull(b[:]); err != nil {
				return 0, breaksOff(err, "in the map of a sparse file")
			}
			read += tarBlock
			text = append(text, b[:]...)
		}
	}
	count, err := number()
	if err != nil {
		return err
	}
	if count > int64(t.limits.extents) {
		return errHostile(fmt.Sprintf("it is sparse with %d parts", count))
	}
	for range count {
		var e Extent
		if e.Offset, err = number(); err != nil {
			return err
		}
		if e.Length, err = number(); err != nil {
			return err
		}
		h.data = append(h.data, e)
	}
	h.offset += read
	h.size -= read
	return nil
}

// parseSparseList reads the map of forms 0.0 and 0.1, which pax records hold.
func parseSparseList(h *foundEntry, pax *paxSparse, limit int) error {
	if pax.list == "" {
		if pax.count == "0" || pax.count == "" && h.size == 0 {
			return nil
		}
		return errFormat("the map of a sparse file is missing")
	}
	var err error
	if h.data, err = parseExtents(pax.list, limit); err != nil {
		return err
	}
	if pax.count != "" && pax.count != strconv.Itoa(len(h.data)) {
		return errFormat("the map of a sparse file has a wrong length")
	}
	return nil
}

// parseExtents reads "offset,length,offset,length...".
func parseExtents(text string, limit int) ([]Extent, error) {
	parts := strings.Split(text, ",")
	if len(parts)%2 != 0 {
		return nil, errFormat("the map of a sparse file has a wrong length")
	}
	if len(parts)/2 > limit {
		return nil, errHostile(fmt.Sprintf("it is sparse with %d parts", len(parts)/2))
	}
	list := make([]Extent, 0, len(parts)/2)
	for i := 0; i < len(parts); i += 2 {
		offset, err1 := strconv.ParseInt(parts[i], 10, 64)
		length, err2 := strconv.ParseInt(parts[i+1], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, errFormat("the map of a sparse file has a part that is not a number")
		}
		list = append(list, Extent{offset, length})
	}
	return list, nil
}

// readDataMap takes over where a file whose holes are in the tar as zeros holds data.
func (t *tarReader) readDataMap(h *foundEntry) error {
	if *h.dataMap != "" {
		list, err := parseExtents(*h.dataMap, t.limits.extents)
		if err != nil {
			return err
		}
		h.data = list
	}
	if err := joinExtents(h); err != nil || h.data == nil {
		return err
	}
	h.dense = true
	return nil
}

// checkHoles makes sure that the holes of an entry that are in the tar are zeros: other programs unpack the file without heeding the map, and
// must get the same bytes. It passes over the data.
func (t *tarReader) checkHoles(h *foundEntry) error {
	if !h.dense {
		return nil
	}
	at := int64(0)
	for _, e := range h.data {
		if err := t.checkZeros(h.offset+at, h.offset+e.Offset); err != nil {
			return err
		}
		at = e.Offset + e.Length
	}
	return t.checkZeros(h.offset+at, h.offset+h.size)
}

// checkZeros reads the bytes from one offset in the tar to another one.
func (t *tarReader) checkZeros(from, to int64) error {
	if from == to {
		return nil
	}
	t.in.seek(from)
	for t.in.pos < to {
		if !t.in.fill() {
			return breaksOff(t.in.err, "in the data of a sparse file")
		}
		b := t.in.rest[:min(int64(len(t.in.rest)), to-t.in.pos)]
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return errHostile("it says that bytes are a hole that are not zero")
		}
		t.in.seek(t.in.pos + int64(len(b)))
	}
	return nil
}

// checkExtents makes sure that the parts of a sparse file fit it and its data, which in the tar lie one after the other.
func checkExtents(h *foundEntry) error {
	var sum int64
	for _, e := range h.data {
		if e.Length < 0 || e.Length > h.size-sum {
			return errFormat("the parts of a sparse file have more bytes than its data")
		}
		sum += e.Length
	}
	if sum != h.size {
		return errFormat(fmt.Sprintf("the parts of a sparse file have %d bytes and its data %d", sum, h.size))
	}
	return joinExtents(h)
}

// joinExtents makes sure that the parts lie in the file one after the other. Parts of length zero, which mark the end of a file, are taken out, neighbours
// become one, and a file without a hole is not sparse.
func joinExtents(h *foundEntry) error {
	var kept []Extent
	var end int64
	for _, e := range h.data {
		if e.Offset < end || e.Length < 0 || e.Length > h.realSize-e.Offset {
			return errFormat("the parts of a sparse file overlap or lie outside of it")
		}
		end = e.Offset + e.Length
		switch last := len(kept) - 1; {
		case e.Length == 0:
		case last >= 0 && kept[last].Offset+kept[last].Length == e.Offset:
			kept[last].Length += e.Length
		default:
			kept = append(kept, e)
		}
	}
	h.data = kept
	if len(kept) == 1 && kept[0] == (Extent{0, h.realSize}) || h.realSize == 0 {
		h.data = nil
	} else if kept == nil {
		h.data = []Extent{}
	}
	return nil
}
