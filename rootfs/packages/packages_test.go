package packages

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/layers"
)

func TestOutput(t *testing.T) {
	var log bytes.Buffer
	var seen []string
	o := NewOutput(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), "dnf", []string{"s3cret"}, func(line string) { seen = append(seen, line) })
	for _, part := range []string{"one\ntw", "o with s3cr", "et\n\n5%\r10%\rdone\r\nthe end"} {
		if n, err := o.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	o.Flush()
	want := []string{"one", "two with ***", "done", "the end"}
	if diff := cmp.Diff(want, o.Lines()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(log.String(), "s3cret") || !strings.Contains(log.String(), "two with ***") {
		t.Errorf("log: %s", log.String())
	}
	err := o.Failed(&command.ExitError{Code: 1})
	if !strings.Contains(err.Error(), "the end") {
		t.Error(err)
	}
	if other := errors.New("other"); o.Failed(other) != other {
		t.Error("another error was changed")
	}
}

func TestOutputKeepsTheLastLines(t *testing.T) {
	o := NewOutput(nil, "", nil, nil)
	_, _ = o.Write([]byte(strings.Repeat("line\n", 10*keptLines) + "last\n"))
	lines := o.Lines()
	if len(lines) > keptLines || lines[len(lines)-1] != "last" {
		t.Errorf("%d lines, the last one is %q", len(lines), lines[len(lines)-1])
	}
}

func TestCheckLocked(t *testing.T) {
	locked := []Package{
		{Name: "a", Version: "1", Arch: "noarch", Checksum: "sha256:1"},
		{Name: "kernel", Version: "5", Arch: "x86_64", Checksum: "sha256:5"}, {Name: "kernel", Version: "6", Arch: "x86_64", Checksum: "sha256:6"},
	}
	for _, test := range []struct {
		p    Package
		want string
	}{
		{locked[0], ""},
		{locked[2], ""},
		{Package{Name: "a", Version: "1", Arch: "noarch"}, ""},
		{Package{Name: "a", Version: "2", Arch: "noarch"}, "a-2.noarch has another version than the lock file's 1"},
		{Package{Name: "a", Version: "1", Arch: "i686"}, "a-1.i686 is not in the lock file"},
		{Package{Name: "b", Version: "1", Arch: "noarch"}, "b-1.noarch is not in the lock file"},
		{Package{Name: "kernel", Version: "6", Arch: "x86_64", Checksum: "sha256:5"}, "has the checksum sha256:5, but sha256:6 in the lock file"},
	} {
		err := CheckLocked(locked, []Package{test.p})
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.p, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, ErrNotLocked)):
			t.Errorf("%s: %v, not %s", test.p, err, test.want)
		}
	}
	if err := CheckLocked(nil, []Package{{Name: "b"}}); err != nil {
		t.Errorf("without a lock: %v", err)
	}
	if err := CheckLocked([]Package{}, []Package{{Name: "b"}}); err == nil {
		t.Error("an empty lock allows a package")
	}
}

func TestSum(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	sum, err := Sum(name)
	if want := "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; sum != want || err != nil {
		t.Errorf("%s, %v", sum, err)
	}
	if _, err := Sum(name + "x"); err == nil {
		t.Error("a missing file has a checksum")
	}
}

func TestWork(t *testing.T) {
	var log bytes.Buffer
	w, err := Begin("thing", Options{Workdir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))}, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(w.Dir, "a/b")); err != nil || !info.IsDir() || !w.Own() || w.Secrets() != nil {
		t.Errorf("%v %v, own %v, secrets %q", info, err, w.Own(), w.Secrets())
	}
	one, two := Package{Name: "p", Version: "1", Listed: true}, Package{Name: "p", Version: "2"}
	w.Record([]Package{one}, false)
	w.Record([]Package{two}, false)
	two.Listed = true
	if diff := cmp.Diff([]Package{two}, w.Installed()); diff != "" {
		t.Error(diff)
	}
	w.Record([]Package{two, one, {Name: "a", Version: "3"}}, true)
	var names []string
	for _, p := range w.Installed() {
		names = append(names, p.String())
	}
	if diff := cmp.Diff([]string{"a-3", "p-1", "p-2", "p-2"}, names); diff != "" {
		t.Error(diff)
	}
	w.LeaveOut("product", []description.Package{{Name: "x", Origin: description.Origin{Pos: description.Position{File: "c.xml", Line: 3, Column: 1}}}})
	if want := `msg="thing knows no products: it is left out" at=c.xml:3:1 product=x`; !strings.Contains(log.String(), want) {
		t.Errorf("the log is %s", &log)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(w.Dir); err == nil {
		t.Error("the directory is left")
	}
	if _, err := Begin("thing", Options{Workdir: filepath.Join(w.Dir, "gone")}); err == nil {
		t.Error("no error without a directory for temporary files")
	}
}

func TestFind(t *testing.T) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	if err := edit.WriteFile("usr/bin/tool", []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	w := &Work{Options: Options{Tree: func(context.Context) (*layers.Tree, error) { return edit.Tree(), nil }}}
	for path, want := range map[string]string{"usr/bin/tool": "", "usr/bin/other": TargetDir, "usr/bin": TargetDir} {
		if p, _, err := w.Find(t.Context(), "sbin/x", path); err != nil || p.Root != want {
			t.Errorf("%s: %q, %v", path, p.Root, err)
		}
	}
}

func TestSomeNames(t *testing.T) {
	for want, names := range map[string][]string{"": nil, "a, b": {"a", "b"}, "1, 2, 3, 4, 5": {"1", "2", "3", "4", "5"}, "1, 2, 3, 4, 5 and 1 more": {"1", "2", "3", "4", "5", "6"}} {
		if got := SomeNames(names); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
