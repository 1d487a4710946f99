package matches

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestMatchesAreTrueAndLongest compares with looking at every earlier place.
func TestMatchesAreTrueAndLongest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tree := New()
	for _, c := range []struct{ size, values, window, nice int }{{3000, 3, 3000, 273}, {3000, 3, 500, 40}, {2000, 256, 2000, 64}, {1000, 1, 1000, 32}, {5000, 16, 4096, 273}} {
		data := make([]byte, c.size)
		for i := range data {
			data[i] = byte(r.IntN(c.values))
		}
		tree.Reset(data, c.window, c.nice, 1<<30)
		for pos := 0; pos+MinLength <= len(data); pos++ {
			limit := min(len(data)-pos, 273)
			if r.IntN(10) == 0 {
				tree.Skip(pos, limit)
				continue
			}
			found := tree.Find(pos, limit, nil)
			last := Match{}
			for _, m := range found {
				from := pos - int(m.Distance) - 1
				if from < 0 || int(m.Distance) >= c.window || m.Length <= last.Length || !bytes.Equal(data[from:from+int(m.Length)], data[pos:pos+int(m.Length)]) {
					t.Fatalf("%+v: at %d: %+v", c, pos, found)
				}
				last = m
			}
			longest := 0
			for from := max(pos-c.window, 0); from < pos; from++ {
				longest = max(longest, Common(data, from, pos, limit))
			}
			if longest >= MinLength && min(longest, c.nice) > int(last.Length) {
				t.Fatalf("%+v: at %d: %d bytes, and not %d", c, pos, last.Length, longest)
			}
		}
	}
}

func TestStrange(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 60_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{"noise": {noise, true}, "twice": {append(bytes.Clone(noise[:30_001]), noise[:30_000]...), false}, "zeros": {make([]byte, 60_000), false}} {
		tree := New()
		tree.Reset(c.data, len(c.data), 64, 16)
		if got := tree.Strange(0, len(c.data)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	tree := New()
	data := append(bytes.Clone(noise), noise...)
	tree.Reset(data, len(data), 64, 16)
	if !tree.Strange(0, len(noise)) || tree.Strange(len(noise), len(data)) {
		t.Error("what comes again is not seen")
	}
	found := false
	for pos := len(noise); pos < len(noise)+10; pos++ {
		for _, m := range tree.Find(pos, 273, nil) {
			found = found || int(m.Distance) == len(noise)-1 && m.Length >= 64
		}
	}
	if !found {
		t.Error("none of the places that were put in is found")
	}
}
