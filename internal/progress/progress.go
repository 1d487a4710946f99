// Package progress shows how far long work has come: on a terminal as a line that changes in place, elsewhere as plain lines, and on
// request as one JSON event a line.
package progress

import (
	"io"
	"sync/atomic"
)

// Unit says what a task counts.
type Unit string

// The units that tasks count in.
const (
	Bytes Unit = "bytes" // shown as KiB, MiB …
	Items Unit = "items" // shown as a plain number
)

// Reporter takes notice of work as it happens. Its methods may be called by several goroutines at once.
type Reporter interface {
	// Start announces a task, such as "pulling debian:12". A total of 0 means that the amount is not known.
	Start(name string, total int64, unit Unit) Task
	// Note shows one line that matters to the user but is neither a result nor an error.
	Note(text string)
}

// Task is one piece of work under way.
type Task interface {
	// Add counts n more units as done.
	Add(n int64)
	// SetTotal changes the amount of work.
	SetTotal(total int64)
	// Done ends the task, with the error that ended it or nil.
	Done(err error)
}

// Discard shows nothing.
var Discard Reporter = discard{}

type discard struct{}

func (discard) Start(string, int64, Unit) Task { return discard{} }
func (discard) Note(string)                    {}
func (discard) Add(int64)                      {}
func (discard) SetTotal(int64)                 {}
func (discard) Done(error)                     {}

// Reader counts what is read from r as done in task.
func Reader(r io.Reader, task Task) io.Reader { return countingReader{r, task} }

type countingReader struct {
	io.Reader
	task Task
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.task.Add(int64(n))
	return n, err
}

// counter is what the tasks of all reporters keep.
type counter struct {
	name  string
	unit  Unit
	done  atomic.Int64
	total atomic.Int64
}

func (c *counter) Add(n int64)          { c.done.Add(n) }
func (c *counter) SetTotal(total int64) { c.total.Store(total) }

// Prefixed shows work as part of something, whose name comes before that of each task.
func Prefixed(to Reporter, name string) Reporter { return prefixed{to, name} }

type prefixed struct {
	Reporter
	name string
}

func (p prefixed) Start(name string, total int64, unit Unit) Task {
	return p.Reporter.Start(p.name+": "+name, total, unit)
}

func (p prefixed) Note(text string) { p.Reporter.Note(p.name + ": " + text) }
