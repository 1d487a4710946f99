package sums

import (
	"testing"
)

func BenchmarkBlocks16(b *testing.B) {
	if !hasLanes {
		b.Skip("no lanes on this machine")
	}
	var state [2][4][8]uint32
	var data [laneCount]*byte
	for i := range data {
		data[i] = &make([]byte, 4096)[0]
	}
	b.SetBytes(laneCount * 4096)
	for b.Loop() {
		blocks16(&state, &data, 4096/md5Block)
	}
}
