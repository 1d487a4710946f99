package deflate

import "math/bits"

// The symbols of RFC 1951, section 3.2.5.

const (
	literals        = 256
	endOfBlock      = 256
	lengthSymbols   = 29
	distanceSymbols = 30
	firstSymbols    = literals + 1 + lengthSymbols // of the code for literals and lengths
)

// lengthSymbol returns the symbol of a length, counted from the first one, and how many bits follow it.
func lengthSymbol(length int) (symbol, extra int) {
	n := length - minMatch
	switch {
	case length == maxMatch:
		return lengthSymbols - 1, 0
	case n < 8:
		return n, 0
	}
	extra = bits.Len(uint(n)) - 3
	return 4*extra + n>>extra, extra
}

// distanceSymbol returns the symbol of a distance less one. As many bits follow as distanceExtra says.
func distanceSymbol(distance uint32) int {
	if distance < 4 {
		return int(distance)
	}
	extra := bits.Len32(distance) - 2
	return 2*extra + int(distance>>extra)
}

func distanceExtra(symbol int) int { return max(symbol/2-1, 0) }

// counts are how often symbols are used.
type counts struct {
	first     [firstSymbols]uint32
	distances [distanceSymbols]uint32
}

func (c *counts) count(data []byte, path []choice) {
	*c = counts{}
	c.first[endOfBlock] = 1
	at := 0
	for _, s := range path {
		if s.length == 1 {
			c.first[data[at]]++
		} else {
			symbol, _ := lengthSymbol(int(s.length))
			c.first[endOfBlock+1+symbol]++
			c.distances[distanceSymbol(uint32(s.distance))]++
		}
		at += int(s.length)
	}
}

func (c *counts) add(o *counts) {
	for i, n := range o.first {
		c.first[i] += n
	}
	c.first[endOfBlock] = 1
	for i, n := range o.distances {
		c.distances[i] += n
	}
}

func lengthExtra(symbol int) int {
	if symbol == lengthSymbols-1 {
		return 0
	}
	return max(symbol/4-1, 0)
}

// logarithms are those of the numbers from 1<<logBits to 2<<logBits, less logBits, in 1/costUnit.
type logarithms [1 << logBits]uint8

const (
	logBits  = 9
	unitBits = 6
	costUnit = 1 << unitBits // of a bit
)

// newLogarithms computes them in integers, the same everywhere: squaring doubles a logarithm, and what is then before the point is kept and shifted away.
func newLogarithms() *logarithms {
	var l logarithms
	for i := range l {
		power, log := uint64(1<<logBits+i)<<(31-logBits), uint8(0)
		for range unitBits {
			power = power * power >> 31
			log *= 2
			if power >= 1<<32 {
				power >>= 1
				log++
			}
		}
		l[i] = log
	}
	return &l
}

// of returns the logarithm of a number that is not 0.
func (l *logarithms) of(n uint32) uint32 {
	whole := uint32(bits.Len32(n) - 1)
	return whole<<unitBits + uint32(l[uint64(n)<<logBits>>whole&(1<<logBits-1)])
}

// size is about how long symbols that are used so often are, with the description of their codes.
func (l *logarithms) size(c *counts) int {
	sum := l.entropy(c.first[:]) + l.entropy(c.distances[:])
	for i, n := range c.first[endOfBlock+1:] {
		sum += int(n) * lengthExtra(i) << unitBits
	}
	for i, n := range c.distances {
		sum += int(n) * distanceExtra(i) << unitBits
	}
	return sum
}

func (l *logarithms) entropy(list []uint32) int {
	const described = 7 * costUnit / 2 // for each symbol that is used
	total := uint32(0)
	for _, n := range list {
		total += n
	}
	if total == 0 {
		return 0
	}
	all, sum := l.of(total), 0
	for _, n := range list {
		if n > 0 {
			sum += int(n)*int(all-l.of(n)) + described
		}
	}
	return sum
}

