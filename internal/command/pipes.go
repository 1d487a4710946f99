package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// outputPipe brings what a program prints to a writer. It is there because [os/exec] gives a writer two seconds, or whatever its WaitDelay says, from the end of
// the program on, and then fails and drops the rest. That is meant for processes that the program has left behind and that keep its output open; here only
// the time counts in which nothing comes from them, however slow the writer is.
type outputPipe struct {
	to          io.Writer
	read, write *os.File
	ended       atomic.Bool   // the program has
	left        time.Duration // how long the end of its output may be waited for then
	failed      error         // of reading
	done        chan error    // gets the outcome
}

// pollHeld is how long one wait for a descendant's output is.
const pollHeld = 100 * time.Millisecond

// errHeld says that a program has left a process behind that still could write to its output.
var errHeld = errors.New("a process that it has left behind keeps its output open")

// outputPipes are those of one program.
type outputPipes []*outputPipe

// open returns what a program writes to in order to reach a writer.
func (o *outputPipes) open(w io.Writer) (*os.File, error) {
	if f, ok := w.(*os.File); ok {
		return f, nil
	}
	for _, p := range *o {
		if sameWriter(p.to, w) {
			return p.write, nil
		}
	}
	r, to, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	*o = append(*o, &outputPipe{to: w, read: r, write: to, left: waitForPipes, done: make(chan error, 1)})
	return to, nil
}

// start begins to pass on what comes. The program has been started, and has its ends of the pipes.
func (o outputPipes) start() {
	for _, p := range o {
		p.write.Close()
		go func() {
			_, err := io.Copy(p.to, p)
			p.read.Close() // so that whoever writes on does not wait for a reader
			if p.failed != nil {
				err = p.failed
			}
			p.done <- err
		}()
	}
}

// discard closes the pipes of a program that could not be started.
func (o outputPipes) discard() {
	for _, p := range o {
		p.read.Close()
		p.write.Close()
	}
}

// finish waits, after the end of the program, until all that it has printed was passed on. The error is errHeld if that is all there is to say.
func (o outputPipes) finish() error {
	var errs []error
	var held error
	for _, p := range o {
		p.ended.Store(true)
		_ = p.read.SetReadDeadline(time.Now()) // it wakes who reads; a pipe that was closed has none
	}
	for _, p := range o {
		if err := <-p.done; err == errHeld {
			held = err
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return held
	}
	return errors.Join(errs...)
}

// Read implements [io.Reader].
func (p *outputPipe) Read(b []byte) (int, error) {
	for {
		ended, start := p.ended.Load(), time.Now()
		if ended {
			if p.left <= 0 {
				p.failed = errHeld
				return 0, errHeld
			}
			_ = p.read.SetReadDeadline(start.Add(pollHeld)) // a pipe has one
		}
		n, err := p.read.Read(b)
		if ended {
			p.left -= min(time.Since(start), pollHeld) // no more than that, as this process may have been the one that waited
		}
		if n > 0 || err == nil {
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			if err != io.EOF {
				p.failed = err
			}
			return 0, err
		}
	}
}
