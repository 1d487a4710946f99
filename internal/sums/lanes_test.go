package sums

import (
	"crypto"
	"crypto/md5"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLanes compares with crypto/md5 for numbers of streams below and above what lanes are worth, and every way to end one.
func TestLanes(t *testing.T) {
	if !hasLanes {
		t.Skip("no lanes on this machine")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for streams := 1; streams <= laneCount+1; streams += 2 {
		for length := range 201 {
			counter := newCounter(true)
			var want, got [laneCount + 1][]byte
			for i := range streams {
				data := make([]byte, (length+i*7)%201+1)
				for j := range data {
					data[j] = byte(random.Uint32())
				}
				sum := md5.Sum(data)
				want[i] = sum[:]
				counter.File(int64(len(data)), []crypto.Hash{crypto.MD5}, func(sums []string) { got[i] = []byte(sums[0]) }).Write(data)
			}
			counter.Close()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%d streams, length %d: %s", streams, length, diff)
			}
		}
	}
}

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