// costs are what symbols cost, with the bits that follow them, in 1/costUnit bit.
type costs struct {
	*logarithms
	literals  [literals]uint32
	lengths   [maxMatch + 1]uint32
	distances [distanceSymbols]uint32
}

// begin guesses the costs from the content alone.
func (c *costs) begin(content []byte) {
	var n counts
	for _, b := range content {
		n.first[b]++
	}
	n.first[endOfBlock]++
	// As if a third of the bytes were literals, and the rest matches of all kinds.
	for i := range n.first[:literals] {
		n.first[i] /= 3
	}
	each := uint32(len(content))/20/lengthSymbols + 1
	for i := range n.first[endOfBlock+1:] {
		n.first[endOfBlock+1+i] = each * 3 / uint32(1+i/4)
	}
	for i := range n.distances {
		n.distances[i] = each * uint32(1+i/6)
	}
	c.update(&n)
}

// update computes the costs from how often symbols have been used.
func (c *costs) update(n *counts) {
	var first [firstSymbols]uint32
	c.price(n.first[:], first[:])
	c.price(n.distances[:], c.distances[:])
	copy(c.literals[:], first[:literals])
	for length := minMatch; length <= maxMatch; length++ {
		symbol, extra := lengthSymbol(length)
		c.lengths[length] = first[endOfBlock+1+symbol] + uint32(extra)*costUnit
	}
	for i := range c.distances {
		c.distances[i] += uint32(distanceExtra(i)) * costUnit
	}
}

// price computes what symbols cost without the bits that follow them. What is not used costs as if it were used half as often as what is used once.
func (c *costs) price(list, symbols []uint32) {
	total := uint32(1)
	for _, n := range list {
		total += n
	}
	all := c.of(total)
	for i, n := range list {
		price := all + costUnit
		if n > 0 {
			price = all - c.of(n)
		}
		symbols[i] = min(max(price, costUnit), maxBits*costUnit)
	}
}

// part is a stretch of a piece that becomes a block.
type part struct {
	symbols, bytes int
	counts         counts
	size           int // in 1/costUnit bit
	lost           int // by being one with the next part
}

const (
	grain  = 1024          // symbols that are not parted
	header = 60 * costUnit // about what a block costs besides its symbols and their codes
)

// cut finds parts of the piece at pos: neighbours are put together as long as one block for both is shorter than two.
func (p *Packer) cut(pos int) {
	p.split = p.split[:0]
	at := pos
	for rest := p.whole; ; {
		path := rest[:min(grain, len(rest))]
		rest = rest[len(path):]
		next := part{symbols: len(path)}
		for _, s := range path {
			next.bytes += int(s.length)
		}
		next.counts.count(p.data[at:], path)
		next.size = p.costs.size(&next.counts)
		at += next.bytes
		p.split = append(p.split, next)
		if len(rest) == 0 {
			break
		}
	}
	for i := range p.split[1:] {
		p.compare(i)
	}
	for len(p.split) > 1 {
		best := 0
		for i := range p.split[1:] {
			if p.split[i].lost < p.split[best].lost {
				best = i
			}
		}
		if p.split[best].lost >= header {
			return
		}
		a, b := &p.split[best], &p.split[best+1]
		a.symbols, a.bytes = a.symbols+b.symbols, a.bytes+b.bytes
		a.counts.add(&b.counts)
		a.size = p.costs.size(&a.counts)
		p.split = append(p.split[:best+1], p.split[best+2:]...)
		if best > 0 {
			p.compare(best - 1)
		}
		if best+1 < len(p.split) {
			p.compare(best)
		}
	}
}

// compare finds what is lost if a part becomes one with the next.
func (p *Packer) compare(i int) {
	both := p.split[i].counts
	both.add(&p.split[i+1].counts)
	p.split[i].lost = p.costs.size(&both) - p.split[i].size - p.split[i+1].size
}
