package deflate

import (
	"cmp"
	"math/bits"
	"slices"
)

const (
	maxBits       = 15 // of a symbol's code
	maxLengthBits = 7  // of a code for lengths of codes
	lengthCodes   = 19
)

// code is a Huffman code: the bits of each symbol, in the order in which they are written, the first one lowest.
type code struct {
	lengths []uint8
	words   []uint16
}

// node is a symbol, or what two nodes became.
type node struct {
	count       uint32
	left, right int16 // -1: a symbol
}

// newCode makes the code of least length whose words have at most limit bits. Symbols that are not used have no word.
func newCode(counts []uint32, limit int) code {
	c := code{make([]uint8, len(counts)), make([]uint16, len(counts))}
	used := make([]int, 0, len(counts))
	for i, n := range counts {
		if n > 0 {
			used = append(used, i)
		}
	}
	slices.SortStableFunc(used, func(a, b int) int { return cmp.Compare(counts[a], counts[b]) })
	switch len(used) {
	case 0:
		return c
	case 1:
		c.lengths[used[0]] = 1 // which is what readers expect (section 3.2.7)
		c.assign()
		return c
	}
	perLength := limited(depths(counts, used), limit)
	at := 0
	for length := limit; length > 0; length-- { // the longest words for what is used least
		for range perLength[length] {
			c.lengths[used[at]] = uint8(length)
			at++
		}
	}
	c.assign()
	return c
}

// depths returns how many symbols there are of each depth in a Huffman tree. used are in the order of their counts.
func depths(counts []uint32, used []int) []int {
	n := len(used)
	nodes := make([]node, 0, 2*n-1)
	for _, i := range used {
		nodes = append(nodes, node{counts[i], -1, -1})
	}
	leaf, inner := 0, n
	least := func() int16 {
		if leaf < n && (inner >= len(nodes) || nodes[leaf].count <= nodes[inner].count) {
			leaf++
			return int16(leaf - 1)
		}
		inner++
		return int16(inner - 1)
	}
	for len(nodes) < 2*n-1 {
		left, right := least(), least()
		nodes = append(nodes, node{nodes[left].count + nodes[right].count, left, right})
	}
	depth := make([]int, len(nodes))
	perDepth := make([]int, n)
	for i := len(nodes) - 1; i >= 0; i-- {
		if nodes[i].left < 0 {
			perDepth[depth[i]]++
			continue
		}
		depth[nodes[i].left], depth[nodes[i].right] = depth[i]+1, depth[i]+1
	}
	return perDepth
}

// limited makes no symbol deeper than limit.
func limited(perDepth []int, limit int) []int {
	perLength := make([]int, max(len(perDepth), limit+1))
	copy(perLength, perDepth)
	room := 0 // how many words of limit bits there are too many
	for length, n := range perLength {
		if length > limit {
			perLength[limit] += n
		}
	}
	perLength = perLength[:limit+1]
	for length, n := range perLength {
		room += n << (limit - length)
	}
	room -= 1 << limit
	for ; room > 0; room-- {
		// A word of limit bits goes beside one that is shorter, which becomes a bit longer.
		length := limit - 1
		for perLength[length] == 0 {
			length--
		}
		perLength[length]--
		perLength[length+1] += 2
		perLength[limit]--
	}
	return perLength
}

// assign gives words to the lengths (section 3.2.2).
func (c *code) assign() {
	var perLength, next [maxBits + 2]uint16
	for _, length := range c.lengths {
		if length > 0 {
			perLength[length]++
		}
	}
	for length := 1; length <= maxBits; length++ {
		next[length+1] = (next[length] + perLength[length]) << 1
	}
	for i, length := range c.lengths {
		if length > 0 {
			c.words[i] = bits.Reverse16(next[length]) >> (16 - length)
			next[length]++
		}
	}
}
