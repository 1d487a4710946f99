package packages

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
)

// keptLines is how many lines of output are kept to explain a failure, and shownLines how many of them an error shows.
const (
	keptLines  = 400
	shownLines = 12
)

// Output takes what a package manager prints, as whole lines without secrets: they go to the log, and the last ones are kept to explain a failure.
// It is for one program at a time.
type Output struct {
	title  string
	log    *slog.Logger
	redact []string
	line   func(line string)
	part   []byte // of a line
	lines  []string
}

// NewOutput makes an output whose lines go to the log under a title, such as "dnf", and to the function line, if it is not nil.
func NewOutput(log *slog.Logger, title string, redact []string, line func(line string)) *Output {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Output{title: title, log: log, redact: redact, line: line}
}

// Write takes a part of the output. It never fails.
func (o *Output) Write(p []byte) (int, error) {
	o.part = append(o.part, p...)
	for {
		i := bytes.IndexByte(o.part, '\n')
		if i < 0 {
			return len(p), nil
		}
		o.take(string(o.part[:i]))
		o.part = o.part[i+1:]
	}
}

// Flush takes the rest as a line, at the end of the program.
func (o *Output) Flush() {
	if len(o.part) > 0 {
		o.take(string(o.part))
		o.part = nil
	}
}

func (o *Output) take(line string) {
	line = strings.TrimRight(line, "\r ")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:] // a display of progress writes its line anew
	}
	for _, secret := range o.redact {
		line = strings.ReplaceAll(line, secret, "***")
	}
	if line == "" {
		return
	}
	o.log.Debug(o.title, "line", line)
	if o.line != nil {
		o.line(line)
	}
	if o.lines = append(o.lines, line); len(o.lines) > keptLines {
		o.lines = append(o.lines[:0], o.lines[len(o.lines)-keptLines/2:]...)
	}
}

// Lines are the last lines, the oldest first.
func (o *Output) Lines() []string { return o.lines }

// Failed adds the end of the output to the failure of the program. Other errors stay as they are.
func (o *Output) Failed(err error) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	exit.Output = strings.Join(o.lines[max(0, len(o.lines)-shownLines):], "\n")
	return err
}
