package xz

import "math/bits"

// The symbols of LZMA: literals, matches by distance, and matches by one of the last four distances.

const (
	states     = 12
	positions  = 1 << maxPositionBits
	minMatch   = 2
	maxMatch   = 273
	slots      = 64
	alignBits  = 4
	firstAlign = 14 // the first slot whose distances have bits that are coded directly
)

// properties say what probabilities depend on, besides what came before.
type properties struct {
	literalContext  uint8 // lc: how many bits of the byte before choose a literal's probabilities
	literalPosition uint8 // lp: how many bits of the position do
	positionBits    uint8 // pb: how many bits of the position choose other probabilities
}

const (
	maxLiteralBits  = 4 // lc and lp together
	maxPositionBits = 4
)

// usualProperties are good for everything.
func usualProperties() properties { return properties{literalContext: 3, positionBits: 2} }

func (p properties) encoded() byte {
	return (p.positionBits*5+p.literalPosition)*9 + p.literalContext
}

type lengthCoder struct {
	choice, choice2 prob
	low, mid        [positions][8]prob
	high            [256]prob
}

// model is what has been learnt so far.
type model struct {
	properties
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
	literal [1 << maxLiteralBits][0x300]prob
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
	for i := range 1 << (m.literalContext + m.literalPosition) {
		fill(m.literal[i][:])
	}
	m.lengths.reset()
	m.repeats.reset()
}

// position returns what of a position chooses probabilities.
func (p properties) position(pos int) int { return pos & (1<<p.positionBits - 1) & (positions - 1) }

// literalProbs are the probabilities for the byte at pos of data.
func (m *model) literalProbs(data []byte, pos int) *[0x300]prob {
	before := byte(0)
	if pos > 0 {
		before = data[pos-1]
	}
	choice := pos&(1<<m.literalPosition-1)<<m.literalContext | int(before>>(8-m.literalContext))
	return &m.literal[choice&(1<<maxLiteralBits-1)]
}

// literalSymbol encodes the byte at pos of data.
func (m *model) literalSymbol(e *rangeEncoder, data []byte, pos int) {
	e.bit(&m.isMatch[m.state][m.position(pos)], 0)
	probs := m.literalProbs(data, pos)
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
	m.state = afterLiteral(m.state)
}

// The states after a symbol: they tell what kinds the last symbols were.

func afterLiteral(state int) int {
	switch {
	case state < 4:
		return 0
	case state < 10:
		return state - 3
	}
	return state - 6
}

func afterMatch(state int) int {
	if state < 7 {
		return 7
	}
	return 10
}

func afterRepeat(state int) int {
	if state < 7 {
		return 8
	}
	return 11
}

func afterByte(state int) int { // a repeat of one byte
	if state < 7 {
		return 9
	}
	return 11
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
	position := m.position(pos)
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
	m.state = afterMatch(m.state)
}

// repeat encodes a match by the number of one of the last distances. With length 1 it must be the last one.
func (m *model) repeat(e *rangeEncoder, pos, rep, length int) {
	position := m.position(pos)
	e.bit(&m.isMatch[m.state][position], 1)
	e.bit(&m.isRep[m.state], 1)
	if rep == 0 {
		e.bit(&m.isRep0[m.state], 0)
		long := uint32(min(length-1, 1))
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
	if length == 1 {
		m.state = afterByte(m.state)
		return
	}
	m.repeats.encode(e, length, position)
	m.state = afterRepeat(m.state)
}
