package xz

// The range coder of LZMA: each bit is coded by a probability that adapts to what came before.

const (
	probBits  = 11                // of a probability
	probStart = 1 << probBits / 2 // both bits are as likely
	probShift = 5                 // how slowly a probability adapts
	topRange  = 1 << 24           // below it a byte is written
)

// prob is the probability that a bit is 0, in 1/2048.
type prob uint16

// rangeEncoder writes bits into buf, which is long enough for a chunk.
type rangeEncoder struct {
	low     uint64
	rng     uint32
	cache   byte // the last byte that is not written yet, since a carry may come
	pending int  // bytes that are not written yet: the cache and 0xff after it
	buf     []byte
	n       int
}

func (e *rangeEncoder) reset() {
	e.low, e.rng, e.cache, e.pending, e.n = 0, 1<<32-1, 0, 1, 0
}

// size is how long the output is if it ends now.
func (e *rangeEncoder) size() int { return e.n + e.pending + 4 }

func (e *rangeEncoder) shiftLow() {
	if uint32(e.low) < 0xff000000 || e.low>>32 != 0 {
		carry := byte(e.low >> 32)
		e.buf[e.n] = e.cache + carry
		e.n++
		for e.pending > 1 {
			e.buf[e.n] = 0xff + carry
			e.n++
			e.pending--
		}
		e.pending = 0
		e.cache = byte(e.low >> 24)
	}
	e.pending++
	e.low = e.low << 8 & 0xffffffff
}

// bit encodes one bit, 0 or 1. It has no branch that depends on the bit: processors can't foresee it.
func (e *rangeEncoder) bit(p *prob, bit uint32) {
	ones := -bit
	bound := e.rng >> probBits * uint32(*p)
	e.low += uint64(bound & ones)
	e.rng = bound + (e.rng-2*bound)&ones
	*p += prob(int32(1<<probBits&^ones+(1<<probShift-1)&ones-uint32(*p)) >> probShift)
	if e.rng < topRange {
		e.rng <<= 8
		e.shiftLow()
	}
}

// direct encodes the low bits of a value, the highest first, each as likely as not.
func (e *rangeEncoder) direct(value uint32, bits int) {
	for bits--; bits >= 0; bits-- {
		e.rng >>= 1
		e.low += uint64(e.rng & -(value >> bits & 1))
		if e.rng < topRange {
			e.rng <<= 8
			e.shiftLow()
		}
	}
}

// tree encodes the low bits of a value, the highest first, each by the probability that the ones before choose.
func (e *rangeEncoder) tree(probs []prob, value uint32, bits int) {
	m := uint32(1)
	for bits--; bits >= 0; bits-- {
		bit := value >> bits & 1
		e.bit(&probs[m], bit)
		m = m<<1 | bit
	}
}

// reverseTree is tree with the lowest bit first.
func (e *rangeEncoder) reverseTree(probs []prob, value uint32, bits int) {
	m := uint32(1)
	for range bits {
		bit := value & 1
		value >>= 1
		e.bit(&probs[m], bit)
		m = m<<1 | bit
	}
}

func (e *rangeEncoder) finish() []byte {
	for range 5 {
		e.shiftLow()
	}
	return e.buf[:e.n]
}
