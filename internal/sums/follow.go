package sums

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
)

// Follower counts the SHA-256 of a file that is still being written, as far as it is final. What it was not given it reads.
type Follower struct {
	file io.ReaderAt

	mu    sync.Mutex
	more  sync.Cond
	end   int64 // of what is final
	queue []written
	last  bool // it will not grow

	ended chan struct{}
	at    int64 // up to where it is counted
	hash  hash.Hash
	err   error
}

// written is bytes that were written to the file.
type written struct {
	at      int64
	data    []byte
	release func()
}

// Follow starts to follow a file. It must be ended by [Follower.Finish].
func Follow(file io.ReaderAt) *Follower {
	f := &Follower{file: file, ended: make(chan struct{}), hash: sha256.New()}
	f.more.L = &f.mu
	go f.run()
	return f
}

// Written says that data has been written at an offset, and that the first final bytes of the file will not change any more. When the data is not needed any longer,
// release is called.
func (f *Follower) Written(final, at int64, data []byte, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end = max(f.end, final)
	f.queue = append(f.queue, written{at, data, release})
	f.more.Signal()
}

// Finish says that the file is complete, with so many bytes, and returns the sum in lower-case hexadecimal. With a size of 0 nobody wants it.
func (f *Follower) Finish(size int64) (string, error) {
	f.mu.Lock()
	f.end, f.last = size, true
	f.more.Signal()
	f.mu.Unlock()
	<-f.ended
	if f.err != nil {
		return "", fmt.Errorf("reading what was written: %w", f.err)
	}
	return hex.EncodeToString(f.hash.Sum(nil)), nil
}

func (f *Follower) run() {
	defer close(f.ended)
	buffer := make([]byte, largest)
	for {
		f.mu.Lock()
		for len(f.queue) == 0 && !f.last {
			f.more.Wait()
		}
		queue, end, last := f.queue, f.end, f.last
		f.queue = nil
		f.mu.Unlock()
		for _, w := range queue {
			f.read(buffer, min(w.at, end))
			if stop := min(w.at+int64(len(w.data)), end); f.err == nil && w.at <= f.at && f.at < stop {
				f.hash.Write(w.data[f.at-w.at : stop-w.at])
				f.at = stop
			}
			w.release()
		}
		if last {
			f.read(buffer, end)
			return
		}
	}
}

// read counts what lies in the file up to end.
func (f *Follower) read(buffer []byte, end int64) {
	for f.err == nil && f.at < end {
		n := min(end-f.at, int64(len(buffer)))
		if _, f.err = f.file.ReadAt(buffer[:n], f.at); f.err == nil {
			f.hash.Write(buffer[:n])
			f.at += n
		}
	}
}
