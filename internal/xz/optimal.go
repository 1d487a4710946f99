package xz

import (
	"encoding/binary"

	"github.com/imgbuild/imgbuild/internal/matches"
)

// The cheapest symbols for a piece of a block: each place that can be reached keeps the cheapest way there, as the prices are at the piece's
// beginning. Besides single symbols, a way's step can be one that ends with a literal and a match at the last distance, which a single cheapest
// way to each place would miss.

const (
	maxPiece    = 1024 // places
	backLiteral = 1<<32 - 1
	backMatch   = 4 // distances less one are kept with this added
	refresh     = 1024
)

// step is the end of the cheapest way to a place: a symbol, and perhaps a literal and a match at the last distance after it.
type step struct {
	price  uint32
	back   uint32 // backLiteral, the number of a repeat, or backMatch and a distance
	length uint16 // of the symbol; 0 if there is none
	more   uint16 // the length of the match after the literal; 0 if there are none
}

// situation is what the price of symbols depends on.
type situation struct {
	state int
	reps  [4]uint32
}

func (s *situation) apply(back uint32, length int) {
	switch {
	case back == backLiteral:
		s.state = afterLiteral(s.state)
	case back >= backMatch:
		s.state = afterMatch(s.state)
		s.reps = [4]uint32{back - backMatch, s.reps[0], s.reps[1], s.reps[2]}
	case length == 1:
		s.state = afterByte(s.state)
	default:
		s.state = afterRepeat(s.state)
		distance := s.reps[back]
		copy(s.reps[1:back+1], s.reps[:back])
		s.reps[0] = distance
	}
}

// symbol is one to be encoded.
type symbol struct {
	back   uint32
	length int
}

// parser finds the symbols of pieces, one after the other.
type parser struct {
	*model
	tree       *matches.Tree
	prices     *prices
	data       []byte
	nice       int
	steps      [maxPiece + 2*maxMatch + 2]step
	situations [maxPiece + 2*maxMatch + 2]situation
	reached    int // the farthest place, counted from the piece's beginning
	matches    []matches.Match
	found      bool // matches are those at the next place already
	symbols    []symbol
	priced     int // where prices were updated last
}

// parse returns the symbols of the piece at pos in reverse order.
func (p *parser) parse(pos int) []symbol {
	if pos >= p.priced+refresh || pos == 0 {
		p.prices.update(p.model, p.nice)
		p.priced = pos
	}
	p.symbols = p.symbols[:0]
	p.steps[0], p.situations[0] = step{}, situation{p.state, p.reps}
	p.reached = 0
	cur := 0
	for ; ; cur++ {
		if cur > 0 {
			if cur == p.reached {
				break
			}
			p.arrive(cur)
		}
		left := min(len(p.data)-pos-cur, maxMatch)
		if !p.found {
			p.matches = p.matches[:0]
			if left >= matches.MinLength {
				p.matches = p.tree.Find(pos+cur, left, p.matches)
			}
			p.found = true
		}
		longest := matches.Match{}
		if n := len(p.matches); n > 0 {
			longest = p.matches[n-1]
		}
		if cur == 0 {
			if s := p.atOnce(pos, left, longest); s.length > 0 {
				p.found = false
				for at := pos + 1; at < min(pos+s.length, len(p.data)-matches.MinLength+1); at++ {
					p.tree.Skip(at, min(len(p.data)-at, maxMatch))
				}
				p.symbols = append(p.symbols, s)
				return p.symbols
			}
		} else if int(longest.Length) >= p.nice || cur >= maxPiece {
			break
		}
		p.found = false
		p.extend(pos, cur, left)
	}
	p.collect(cur)
	return p.symbols
}

// atOnce returns a match that is so long that nothing better is looked for.
func (p *parser) atOnce(pos, left int, longest matches.Match) symbol {
	best := symbol{}
	for i, d := range p.reps {
		if int(d) < pos {
			if n := matches.Common(p.data, pos-int(d)-1, pos, left); n > best.length {
				best = symbol{uint32(i), n}
			}
		}
	}
	if best.length >= p.nice {
		return best
	}
	if int(longest.Length) >= p.nice {
		return symbol{longest.Distance + backMatch, int(longest.Length)}
	}
	return symbol{}
}

// arrive finds the situation at a place, from the step that leads there.
func (p *parser) arrive(cur int) {
	s := &p.steps[cur]
	from := cur - int(s.length)
	if s.more > 0 {
		from -= 1 + int(s.more)
	}
	now := &p.situations[cur]
	*now = p.situations[from]
	if s.length > 0 {
		now.apply(s.back, int(s.length))
	}
	if s.more > 0 {
		now.state = afterRepeat(afterLiteral(now.state))
	}
}

// collect appends the symbols of the cheapest way to a place, the last one first.
func (p *parser) collect(cur int) {
	for cur > 0 {
		s := p.steps[cur]
		if s.more > 0 {
			p.symbols = append(p.symbols, symbol{0, int(s.more)}, symbol{backLiteral, 1})
			cur -= 1 + int(s.more)
		}
		if s.length > 0 {
			p.symbols = append(p.symbols, symbol{s.back, int(s.length)})
			cur -= int(s.length)
		}
	}
}

// reach makes places up to one known.
func (p *parser) reach(place int) {
	for p.reached < place {
		p.reached++
		p.steps[p.reached].price = endless
	}
}

