package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// newLogHandler returns a handler for lines as people read them, or for JSON with a time.
func newLogHandler(w io.Writer, format string, level slog.Level) slog.Handler {
	if format == "json" {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return &lineHandler{out: w, mu: &sync.Mutex{}, level: level}
}

// lineHandler writes "imgbuild: warning: text (key: value, …)".
type lineHandler struct {
	out   io.Writer
	mu    *sync.Mutex
	level slog.Level
	attrs []slog.Attr
	group string // of the names of attributes, with a dot at its end
}

// Enabled implements [slog.Handler].
func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle implements [slog.Handler].
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
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
	prefix := "imgbuild: "
	if r.Level >= slog.LevelWarn {
		prefix += "warning: "
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.out, prefix+strings.ReplaceAll(text, "\n", "\n  ")+"\n")
	return err
}

// WithAttrs implements [slog.Handler].
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = append([]slog.Attr{}, h.attrs...)
	for _, a := range attrs {
		a.Key = h.group + a.Key
		with.attrs = append(with.attrs, a)
	}
	return &with
}

// WithGroup implements [slog.Handler].
func (h *lineHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.group += name + "."
	return &with
}
