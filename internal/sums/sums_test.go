package sums

import (
	"bytes"
	"crypto"
	"crypto/md5"
	_ "crypto/sha1"
	_ "crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
)

// TestSums compares with the standard library's digests, for files of all kinds of sizes that are written in pieces by several goroutines.
func TestSums(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var contents [][]byte
	add := func(size int) {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		contents = append(contents, data)
	}
	for size := 1; size < 260; size++ {
		add(size)
	}
	for _, size := range []int{smallest - 1, smallest, smallest + 1, largest, largest + 1, 2*largest - 63, 3<<20 + 5, maxWaiting + 77} {
		add(size)
	}
	for range 300 {
		add(1 + random.IntN(40000))
	}
	random.Shuffle(len(contents), func(i, j int) { contents[i], contents[j] = contents[j], contents[i] })
	for _, digests := range [][]crypto.Hash{{crypto.MD5}, {crypto.SHA256}, {crypto.SHA1, crypto.MD5, crypto.SHA256}} {
		for writers := 1; writers <= 3; writers++ {
			for _, lanes := range []bool{false, hasLanes} {
				t.Run(fmt.Sprint(digests, writers, lanes), func(t *testing.T) { checkSums(t, newCounter(lanes), contents, digests, writers) })
			}
		}
	}
}

func checkSums(t *testing.T, counter *Counter, contents [][]byte, digests []crypto.Hash, writers int) {
	got := make([][]string, len(contents))
	var group sync.WaitGroup
	for w := range writers {
		random := rand.New(rand.NewPCG(3, uint64(w)))
		group.Go(func() {
			for i := w; i < len(contents); i += writers {
				if random.IntN(10) == 0 { // somebody gives up
					f := counter.File(int64(len(contents[i])), digests, func([]string) {
						if len(contents[i]) > 0 {
							t.Error("a file that was abandoned is done")
						}
					})
					f.Write(contents[i][:len(contents[i])-1])
					f.Abandon()
				}
				f := counter.File(int64(len(contents[i])), digests, func(sums []string) { got[i] = sums })
				if i%3 == 0 {
					n, err := f.ReadFrom(iotest.HalfReader(bytes.NewReader(contents[i])))
					if n != int64(len(contents[i])) || err != nil {
						t.Errorf("%d bytes of %d were read: %v", n, len(contents[i]), err)
					}
					continue
				}
				for data := contents[i]; len(data) > 0; {
					n := 1 + random.IntN(len(data))
					f.Write(data[:n])
					data = data[n:]
				}
			}
		})
	}
	group.Wait()
	counter.Close()
	for i, data := range contents {
		for j, digest := range digests {
			h := digest.New()
			h.Write(data)
			if len(got[i]) != len(digests) || got[i][j] != string(h.Sum(nil)) {
				t.Fatalf("%v of %d bytes: %x", digest, len(data), got[i])
			}
		}
	}
	if counter.used != 0 {
		t.Errorf("%d bytes of buffers are missing", counter.used)
	}
}

func BenchmarkMD5(b *testing.B) {
	data := make([]byte, 64<<10)
	b.Run("many", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		counter := New()
		for b.Loop() {
			counter.File(int64(len(data)), []crypto.Hash{crypto.MD5}, func([]string) {}).Write(data)
		}
		counter.Close()
	})
	b.Run("one by one", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			md5.Sum(data)
		}
	})
}
