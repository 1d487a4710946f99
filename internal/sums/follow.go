package sums

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
)

// Follower counts the SHA-256 of a file that is still being written, as far as it is final.
type Follower struct {
	file io.ReaderAt

	mu   sync.Mutex
	more sync.Cond
	end  int64 // of what is final
	last bool  // it will not grow

	ended chan struct{}
	hash  hash.Hash
	err   error
}

// Follow starts to follow a file. It must be ended by [Follower.Finish].
func Follow(file io.ReaderAt) *Follower {
	f := &Follower{file: file, ended: make(chan struct{}), hash: sha256.New()}
	f.more.L = &f.mu
	go f.run()
	return f
}

// Final says that the first so many bytes of the file will not change any more.
func (f *Follower) Final(end int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end > f.end {
		f.end = end
		f.more.Signal()
	}
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
	for at := int64(0); f.err == nil; {
		f.mu.Lock()
		for f.end < at+largest && !f.last {
			f.more.Wait()
		}
		n := min(f.end-at, largest)
		f.mu.Unlock()
		if n <= 0 {
			return
		}
		if _, f.err = f.file.ReadAt(buffer[:n], at); f.err == nil {
			f.hash.Write(buffer[:n])
			at += n
		}
	}
}
