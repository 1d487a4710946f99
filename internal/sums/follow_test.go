package sums

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
)

func TestFollow(t *testing.T) {
	for _, size := range []int{1, largest - 1, largest, 5*largest + 7} {
		data := make([]byte, size)
		random := rand.New(rand.NewPCG(1, uint64(size)))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		file, err := os.Create(filepath.Join(t.TempDir(), "file"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		follower := Follow(file)
		held := 0
		var released atomic.Int32
		release := func() { released.Add(1) }
		for at := 0; at < size; {
			n := min(1+random.IntN(largest), size-at)
			if _, err := file.WriteAt(data[at:at+n], int64(at)); err != nil {
				t.Fatal(err)
			}
			switch written := data[at : at+n]; random.IntN(4) {
			case 0: // nobody says anything
			case 1: // it is not final yet
				held++
				follower.Written(int64(at/2), int64(at), written, release)
			default:
				held++
				follower.Written(int64(at+n), int64(at), slices.Clone(written), release)
			}
			at += n
		}
		got, err := follower.Finish(int64(size))
		if want := sha256.Sum256(data); err != nil || got != hex.EncodeToString(want[:]) {
			t.Errorf("%d bytes: %s, %v", size, got, err)
		}
		if int(released.Load()) != held {
			t.Errorf("%d of %d buffers were given back", released.Load(), held)
		}
		short := Follow(file)
		if _, err := short.Finish(int64(size + 1)); err == nil {
			t.Error("the sum of more bytes than there are")
		}
		if _, err := Follow(file).Finish(0); err != nil {
			t.Error(err)
		}
	}
}
