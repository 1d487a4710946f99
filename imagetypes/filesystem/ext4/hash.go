package ext4

import (
	"math/bits"
)

// hashHalfMD4 is the hash version that mke2fs chooses (ext4 documentation, "Hash Tree Directories").
const hashHalfMD4 = 1

// unsignedHash is the superblock flag for hashes made where char is an unsigned type.
const unsignedHash = 0x2

// nameHash computes the hash of a directory entry's name by which hash trees are sorted: the words 1 and 2 of a state that begins with the
// file system's seed and takes in the name, 32 bytes at a time, by three rounds of 8 steps made of MD4's (RFC 1320) functions.
func (s *superblock) nameHash(name string) (major, minor uint32) {
	state := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	var seed [4]uint32
	for i := range seed {
		seed[i] = s.u32(sbHashSeed + 4*i)
	}
	if seed != [4]uint32{} {
		state = seed
	}
	signed := s.u32(sbFlags)&unsignedHash == 0
	for left := name; len(left) > 0; left = left[min(32, len(left)):] {
		halfMD4(&state, hashWords(left, signed))
	}
	major = state[1] &^ 1
	if major == 0xFFFFFFFE { // stands for the end of a directory
		major = 0xFFFFFFFC
	}
	return major, state[2]
}

// hashWords packs the first 32 bytes of a name into 8 words, the first byte highest, and fills up with the name's length.
func hashWords(name string, signed bool) [8]uint32 {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	var words [8]uint32
	for i := range words {
		words[i] = pad
	}
	for i := range min(32, len(name)) {
		b := uint32(name[i])
		if signed {
			b = uint32(int32(int8(name[i])))
		}
		words[i/4] = b + words[i/4]<<8
	}
	return words
}

// halfMD4 mixes 8 words into the state.
func halfMD4(state *[4]uint32, in [8]uint32) {
	f := func(x, y, z uint32) uint32 { return z ^ x&(y^z) }
	g := func(x, y, z uint32) uint32 { return x&y + (x^y)&z }
	h := func(x, y, z uint32) uint32 { return x ^ y ^ z }
	rounds := []struct {
		mix   func(x, y, z uint32) uint32
		add   uint32
		order [8]int
		shift [4]int
	}{
		{f, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19}},
		{g, 0x5A827999, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13}},
		{h, 0x6ED9EBA1, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15}},
	}
	a, b, c, d := state[0], state[1], state[2], state[3]
	for _, r := range rounds {
		for i, word := range r.order {
			a = bits.RotateLeft32(a+r.mix(b, c, d)+in[word]+r.add, r.shift[i%4])
			a, b, c, d = d, a, b, c
		}
	}
	state[0] += a
	state[1] += b
	state[2] += c
	state[3] += d
}
