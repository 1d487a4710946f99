package deflate

import "encoding/binary"

// The kinds of blocks (section 3.2.3).
const (
	kindStored  = 0
	kindFixed   = 1
	kindDynamic = 2
)

// writer writes bits, the first one lowest.
type writer struct {
	out   []byte
	bits  uint64
	count uint // of bits that are not in out yet
}

// put writes the low bits of a value, at most 32.
func (w *writer) put(value uint64, count uint) {
	w.bits |= value << w.count
	w.count += count
	if w.count >= 32 {
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(w.bits))
		w.bits >>= 32
		w.count -= 32
	}
}

// flush writes what is left and fills up the last byte.
func (w *writer) flush() {
	for w.count > 0 {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
		w.count -= min(w.count, 8)
	}
}

// codes are those of a block.
type codes struct {
	first, distances code
}

// newFixed returns the codes of section 3.2.6.
func newFixed() codes {
	first, distances := code{make([]uint8, firstSymbols+2), make([]uint16, firstSymbols+2)}, code{make([]uint8, 32), make([]uint16, 32)}
	for i := range first.lengths {
		switch {
		case i < 144:
			first.lengths[i] = 8
		case i < 256:
			first.lengths[i] = 9
		case i < 280:
			first.lengths[i] = 7
		default:
			first.lengths[i] = 8
		}
	}
	for i := range distances.lengths {
		distances.lengths[i] = 5
	}
	first.assign()
	distances.assign()
	return codes{first, distances}
}

// size is how many bits the symbols take.
func (c *codes) size(n *counts) int {
	sum := 0
	for i, count := range n.first {
		sum += int(count) * int(c.first.lengths[i])
	}
	for i, count := range n.first[endOfBlock+1:] {
		sum += int(count) * lengthExtra(i)
	}
	for i, count := range n.distances {
		sum += int(count) * (int(c.distances.lengths[i]) + distanceExtra(i))
	}
	return sum
}

// block writes one in the shortest way.
func (p *Packer) block(data []byte, path []choice, n *counts, last bool) {
	dynamic := codes{newCode(n.first[:], maxBits), newCode(n.distances[:], maxBits)}
	description := describe(dynamic)
	dynamicSize, fixedSize := description.size()+dynamic.size(n), p.fixed.size(n)
	const storedHeader = 8 + 32
	storedSize := len(data)*8 + storedHeader*(len(data)/maxStored+1)
	final := uint64(0)
	if last {
		final = 1
	}
	switch {
	case storedSize <= dynamicSize && storedSize <= fixedSize:
		p.stored(data, last)
	case fixedSize <= dynamicSize:
		p.put(final|kindFixed<<1, 3)
		p.symbols(data, path, &p.fixed)
	default:
		p.put(final|kindDynamic<<1, 3)
		description.write(&p.writer)
		p.symbols(data, path, &dynamic)
	}
}

// stored writes data as it is.
func (p *Packer) stored(data []byte, last bool) {
	for {
		n, final := min(len(data), maxStored), uint64(0)
		if last && n == len(data) {
			final = 1
		}
		p.put(final|kindStored<<1, 3)
		p.flush()
		p.out = binary.LittleEndian.AppendUint16(p.out, uint16(n))
		p.out = binary.LittleEndian.AppendUint16(p.out, ^uint16(n))
		p.out = append(p.out, data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return
		}
	}
}

func (p *Packer) symbols(data []byte, path []choice, c *codes) {
	at := 0
	for _, s := range path {
		if s.length == 1 {
			b := data[at]
			p.put(uint64(c.first.words[b]), uint(c.first.lengths[b]))
			at++
			continue
		}
		at += int(s.length)
		symbol, extra := lengthSymbol(int(s.length))
		p.put(uint64(c.first.words[endOfBlock+1+symbol]), uint(c.first.lengths[endOfBlock+1+symbol]))
		p.put(uint64(int(s.length)-minMatch)&(1<<extra-1), uint(extra))
		symbol = distanceSymbol(uint32(s.distance))
		extra = distanceExtra(symbol)
		p.put(uint64(c.distances.words[symbol]), uint(c.distances.lengths[symbol]))
		p.put(uint64(s.distance)&(1<<extra-1), uint(extra))
	}
	p.put(uint64(c.first.words[endOfBlock]), uint(c.first.lengths[endOfBlock]))
}

// description is that of a block's codes (section 3.2.7): the lengths of their words, in a code of their own.
type description struct {
	first, distances int // how many lengths there are
	list             []run
	code             code
	codes            int // how many lengths of that code there are
}

// run is a symbol of that code and what follows it.
type run struct{ symbol, value, extra uint8 }

// order is that of the lengths of the code for lengths.
func order() [lengthCodes]int {
	return [lengthCodes]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
}

func describe(c codes) description {
	d := description{first: len(c.first.lengths), distances: len(c.distances.lengths)}
	for d.first > endOfBlock+1 && c.first.lengths[d.first-1] == 0 {
		d.first--
	}
	for d.distances > 1 && c.distances.lengths[d.distances-1] == 0 {
		d.distances--
	}
	lengths := append(append(make([]uint8, 0, d.first+d.distances), c.first.lengths[:d.first]...), c.distances.lengths[:d.distances]...)
	var counts [lengthCodes]uint32
	for at := 0; at < len(lengths); {
		n := 1
		for at+n < len(lengths) && lengths[at+n] == lengths[at] {
			n++
		}
		for rest := n; rest > 0; {
			r, used := oneRun(lengths[at], rest, rest < n)
			d.list = append(d.list, r)
			counts[r.symbol]++
			rest -= used
		}
		at += n
	}
	d.code = newCode(counts[:], maxLengthBits)
	d.codes = lengthCodes
	for symbols := order(); d.codes > 4 && d.code.lengths[symbols[d.codes-1]] == 0; {
		d.codes--
	}
	return d
}

// oneRun returns the next symbol for n equal lengths, and how many of them it covers. again tells that the length before is the same.
func oneRun(length uint8, n int, again bool) (run, int) {
	switch {
	case length == 0 && n >= 11:
		n = min(n, 138)
		return run{18, uint8(n - 11), 7}, n
	case length == 0 && n >= 3:
		return run{17, uint8(n - 3), 3}, n
	case length != 0 && again && n >= 3:
		n = min(n, 6)
		return run{16, uint8(n - 3), 2}, n
	}
	return run{length, 0, 0}, 1
}

// size is how many bits it takes.
func (d *description) size() int {
	sum := 5 + 5 + 4 + 3*d.codes
	for _, r := range d.list {
		sum += int(d.code.lengths[r.symbol]) + int(r.extra)
	}
	return sum
}

func (d *description) write(w *writer) {
	w.put(uint64(d.first-endOfBlock-1), 5)
	w.put(uint64(d.distances-1), 5)
	w.put(uint64(d.codes-4), 4)
	for i, symbols := 0, order(); i < d.codes; i++ {
		symbol := symbols[i]
		w.put(uint64(d.code.lengths[symbol]), 3)
	}
	for _, r := range d.list {
		w.put(uint64(d.code.words[r.symbol]), uint(d.code.lengths[r.symbol]))
		w.put(uint64(r.value), uint(r.extra))
	}
}
