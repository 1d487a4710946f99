package sums

import (
	"math"

	"golang.org/x/sys/cpu"
)

// hasLanes says that blocks16 works on this machine.
var hasLanes = cpu.X86.HasAVX2

// constants are those of the 64 steps (RFC 1321, 3.4).
var constants = func() (table [64]uint32) {
	for i := range table {
		table[i] = uint32(math.Floor(math.Abs(math.Sin(float64(i+1))) * (1 << 32)))
	}
	return table
}()

// blocks16 takes so many blocks of 64 bytes, at least one, of each of sixteen streams into the streams' states: words a to d of the first eight, then of the others.
//
//go:noescape
func blocks16(state *[2][4][8]uint32, data *[16]*byte, blocks int)
