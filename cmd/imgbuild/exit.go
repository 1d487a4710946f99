package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The exit codes, as imgbuild --help documents them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInvalid     = 3
	exitMissing     = 4
	exitInterrupted = 130
)

var errInterrupted = errors.New("interrupted")

// usageError is a command line that makes no sense.
type usageError struct {
	err     error
	command string // whose help explains it; empty: nothing to add
}

func (e *usageError) Error() string {
	if e.command == "" {
		return e.err.Error()
	}
	return fmt.Sprintf("%v; see '%s --help'", e.err, e.command)
}

func (e *usageError) Unwrap() error { return e.err }

// report writes the error as one line, or as one line for each of several that belong together.
func report(w io.Writer, format string, err error) {
	text := err.Error()
	if errors.Is(err, errInterrupted) {
		text = "interrupted"
	}
	if format == "json" {
		line, _ := json.Marshal(map[string]any{"level": "ERROR", "msg": text, "code": exitCode(err)}) // strings and numbers only
		fmt.Fprintf(w, "%s\n", line)
		return
	}
	for line := range strings.Lines(text) {
		fmt.Fprintf(w, "imgbuild: %s\n", strings.TrimRight(line, "\n"))
	}
}

// exitCode tells how the program ends after err.
func exitCode(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage), isRequiredFlag(err):
		return exitUsage
	case isMissing(err):
		return exitMissing
	case isInvalid(err):
		return exitInvalid
	}
	return exitFailed
}

// isRequiredFlag recognizes cobra's error for a flag that must be given and is not, which has no type.
func isRequiredFlag(err error) bool { return strings.HasPrefix(err.Error(), "required flag(s) ") }
