package xz

// What symbols cost, as the probabilities are at the moment, in 1/16 bit.

const (
	priceBits  = 4 // 1 << priceBits is a bit
	priceShift = 4 // probabilities that differ in the lowest bits only have one price
	endless    = 1 << 30
	nearSlots  = 14  // distances of lower slots have prices of their own
	nearest    = 128 // that many distances
	lengthsLow = 16  // lengths whose prices depend on the position
)

type prices struct {
	bits    [1 << probBits >> priceShift]uint32
	slots   [4][slots]uint32 // with the bits that follow, but those that align codes
	near    [4][nearest]uint32
	align   [1 << alignBits]uint32
	lengths lengthPrices
	repeats lengthPrices
}

type lengthPrices struct {
	low  [positions][lengthsLow]uint32
	high [256]uint32
}

func newPrices() *prices {
	p := &prices{}
	for i := range p.bits {
		// The logarithm in integers, the same everywhere: squaring doubles it, and what it has before the point is shifted away.
		power, log := uint64(2*i+1)<<(priceShift-1), uint32(0)
		for range priceBits {
			power *= power
			log *= 2
			for power >= 1<<16 {
				power >>= 1
				log++
			}
		}
		p.bits[i] = probBits<<priceBits - 15 - log // 15: what rounding down has taken from log
	}
	return p
}

// bit is what one bit costs.
func (p *prices) bit(probability prob, bit uint32) uint32 {
	return p.bits[(uint32(probability)^(-bit&(1<<probBits-1)))>>priceShift&(1<<probBits>>priceShift-1)]
}

func (p *prices) tree(probs []prob, value uint32, bits int) uint32 {
	sum, at := uint32(0), value|1<<bits
	for at != 1 {
		bit := at & 1
		at >>= 1
		sum += p.bit(probs[at], bit)
	}
	return sum
}

func (p *prices) reverseTree(probs []prob, value uint32, bits int) uint32 {
	sum, at := uint32(0), uint32(1)
	for range bits {
		bit := value & 1
		value >>= 1
		sum += p.bit(probs[at], bit)
		at = at<<1 | bit
	}
	return sum
}

// literal is what a byte costs after another symbol than a match.
func (p *prices) literal(probs *[0x300]prob, value byte) uint32 {
	sum, at := uint32(0), uint32(value)|0x100
	for at != 1 {
		bit := at & 1
		at >>= 1
		sum += p.bit(probs[at&0xff], bit)
	}
	return sum
}

// afterMatch is what a byte costs after a match, which would have gone on with the expected one.
func (p *prices) afterMatch(probs *[0x300]prob, value, expectedByte byte) uint32 {
	sum, offset, symbol, expected := uint32(0), uint32(0x100), uint32(value)|0x100, uint32(expectedByte)
	for symbol < 0x10000 {
		expected <<= 1
		sum += p.bit(probs[offset+expected&offset+symbol>>8], symbol>>7&1)
		symbol <<= 1
		offset &= ^(expected ^ symbol)
	}
	return sum
}

// update computes the prices of lengths and distances anew.
func (p *prices) update(m *model, longest int) {
	p.updateLengths(&p.lengths, &m.lengths, 1<<m.positionBits, longest)
	p.updateLengths(&p.repeats, &m.repeats, 1<<m.positionBits, longest)
	for i := range p.align {
		p.align[i] = p.reverseTree(m.align[:], uint32(i), alignBits)
	}
	for length := range p.slots {
		for slot := range uint32(slots) {
			price := p.tree(m.slot[length][:], slot, 6)
			if slot >= nearSlots {
				price += (slot/2 - 1 - alignBits) << priceBits
			}
			p.slots[length][slot] = price
		}
	}
	for distance := range uint32(nearest) {
		slot, rest := slotOf(distance), uint32(0)
		if slot >= 4 {
			footer := int(slot/2 - 1)
			rest = p.reverseTree(m.special[slot][:], distance-(2|slot&1)<<footer, footer)
		}
		for length := range p.near {
			p.near[length][distance] = p.slots[length][slot] + rest
		}
	}
}

func (p *prices) updateLengths(l *lengthPrices, c *lengthCoder, positions, longest int) {
	short, long := p.bit(c.choice, 0), p.bit(c.choice, 1)
	middle, high := long+p.bit(c.choice2, 0), long+p.bit(c.choice2, 1)
	for position := range positions {
		for i := range uint32(8) {
			l.low[position][i] = short + p.tree(c.low[position][:], i, 3)
			l.low[position][8+i] = middle + p.tree(c.mid[position][:], i, 3)
		}
	}
	for i := range uint32(max(0, min(longest-minMatch-lengthsLow+1, len(l.high)))) {
		l.high[i] = high + p.tree(c.high[:], i, 8)
	}
}

// length is what a length costs.
func (l *lengthPrices) length(length, position int) uint32 {
	if n := length - minMatch; n >= lengthsLow {
		return l.high[n-lengthsLow]
	}
	return l.low[position][length-minMatch]
}

// distance is what a distance less one costs with matches of a length.
func (p *prices) distance(distance uint32, length int) uint32 {
	kind := min(length-minMatch, 3)
	if distance < nearest {
		return p.near[kind][distance]
	}
	return p.slots[kind][slotOf(distance)] + p.align[distance&(1<<alignBits-1)]
}
