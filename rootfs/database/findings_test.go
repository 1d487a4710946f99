package database

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// counted is content that counts how often it is opened.
type counted struct {
	text   string
	opened atomic.Int32
}

func (c *counted) Open() (io.ReadCloser, error) {
	c.opened.Add(1)
	return io.NopCloser(bytes.NewReader([]byte(c.text))), nil
}

// countedTree is a tree of a package whose file /f has the given sum, and the contents of /f and another file.
func countedTree(t *testing.T, text, sum string) (*layers.Tree, []*counted) {
	t.Helper()
	tree := layerstest.Files(t, map[string]string{
		dpkgStatusFile:                     "Package: p\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n",
		"var/lib/dpkg/info/p.md5sums":      sum + "  f\n" + sum + "  other\n",
		"usr/share/doc/p/changelog.Debian": "",
	})
	edit := tree.Edit(layers.Timespec{})
	list := []*counted{{text: text}, {text: text}}
	for i, name := range []string{"f", "other"} {
		if err := edit.Put(name, &layers.Node{Mode: layers.TypeRegular | 0o644, Size: int64(len(text)), Content: list[i]}); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree(), list
}

const (
	helloSum = "b1946ac92492d2347c6235b4d2611184" // of "hello\n"
	holloTxt = "hollo\n"
)

// verify lets surveys of trees with common findings run side by side, and returns what they verify.
func verify(t *testing.T, findings *Findings, trees ...*layers.Tree) []string {
	t.Helper()
	results := make([]string, len(trees))
	var group sync.WaitGroup
	for i, tree := range trees {
		db, err := Open(tree)
		if err != nil {
			t.Fatal(err)
		}
		survey, err := db.NewSurvey(findings)
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			if err := survey.Finish(t.Context()); err != nil {
				t.Error(err)
			}
			var out bytes.Buffer
			if err := survey.WriteVerified(&out); err != nil {
				t.Error(err)
			}
			results[i] = out.String()
		})
	}
	group.Wait()
	return results
}

func TestFindingsAreShared(t *testing.T) {
	tree, contents := countedTree(t, "hello\n", helloSum)
	later := layers.Clamp(tree, layers.Timespec{Sec: -1}) // other nodes of the same contents
	edit := tree.Edit(layers.Timespec{})
	changed := &counted{text: holloTxt}
	if err := edit.Put("f", &layers.Node{Mode: layers.TypeRegular | 0o644, Size: int64(len(holloTxt)), Content: changed}); err != nil {
		t.Fatal(err)
	}
	got := verify(t, &Findings{}, tree, later, edit.Tree(), tree)
	if diff := cmp.Diff([]string{"", "", "??5??????   /f\n", ""}, got); diff != "" {
		t.Error(diff)
	}
	for i, c := range append(contents, changed) {
		if c.opened.Load() > 2 { // two may begin at once, and one of them finds that the other was first
			t.Errorf("content %d was opened %d times", i, c.opened.Load())
		}
	}
	findings := &Findings{}
	fresh, contents := countedTree(t, "hello\n", helloSum)
	verify(t, findings, fresh)
	verify(t, findings, fresh)
	if contents[0].opened.Load() != 1 || contents[1].opened.Load() != 1 {
		t.Error("a content was read again")
	}
}

// A survey that ends early leaves its contents to others, and so does one whose builder stops in the middle of a file.
func TestFindingsGivenUp(t *testing.T) {
	tree, _ := countedTree(t, "hello\n", helloSum)
	f, err := tree.Lookup("f")
	if err != nil {
		t.Fatal(err)
	}
	findings := &Findings{}
	db, err := Open(tree)
	if err != nil {
		t.Fatal(err)
	}
	survey, err := db.NewSurvey(findings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := survey.Observe(f).Write([]byte("hel")); err != nil {
		t.Fatal(err)
	}
	done := make(chan []string)
	go func() { done <- verify(t, findings, tree) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := survey.Finish(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := <-done; got[0] != "" {
		t.Errorf("got %q", got)
	}
}

func TestShortContent(t *testing.T) {
	tree, contents := countedTree(t, "hello\n", helloSum)
	contents[0].text = "hell"
	db, err := Open(tree)
	if err != nil {
		t.Fatal(err)
	}
	survey, err := db.NewSurvey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := survey.Finish(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// Large files of this machine are read by the survey while others are observed.
func TestReadLarge(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	var claims strings.Builder
	var want string
	for i := range 2 * sideBySide {
		name := fmt.Sprintf("large%02d", i)
		data := bytes.Repeat([]byte(name), (large+i*i*i*100)/len(name)+1)
		sum := md5.Sum(data)
		if i%10 == 3 {
			sum[0]++
			want += "??5??????   /" + name + "\n"
		}
		fmt.Fprintf(&claims, "%x  %s\n", sum, name)
		write(name, data)
	}
	write(dpkgStatusFile, []byte("Package: p\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n"))
	write("var/lib/dpkg/info/p.md5sums", []byte(claims.String()))
	tree, _, err := layers.ScanDir(t.Context(), dir, layers.ScanOptions{})
	must(t, err)
	db, err := Open(tree)
	must(t, err)
	survey, err := db.NewSurvey(nil)
	must(t, err)
	node, err := tree.Lookup("large00")
	must(t, err)
	if survey.Observe(node) != nil {
		t.Error("a large file is observed")
	}
	must(t, survey.ReadLarge(t.Context()))
	must(t, survey.Finish(t.Context()))
	var got bytes.Buffer
	must(t, survey.WriteVerified(&got))
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}

	must(t, os.Truncate(filepath.Join(dir, "large05"), 5))
	if survey, err = db.NewSurvey(nil); err != nil {
		t.Fatal(err)
	}
	if err := survey.Finish(t.Context()); err == nil {
		t.Error("a file that was truncated meanwhile was taken")
	}
}
