// Package logtext writes log records as lines that people read.
package logtext

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// Options say how lines look.
type Options struct {
	// Level is the lowest that is written; nil for slog.LevelInfo.
	Level slog.Leveler
	// Prefix begins each line.
	Prefix string
	// Times puts the time of day before each line.
	Times bool
}

// New returns a handler that writes "PREFIX[warning: ]TEXT (KEY: VALUE, ...)". Further lines of a text are indented.
func New(w io.Writer, opts Options) slog.Handler {
	if opts.Level == nil {
		opts.Level = slog.LevelInfo
	}
	return &handler{Options: opts, out: w, mu: &sync.Mutex{}}
}

type handler struct {
	Options
	out   io.Writer
	mu    *sync.Mutex
	attrs []slog.Attr
	group string // of the names of attributes, with a dot at its end
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.Level.Level() }

// Handle implements [slog.Handler].
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var details []string
	add := func(prefix string, a slog.Attr) {
		if a.Key != "" {
			details = append(details, fmt.Sprintf("%s%s: %v", prefix, a.Key, a.Value.Resolve()))
		}
	}
	for _, a := range h.attrs {
		add("", a)
	}
	r.Attrs(func(a slog.Attr) bool {
		add(h.group, a)
		return true
	})
	text := r.Message
	if len(details) > 0 {
		text += " (" + strings.Join(details, ", ") + ")"
	}
	prefix := h.Prefix
	if h.Times {
		prefix = r.Time.Format("15:04:05 ") + prefix
	}
	if r.Level >= slog.LevelWarn {
		prefix += "warning: "
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.out, prefix+strings.ReplaceAll(text, "\n", "\n  ")+"\n")
	return err
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = append([]slog.Attr{}, h.attrs...)
	for _, a := range attrs {
		a.Key = h.group + a.Key
		with.attrs = append(with.attrs, a)
	}
	return &with
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	with := *h
	with.group += name + "."
	return &with
}