// extend looks at all symbols from a place on.
func (p *parser) extend(pos, cur, left int) {
	here, now, data := pos+cur, &p.situations[cur], p.data
	base := p.steps[cur].price
	position := p.position(here)
	byteHere := data[here]
	p.reach(cur + 1)
	literal := base + p.prices.bit(p.isMatch[now.state][position], 0)
	last := here - int(now.reps[0]) - 1 // where a match at the last distance would be
	if probs := p.literalProbs(data, here); now.state >= 7 {
		literal += p.prices.afterMatch(probs, byteHere, data[last])
	} else {
		literal += p.prices.literal(probs, byteHere)
	}
	if next := &p.steps[cur+1]; literal < next.price {
		*next = step{literal, backLiteral, 1, 0}
	}
	anyMatch := base + p.prices.bit(p.isMatch[now.state][position], 1)
	repeat := anyMatch + p.prices.bit(p.isRep[now.state], 1)
	if last >= 0 {
		if data[last] == byteHere {
			price := repeat + p.prices.bit(p.isRep0[now.state], 0) + p.prices.bit(p.isLong[now.state][position], 0)
			if next := &p.steps[cur+1]; price < next.price {
				*next = step{price, 0, 1, 0}
			}
		} else if left > 2 {
			p.literalThenRepeat(here, cur, last, afterLiteral(now.state), literal, left-1)
		}
	}
	if left < minMatch {
		return
	}
	first := p.repeats(here, cur, left, repeat)
	p.byDistance(here, cur, left, first, anyMatch+p.prices.bit(p.isRep[now.state], 0))
}

// literalThenRepeat looks at a literal and a match at the last distance after it.
func (p *parser) literalThenRepeat(here, cur, last, state int, price uint32, left int) {
	left = min(left, p.nice)
	if binary.LittleEndian.Uint16(p.data[here+1:]) != binary.LittleEndian.Uint16(p.data[last+1:]) {
		return
	}
	n := 2 + matches.Common(p.data, last+3, here+3, left-2)
	price += p.lastDistance(state, p.position(here+1), n)
	p.reach(cur + 1 + n)
	if s := &p.steps[cur+1+n]; price < s.price {
		*s = step{price: price, more: uint16(n)}
	}
}

// lastDistance is what a match at the last distance costs.
func (p *parser) lastDistance(state, position, length int) uint32 {
	return p.prices.bit(p.isMatch[state][position], 1) + p.prices.bit(p.isRep[state], 1) + p.prices.bit(p.isRep0[state], 0) +
		p.prices.bit(p.isLong[state][position], 1) + p.prices.repeats.length(length, position)
}

// repeats looks at matches at the last four distances. It returns the length from which on others are worth a look.
func (p *parser) repeats(here, cur, left int, price uint32) int {
	now := &p.situations[cur]
	position, data := p.position(here), p.data
	limit, first := min(left, p.nice), minMatch
	two := binary.LittleEndian.Uint16(data[here:])
	for i, d := range now.reps {
		from := here - int(d) - 1
		if from < 0 || binary.LittleEndian.Uint16(data[from:]) != two {
			continue
		}
		n := 2 + matches.Common(data, from+2, here+2, limit-2)
		if i == 0 {
			first = n + 1
		}
		choice := price
		if i == 0 {
			choice += p.prices.bit(p.isRep0[now.state], 0) + p.prices.bit(p.isLong[now.state][position], 1)
		} else {
			choice += p.prices.bit(p.isRep0[now.state], 1)
			if i == 1 {
				choice += p.prices.bit(p.isRep1[now.state], 0)
			} else {
				choice += p.prices.bit(p.isRep1[now.state], 1) + p.prices.bit(p.isRep2[now.state], uint32(i-2))
			}
		}
		p.reach(cur + n)
		for length := n; length >= minMatch; length-- {
			whole := choice + p.prices.repeats.length(length, position)
			if s := &p.steps[cur+length]; whole < s.price {
				*s = step{whole, uint32(i), uint16(length), 0}
			}
		}
		if left > n+2 {
			p.repeatAgain(here, cur, from, uint32(i), n, afterRepeat(now.state), left, choice+p.prices.repeats.length(n, position))
		}
	}
	return first
}

// byDistance looks at matches by distance, of lengths from first on.
func (p *parser) byDistance(here, cur, left, first int, price uint32) {
	if len(p.matches) == 0 || int(p.matches[len(p.matches)-1].Length) < first {
		return
	}
	position, state := p.position(here), afterMatch(p.situations[cur].state)
	p.reach(cur + int(p.matches[len(p.matches)-1].Length))
	length := first
	for _, m := range p.matches {
		for ; length <= int(m.Length); length++ {
			whole := price + p.prices.lengths.length(length, position) + p.prices.distance(m.Distance, length)
			if s := &p.steps[cur+length]; whole < s.price {
				*s = step{whole, m.Distance + backMatch, uint16(length), 0}
			}
			if length == int(m.Length) && left > length+2 {
				p.repeatAgain(here, cur, here-int(m.Distance)-1, m.Distance+backMatch, length, state, left, whole)
			}
		}
	}
}

// repeatAgain looks at a literal after a match, and a match at the same distance after that.
func (p *parser) repeatAgain(here, cur, from int, back uint32, length, state, left int, price uint32) {
	at, from := here+length, from+length
	data := p.data
	if binary.LittleEndian.Uint16(data[at+1:]) != binary.LittleEndian.Uint16(data[from+1:]) {
		return
	}
	n := 2 + matches.Common(data, from+3, at+3, min(left-length-1, p.nice)-2)
	price += p.prices.bit(p.isMatch[state][p.position(at)], 0) + p.prices.afterMatch(p.literalProbs(data, at), data[at], data[from])
	price += p.lastDistance(afterLiteral(state), p.position(at+1), n)
	end := cur + length + 1 + n
	p.reach(end)
	if s := &p.steps[end]; price < s.price {
		*s = step{price, back, uint16(length), uint16(n)}
	}
}
