package description

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Position says where something stands in a description: a file as the user
// would name it, and the line and column (both from 1) in that file. The zero
// Position means that nothing of the description stands behind a value, for
// example behind a default.
type Position struct {
	File   string
	Line   int
	Column int
}

// IsZero reports whether the position is unknown.
func (p Position) IsZero() bool { return p == Position{} }

// String returns file:line:column, or as much of it as is known.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.File == "":
		return fmt.Sprintf("%d:%d", p.Line, p.Column)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is one thing that is wrong with a description.
type Error struct {
	Pos  Position
	Text string // what is wrong, one clause without a full stop
	Hint string // what to do about it; may be empty
	// Check is the name of the check that found it, for the checks that can
	// be switched off; empty for errors of the language itself.
	Check string
}

// Error returns one line: file:line:column: text (hint).
func (e *Error) Error() string {
	var b strings.Builder
	if at := e.Pos.String(); at != "" {
		b.WriteString(at)
		b.WriteString(": ")
	}
	b.WriteString(e.Text)
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Errors is everything that is wrong with a description, in the order of the
// document. It is never empty when returned as an error.
type Errors []*Error

// Error returns one line for each error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As access to each single error.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// add appends an error.
func (es *Errors) add(pos Position, hint, format string, args ...any) {
	*es = append(*es, &Error{Pos: pos, Text: clip(fmt.Sprintf(format, args...), 1000), Hint: clip(hint, 1000)})
}

// problem makes the only error there is.
func problem(pos Position, hint, format string, args ...any) Errors {
	var es Errors
	es.add(pos, hint, format, args...)
	return es
}

// start is the position of a file as a whole.
func start(file string) Position { return Position{File: file, Line: 1, Column: 1} }

// clip cuts a text that a hostile description has made too long to be read.
func clip(s string, length int) string {
	if r := []rune(s); len(r) > length {
		return string(r[:length-3]) + "..."
	}
	return s
}

// err returns nil when there are no errors, and else the errors by position.
func (es Errors) err() error {
	if len(es) == 0 {
		return nil
	}
	return es.sorted()
}

// sorted sorts the errors by position and returns them, each once: an old description may say in one place what is in several of its new form.
func (es Errors) sorted() Errors {
	sort.SliceStable(es, func(i, j int) bool {
		a, b := es[i].Pos, es[j].Pos
		switch {
		case a.File != b.File:
			return a.File < b.File
		case a.Line != b.Line:
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	return slices.CompactFunc(es, func(a, b *Error) bool { return *a == *b })
}
