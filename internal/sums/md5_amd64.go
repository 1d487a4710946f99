package sums

import (
	"math"

	"golang.org/x/sys/cpu"
)

// hasLanes says that blocks8 works on this machine.
var hasLanes = cpu.X86.HasAVX2

// constants are those of the 64 steps (RFC 1321, 3.4).
var constants = func() (table [64]uint32) {
	for i := range table {
		table[i] = uint32(math.Floor(math.Abs(math.Sin(float64(i+1))) * (1 << 32)))
	}
	return table
}()

// blocks8 takes so many blocks of 64 bytes, at least one, of each of eight streams into the streams' states: words a to d of all streams, one after the other.
//
//go:noescape
func blocks8(state *[4][8]uint32, data *[8]*byte, blocks int)
