package sums

import (
	"context"
	"os"
	"sync"

	"github.com/imgbuild/imgbuild/internal/progress"
)

// Follower counts the SHA-256 of a file that is still being written, as far as it is final. What it was not given it reads.
type Follower struct {
	digester
	progress progress.Reporter

	mu    sync.Mutex
	more  sync.Cond
	end   int64 // of what is final
	queue []written
	last  bool // it will not grow

	ended chan struct{}
	err   error
}

// written is bytes that were written to the file.
type written struct {
	at      int64
	data    []byte
	release func()
}

// Follow starts to follow a file, which it opens for itself. It must be ended by [Follower.Finish].
func Follow(ctx context.Context, name string, reporter progress.Reporter) (*Follower, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	f := &Follower{digester: newDigester(file), progress: reporter, ended: make(chan struct{})}
	f.more.L = &f.mu
	go f.run(ctx)
	return f, nil
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

// Finish says that the file is complete, with so many bytes, and returns the sum in lower-case hexadecimal. With a size of 0 nobody wants it. What is left to count is
// shown where it takes its time.
func (f *Follower) Finish(size int64) (string, error) {
	f.mu.Lock()
	f.end, f.last = size, true
	f.more.Signal()
	f.mu.Unlock()
	<-f.ended
	if err := f.file.Close(); f.err == nil {
		f.err = err
	}
	return f.sum(), f.err
}

func (f *Follower) run(ctx context.Context) {
	defer close(f.ended)
	for {
		f.mu.Lock()
		for len(f.queue) == 0 && !f.last {
			f.more.Wait()
		}
		queue, end, last := f.queue, f.end, f.last
		f.queue = nil
		f.mu.Unlock()
		for _, w := range queue {
			if f.err == nil {
				f.err = f.count(ctx, min(w.at, end), func(int64) {})
			}
			if stop := min(w.at+int64(len(w.data)), end); f.err == nil && w.at <= f.at && f.at < stop {
				f.hash.Write(w.data[f.at-w.at : stop-w.at])
				f.at = stop
			}
			w.release()
		}
		if !last {
			continue
		}
		if f.err == nil {
			f.err = f.showing(ctx, end, f.progress)
		}
		return
	}
}
