package xz

import "math/bits"

// The symbols of LZMA: literals, matches by distance, and matches by one of the last four distances.

const (
	literalContext = 3 // lc: how many bits of the byte before choose a literal's probabilities
	positionBits   = 2 // pb: how many bits of the position choose other probabilities
	properties     = (positionBits*5+0)*9 + literalContext

	states     = 12
	positions  = 1 << positionBits
	minMatch   = 2
	maxMatch   = 273
	slots      = 64
	alignBits  = 4
	firstAlign = 14 // the first slot whose distances have bits that are coded directly
)

type lengthCoder struct {
	choice, choice2 prob
	low, mid        [positions][8]prob
	high            [256]prob
}

// model is what has been learnt so far.
type model struct {
	state   int
	reps    [4]uint32 // the last distances, less one
	isMatch [states][positions]prob
	isRep   [states]prob
	isRep0  [states]prob // 1: not the last distance
	isRep1  [states]prob
	isRep2  [states]prob
	isLong  [states][positions]prob // 1: more than one byte at the last distance
	slot    [4][slots]prob
	special [firstAlign][32]prob
	align   [1 << alignBits]prob
	lengths lengthCoder
	repeats lengthCoder
	literal [1 << literalContext][0x300]prob
}

func fill(probs []prob) {
	for i := range probs {
		probs[i] = probStart
	}
}

func (l *lengthCoder) reset() {
	l.choice, l.choice2 = probStart, probStart
	for i := range l.low {
		fill(l.low[i][:])
		fill(l.mid[i][:])
	}
	fill(l.high[:])
}

func (m *model) reset() {
	m.state, m.reps = 0, [4]uint32{}
	for i := range states {
		fill(m.isMatch[i][:])
		fill(m.isLong[i][:])
	}
	for _, list := range [][]prob{m.isRep[:], m.isRep0[:], m.isRep1[:], m.isRep2[:], m.align[:]} {
		fill(list)
	}
	for i := range m.slot {
		fill(m.slot[i][:])
	}
	for i := range m.special {
		fill(m.special[i][:])
	}
	for i := range m.literal {
		fill(m.literal[i][:])
	}
	m.lengths.reset()
	m.repeats.reset()
}

// literalSymbol encodes the byte at pos of data.
func (m *model) literalSymbol(e *rangeEncoder, data []byte, pos int) {
	e.bit(&m.isMatch[m.state][pos&(positions-1)], 0)
	before := byte(0)
	if pos > 0 {
		before = data[pos-1]
	}
	probs := &m.literal[before>>(8-literalContext)]
	symbol := uint32(data[pos]) | 0x100
	if m.state < 7 {
		for symbol < 0x10000 {
			e.bit(&probs[symbol>>8], symbol>>7&1)
			symbol <<= 1
		}
	} else {
		// The byte that the last match would have gone on with is most likely another one.
		expected, offset := uint32(data[pos-int(m.reps[0])-1]), uint32(0x100)
		for symbol < 0x10000 {
			expected <<= 1
			e.bit(&probs[offset+expected&offset+symbol>>8], symbol>>7&1)
			symbol <<= 1
			offset &= ^(expected ^ symbol)
		}
	}
	switch {
	case m.state < 4:
		m.state = 0
	case m.state < 10:
		m.state -= 3
	default:
		m.state -= 6
	}
}

func (l *lengthCoder) encode(e *rangeEncoder, length, position int) {
	switch n := uint32(length - minMatch); {
	case n < 8:
		e.bit(&l.choice, 0)
		e.tree(l.low[position][:], n, 3)
	case n < 16:
		e.bit(&l.choice, 1)
		e.bit(&l.choice2, 0)
		e.tree(l.mid[position][:], n-8, 3)
	default:
		e.bit(&l.choice, 1)
		e.bit(&l.choice2, 1)
		e.tree(l.high[:], n-16, 8)
	}
}

// slotOf returns the slot of a distance less one: twice the place of its highest bit, and the bit after that.
func slotOf(distance uint32) uint32 {
	if distance < 4 {
		return distance
	}
	high := uint32(bits.Len32(distance) - 1)
	return 2*high + distance>>(high-1)&1
}

// match encodes a match by its distance less one.
func (m *model) match(e *rangeEncoder, pos int, distance uint32, length int) {
	position := pos & (positions - 1)
	e.bit(&m.isMatch[m.state][position], 1)
	e.bit(&m.isRep[m.state], 0)
	m.lengths.encode(e, length, position)
	slot := slotOf(distance)
	e.tree(m.slot[min(length-minMatch, 3)][:], slot, 6)
	if slot >= 4 {
		footer := int(slot/2 - 1)
		rest := distance - (2|slot&1)<<footer
		if slot < firstAlign {
			e.reverseTree(m.special[slot][:], rest, footer)
		} else {
			e.direct(rest>>alignBits, footer-alignBits)
			e.reverseTree(m.align[:], rest, alignBits)
		}
	}
	m.reps = [4]uint32{distance, m.reps[0], m.reps[1], m.reps[2]}
	if m.state < 7 {
		m.state = 7
	} else {
		m.state = 10
	}
}

// repeat encodes a match by the number of one of the last distances. With length 1 it must be the last one.
func (m *model) repeat(e *rangeEncoder, pos, rep, length int) {
	position := pos & (positions - 1)
	e.bit(&m.isMatch[m.state][position], 1)
	e.bit(&m.isRep[m.state], 1)
	after := [2]int{8, 11}
	if rep == 0 {
		e.bit(&m.isRep0[m.state], 0)
		long := uint32(1)
		if length == 1 {
			long, after = 0, [2]int{9, 11}
		}
		e.bit(&m.isLong[m.state][position], long)
	} else {
		e.bit(&m.isRep0[m.state], 1)
		e.bit(&m.isRep1[m.state], uint32(min(rep-1, 1)))
		if rep > 1 {
			e.bit(&m.isRep2[m.state], uint32(rep-2))
		}
		distance := m.reps[rep]
		copy(m.reps[1:rep+1], m.reps[:rep])
		m.reps[0] = distance
	}
	if length > 1 {
		m.repeats.encode(e, length, position)
	}
	if m.state < 7 {
		m.state = after[0]
	} else {
		m.state = after[1]
	}
}
