package sums

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/imgbuild/imgbuild/internal/progress"
)

func follow(t *testing.T, ctx context.Context, file *os.File) *Follower {
	t.Helper()
	f, err := Follow(ctx, file.Name(), progress.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

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
		follower := follow(t, t.Context(), file)
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
		short := follow(t, t.Context(), file)
		if _, err := short.Finish(int64(size + 1)); err == nil {
			t.Error("the sum of more bytes than there are")
		}
		if _, err := follow(t, t.Context(), file).Finish(0); err != nil {
			t.Error(err)
		}
	}
}

// TestFileWithHoles counts a file of which little is data, and shows it.
func TestFileWithHoles(t *testing.T) {
	const size = shown + 12345
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := sha256.New()
	at := int64(0)
	for _, place := range []int64{0, 100, largest - 1, 3 << 20, shown / 2, size - 5} {
		if _, err := file.WriteAt([]byte("data\n"), place); err != nil {
			t.Fatal(err)
		}
	}
	block := make([]byte, largest)
	for at < size {
		n, err := file.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		want.Write(block[:n])
		at += int64(n)
	}
	var seen tasks
	got, length, err := SHA256(t.Context(), file, &seen)
	if err != nil || length != size || got != hex.EncodeToString(want.Sum(nil)) {
		t.Errorf("%s, %d bytes, %v", got, length, err)
	}
	if seen.name != "check sum of file" || seen.total != size || seen.added != size || seen.ended != 1 {
		t.Errorf("shown: %+v", seen)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stopped by the user"))
	follower := follow(t, ctx, file)
	if _, err := follower.Finish(size); err == nil || err.Error() != "stopped by the user" {
		t.Errorf("the error is %v", err)
	}
}

// TestHolesThatAreFilledLater tells what is final while there are holes behind it, where data comes.
func TestHolesThatAreFilledLater(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size = 64 << 20
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	follower := follow(t, t.Context(), file)
	data := make([]byte, size)
	for at := int64(1 << 20); at < size; at += 2 << 20 {
		copy(data[at:], "data")
		if _, err := file.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		follower.Written(at+4, at+4, nil, func() { close(done) })
		<-done
	}
	want := sha256.Sum256(data)
	if got, err := follower.Finish(size); err != nil || got != hex.EncodeToString(want[:]) {
		t.Errorf("%s, %v", got, err)
	}
}

// tasks takes notice of one task.
type tasks struct {
	name         string
	total, added int64
	ended        int
}

func (t *tasks) Start(name string, total int64, _ progress.Unit) progress.Task {
	t.name, t.total = name, total
	return t
}
func (t *tasks) Note(string)    {}
func (t *tasks) Add(n int64)    { t.added += n }
func (t *tasks) SetTotal(int64) {}
func (t *tasks) Done(error)     { t.ended++ }
