package logtext

import (
	"bytes"
	"log/slog"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(New(&out, Options{Prefix: "p: "}))
	log.Debug("not shown")
	log.Info("one", "key", "value", "n", 2)
	log.With("who", "me").WithGroup("g").Warn("two\nlines", "a", 1)
	want := "p: one (key: value, n: 2)\np: warning: two\n  lines (who: me, g.a: 1)\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestTimesAndLevels(t *testing.T) {
	var out bytes.Buffer
	slog.New(New(&out, Options{Level: slog.LevelDebug, Times: true})).Debug("shown")
	if !regexp.MustCompile(`^\d\d:\d\d:\d\d shown\n$`).Match(out.Bytes()) {
		t.Errorf("%q", &out)
	}
}
