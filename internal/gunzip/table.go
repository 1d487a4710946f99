package gunzip

import "math/bits"

// An entry of a decoding table says what the next bits of the stream mean.
//
//	bits 0-7    how many bits of the stream that is: those of the code and the extra bits
//	bits 8-11   how many of them are the code; of a link, how many bits the second table looks up
//	bit 13      with entrySpecial: the end of the block
//	bit 14      with entrySpecial: a link to a second table, for codes longer than the first one looks up
//	bit 15      entrySpecial; alone, it is a code that is not in use
//	bits 16-30  the literal byte, the least length or distance, or where the second table begins
//	bit 31      it is a literal
const (
	entryLiteral = 1 << 31
	entrySpecial = 1 << 15
	entryLink    = 1 << 14
	entryEnd     = 1 << 13
)

const (
	maxCode  = 15 // bits of a code (RFC 1951, 3.2.7)
	litBits  = 11 // that the first table of literals and lengths looks up
	distBits = 9  // and that of distances
	codeBits = 7  // all there are of a code of code lengths

	maxLits  = 288 // symbols; the fixed codes have some that are never used
	maxDists = 32
	maxCodes = 19
)

// entry is one of a table.
type entry uint32

// value adds the extra bits in taken, which begin with the code, to the least length or distance.
func (e entry) value(taken uint64) int {
	return int(e>>16) + int(taken&(1<<(e&63)-1)>>(e>>8&15))
}

// A first table with room for the second ones: each of them is for two codes at least.
type (
	litTable  [1<<litBits + maxLits/2<<(maxCode-litBits)]entry
	distTable [1<<distBits + maxDists/2<<(maxCode-distBits)]entry
	codeTable [1 << codeBits]entry
)

// follow goes on in a second table, if e is a link to one.
func (t *litTable) follow(e entry, bits uint64) entry {
	if e&entryLink == 0 {
		return e
	}
	return t[int(e>>16&0x7fff+entry(bits>>litBits)&(1<<(e>>8&15)-1))%len(t)]
}

func (t *distTable) follow(e entry, bits uint64) entry {
	if e&entryLink == 0 {
		return e
	}
	return t[int(e>>16&0x7fff+entry(bits>>distBits)&(1<<(e>>8&15)-1))%len(t)]
}

// alphabets are the entries of all symbols without the bits of their codes.
type alphabets struct {
	lits  [maxLits]entry
	dists [maxDists]entry
	codes [maxCodes]entry
}

// newAlphabets computes the lengths and distances of RFC 1951, 3.2.5.
func newAlphabets() *alphabets {
	a := &alphabets{}
	for i := range a.lits {
		a.lits[i] = entrySpecial
	}
	for i := range 256 {
		a.lits[i] = entryLiteral | entry(i)<<16
	}
	a.lits[256] = entrySpecial | entryEnd
	least := entry(3)
	for i := range 28 {
		extra := entry(max(0, i/4-1))
		a.lits[257+i] = least<<16 | extra
		least += 1 << extra
	}
	a.lits[285] = 258 << 16
	for i := range a.dists {
		a.dists[i] = entrySpecial
	}
	least = 1
	for i := range 30 {
		extra := entry(max(0, i/2-1))
		a.dists[i] = least<<16 | extra
		least += 1 << extra
	}
	for i := range a.codes {
		a.codes[i] = entry(i) << 16
	}
	return a
}

// fillTable makes a table that looks up first bits. lengths are the bits of each symbol's code, 0 if it has none; entries say what the symbols
// mean. It is false if this is no prefix code: one that is complete, or has a single code of one bit, or none (RFC 1951, 3.2.2 and 3.2.7).
func fillTable(table []entry, first int, lengths []uint8, entries []entry) bool {
	var counts, next [maxCode + 1]int
	for _, n := range lengths {
		counts[n]++
	}
	counts[0] = 0
	longest, code := 0, 0
	for n := 1; n <= maxCode; n++ {
		code <<= 1
		next[n] = code
		if code += counts[n]; code > 1<<n {
			return false
		}
		if counts[n] > 0 {
			longest = n
		}
	}
	complete := code == 1<<maxCode
	if !complete && (longest > 1 || counts[1] > 1) {
		return false
	}
	if !complete || longest > first {
		for i := range table[:1<<first] {
			table[i] = entrySpecial
		}
	}
	free, second := 1<<first, longest-first
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		reversed := int(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		e := entries[symbol] + entry(n)<<8 + entry(n)
		part, step := table[:1<<first], 1<<n
		if int(n) > first {
			link := &table[reversed&(1<<first-1)]
			if *link == entrySpecial {
				*link = entrySpecial | entryLink | entry(free)<<16 | entry(second)<<8
				free += 1 << second
			}
			start := int(*link >> 16)
			part, step, reversed = table[start:start+1<<second], 1<<(int(n)-first), reversed>>first
		}
		for i := reversed; i < len(part); i += step {
			part[i] = e
		}
	}
	return true
}
