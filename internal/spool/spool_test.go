package spool

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

func TestCopy(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, where := range []string{"", dir} {
		f, err := Copy(t.Context(), where, strings.NewReader("some bytes"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(f, 5, f.Size()))
		if err != nil || string(got) != "bytes" || f.Size() != 10 {
			t.Errorf("%q of %d, %v", got, f.Size(), err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("the file has the name %v, %v", entries, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCopyFails(t *testing.T) {
	broken := errors.New("broken")
	if _, err := Copy(t.Context(), t.TempDir(), iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a broken reader gave %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if _, err := Copy(ctx, t.TempDir(), strings.NewReader("x")); !errors.Is(err, broken) {
		t.Errorf("a context that ended gave %v", err)
	}
	if _, err := Copy(t.Context(), t.TempDir()+"/missing", strings.NewReader("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory gave %v", err)
	}
}
