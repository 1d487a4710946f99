//go:build !amd64

package sums

const hasLanes = false

func blocks16(*[2][4][8]uint32, *[16]*byte, int) {}
