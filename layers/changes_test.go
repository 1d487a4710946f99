package layers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	umoci "github.com/opencontainers/umoci/oci/layer"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

func mustChanges(t testing.TB, old, new *Tree) *Layer {
	t.Helper()
	l, err := Changes(t.Context(), old, new)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustApply(t testing.TB, base *Tree, layers ...*Layer) *Tree {
	t.Helper()
	tree, err := Apply(base, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func noDifference(t testing.TB, what string, want, got *Tree) {
	t.Helper()
	list, err := Diff(t.Context(), want, got)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) > 0 {
		t.Errorf("%s: the trees differ: %v", what, list[:min(len(list), 10)])
	}
}

// steps is a layer in short.
func steps(l *Layer) []string {
	var list []string
	for _, e := range l.Entries {
		list = append(list, e.Kind.String()+" "+e.Name)
	}
	return list
}

func TestChangesAreExactlyWhatChanged(t *testing.T) {
	at := Timespec{Sec: 1000}
	base := NewTree().Edit(at)
	for _, err := range []error{
		base.MkdirAll("usr/lib", 0o755), base.MkdirAll("home/user/.config", 0o700), base.WriteFile("etc/a", []byte("a"), 0o644),
		base.WriteFile("etc/b", []byte("b"), 0o644), base.WriteFile("home/user/.config/f", []byte("f"), 0o600),
		base.WriteFile("usr/lib/l1", []byte("l"), 0o644), base.Link("usr/lib/l1", "usr/lib/l2"), base.Link("usr/lib/l1", "usr/lib/l3"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	old := base.Tree()
	later := func(n *Node) { n.MTime.Sec = 2000 }
	for name, c := range map[string]struct {
		edit func(e *Editor) error
		want string
	}{
		"nothing":           {func(e *Editor) error { return nil }, ""},
		"one added":         {func(e *Editor) error { return e.WriteFile("etc/c", nil, 0o644) }, "put etc/c"},
		"parent's time":     {func(e *Editor) error { e.WriteFile("etc/c", nil, 0o644); return e.Change("etc", later) }, "put etc,put etc/c"},
		"one removed":       {func(e *Editor) error { return e.Remove("etc/a") }, "whiteout etc/a"},
		"directory removed": {func(e *Editor) error { return e.Remove("home/user/.config") }, "put home,put home/user,whiteout home/user/.config"},
		"content":           {func(e *Editor) error { return e.WriteFile("etc/a", []byte("A"), 0o644) }, "put etc/a"},
		"mode":              {func(e *Editor) error { return e.Change("etc/a", func(n *Node) { n.Mode ^= 1 }) }, "put etc/a"},
		"time":              {func(e *Editor) error { return e.Change("etc/a", func(n *Node) { n.MTime.Nsec++ }) }, "put etc/a"},
		"xattr":             {func(e *Editor) error { return e.Change("etc/a", func(n *Node) { n.Xattrs = []Xattr{{"user.x", ""}} }) }, "put etc/a"},
		"parents not made up": {func(e *Editor) error { return e.WriteFile("home/user/.config/f", []byte("F"), 0o600) },
			"put home,put home/user,put home/user/.config,put home/user/.config/f"},
		"directory by link": {func(e *Editor) error { e.Remove("usr/lib"); return e.Symlink("x", "usr/lib") }, "put usr/lib"},
		"file by directory": {func(e *Editor) error { e.Remove("etc/a"); return e.MkdirAll("etc/a", 0o755) }, "put etc/a"},
		"one link gone":     {func(e *Editor) error { return e.Remove("usr/lib/l2") }, "whiteout usr/lib/l2"},
		"one more link":     {func(e *Editor) error { return e.Link("usr/lib/l1", "usr/lib/l4") }, "put usr/lib/l1,put usr/lib/l2,put usr/lib/l3,put usr/lib/l4"},
		"link broken up":    {func(e *Editor) error { return e.WriteFile("usr/lib/l2", []byte("l"), 0o644) }, "put usr/lib/l2"},
		"file joins links":  {func(e *Editor) error { return e.Link("usr/lib/l1", "etc/a") }, "put etc/a,put usr/lib/l1,put usr/lib/l2,put usr/lib/l3"},
		"file moved":        {func(e *Editor) error { n, _ := e.Lookup("etc/a"); e.Remove("etc/a"); return e.Put("usr/a", n) }, "whiteout etc/a,put usr/a"},
		"root":              {func(e *Editor) error { return e.Put(".", &Node{Mode: TypeDir | 0o700}) }, "put ."},
	} {
		e := old.Edit(at)
		if err := c.edit(e); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		l := mustChanges(t, old, e.Tree())
		if diff := cmp.Diff(c.want, strings.Join(steps(l), ",")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		noDifference(t, name, e.Tree(), mustApply(t, old, l))
	}
}

func TestChangesOfRandomTrees(t *testing.T) {
	for seed := range uint64(40) {
		old := randomTree(t, seed, 60+int(seed)*5)
		next := randomEdits(t, old, seed, 1+int(seed))
		l := mustChanges(t, old, next)
		noDifference(t, fmt.Sprint("seed ", seed), next, mustApply(t, old, l))
		if again := mustChanges(t, next, mustApply(t, old, l)); len(again.Entries) > 0 {
			t.Errorf("seed %d: comparing with itself gives %v", seed, steps(again))
		}
		// The layer must mean the same after a trip through a blob.
		compression := everyCompression[seed%uint64(len(everyCompression))]
		p, blob := packed(t, l, PackOptions{Compression: compression})
		read, err := ReadLayer(t.Context(), memoryBlob(blob), ReadOptions{Digest: p.Digest, DiffID: p.DiffID})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(steps(l), steps(read)); diff != "" {
			t.Errorf("seed %d: read back (-made +read):\n%s", seed, diff)
		}
		noDifference(t, fmt.Sprint("seed ", seed, " read back"), next, mustApply(t, old, read))
	}
}

func TestChangesOfUnrelatedTrees(t *testing.T) {
	for seed := range uint64(30) {
		old, next := collidingTree(t, seed, 40, false), collidingTree(t, seed+1000, 40, false)
		noDifference(t, fmt.Sprint("seed ", seed), next, mustApply(t, old, mustChanges(t, old, next)))
	}
}

// umoci must make the same directory of a layer of ours.
func TestChangesAreUnpackedByUmoci(t *testing.T) {
	testenv.NeedRealRoot(t)
	for seed := range uint64(12) {
		old, next := collidingTree(t, seed, 40, false), collidingTree(t, seed+2000, 40, false)
		if seed%2 == 1 {
			old = randomTree(t, seed, 100)
			next = randomEdits(t, old, seed, 20)
		}
		dir := hostDir(t)
		for _, l := range []*Layer{layerOf(t, old), mustChanges(t, old, next)} {
			_, blob := packed(t, l, PackOptions{})
			if err := umoci.UnpackLayer(dir, bytes.NewReader(blob), nil); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(wholeSeconds(t, next), wholeSeconds(t, scanned(t, dir))); diff != "" {
			t.Errorf("seed %d (-tree +unpacked by umoci):\n%s", seed, diff)
		}
	}
}

// What the kernel says about a file must be enough to see every change that is not within one tick of its clock.
func TestChangesOfADirectory(t *testing.T) {
	dir := hostDir(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("kept", "kept")
	write("same size", "before")
	write("touched", "touched")
	past := time.Unix(1_500_000_000, 5)
	for _, name := range []string{"kept", "same size", "touched"} {
		if err := os.Chtimes(filepath.Join(dir, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	old := scanned(t, dir)
	for _, name := range old.Root().Names() {
		if n := old.Root().Child(name); n.Host == nil {
			t.Errorf("%s has no identity", name)
		}
	}
	p, blob := packed(t, layerOf(t, old), PackOptions{})
	p.Layer.Source.Blob = memoryBlob(blob)
	stored := mustApply(t, nil, p.Layer)

	write("same size", "after!")
	if err := os.Chtimes(filepath.Join(dir, "same size"), past, past); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "touched"), 0o644); err != nil { // changes the ctime alone
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"put same size"}, steps(mustChanges(t, stored, scanned(t, dir)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStatesHoldAcrossMounts(t *testing.T) {
	a := HostID{Dev: 1, Ino: 2, CTime: Timespec{3, 4}, MTime: Timespec{5, 6}, Size: 7}
	for name, c := range map[string]struct {
		change func(h *HostID)
		same   bool
	}{
		"nothing":          {func(h *HostID) {}, true},
		"another device":   {func(h *HostID) { h.Dev = 9 }, true},
		"another inode":    {func(h *HostID) { h.Ino = 9 }, false},
		"changed":          {func(h *HostID) { h.CTime.Nsec = 9 }, false},
		"written":          {func(h *HostID) { h.MTime.Nsec = 9 }, false},
		"longer":           {func(h *HostID) { h.Size = 9 }, false},
		"clock of seconds": {func(h *HostID) { h.CTime.Nsec, h.Dev = 0, 9 }, false},
	} {
		b := a
		c.change(&b)
		if got := a.sameState(&b); got != c.same {
			t.Errorf("%s: %v", name, got)
		}
	}
	seconds, other := a, a
	seconds.CTime.Nsec, other.CTime.Nsec, other.Dev = 0, 0, 9
	if seconds.sameState(&other) {
		t.Error("seconds alone are taken for a proof across devices")
	}
}

func TestScanOfAFreshFileHasNoIdentity(t *testing.T) {
	dir := hostDir(t)
	if err := os.WriteFile(filepath.Join(dir, "fresh"), []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n := scanned(t, dir).Root().Child("fresh"); n.Host != nil {
		t.Errorf("a file just written is taken as unchangeable: %+v", *n.Host)
	}
}

func TestChangesRefuseNamesOfWhiteouts(t *testing.T) {
	e := NewTree().Edit(Timespec{})
	if err := e.WriteFile("etc/.wh.x", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Changes(t.Context(), NewTree(), e.Tree()); err == nil || !strings.Contains(err.Error(), "/etc/.wh.x") {
		t.Errorf("the error is %v", err)
	}
}

func TestDiffNamesWhatDiffers(t *testing.T) {
	at := Timespec{Sec: 5}
	tree := func(edits ...func(e *Editor) error) *Tree {
		e := NewTree().Edit(at)
		for _, edit := range edits {
			if err := edit(e); err != nil {
				t.Fatal(err)
			}
		}
		return e.Tree()
	}
	base := func(e *Editor) error {
		for _, name := range []string{"d/a", "d/b", "d/c", "d/h1"} {
			if err := e.WriteFile(name, []byte(name), 0o644); err != nil {
				return err
			}
		}
		e.Symlink("t", "s")
		e.Put("dev", &Node{Mode: TypeChar | 0o600, Major: 1, Minor: 3})
		return e.Link("d/h1", "d/h2")
	}
	a := tree(base)
	b := tree(base, func(e *Editor) error {
		e.Remove("d/a")
		e.WriteFile("d/b", []byte("d/B"), 0o600)
		e.WriteFile("d/new", nil, 0o644)
		e.Put("d/c", &Node{Mode: TypeFIFO | 0o644, MTime: at})
		e.WriteFile("d/h2", []byte("d/h1"), 0o644)
		e.Symlink("u", "s")
		return e.Put("dev", &Node{Mode: TypeChar | 0o600, Major: 1, Minor: 5, UID: 1, MTime: Timespec{Sec: 9}, Xattrs: []Xattr{{"user.a", "b"}}})
	})
	list, err := Diff(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		got = append(got, d.String())
	}
	want := []string{
		"removed /d/a", "changed /d/b: mode, content", "changed /d/c: type", "changed /d/h1: hard links", "changed /d/h2: hard links",
		"added /d/new", "changed /dev: owner, time, device, xattrs", "changed /s: target",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Contents are compared whichever way they are stored.
func TestDiffReadsEveryKindOfContent(t *testing.T) {
	tree := randomTree(t, 77, 60)
	name := firstFile(t, tree)
	data, err := tree.ReadFile(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	e := tree.Edit(Timespec{})
	if err := e.Change(name, func(n *Node) { n.Content = Bytes(data) }); err != nil {
		t.Fatal(err)
	}
	before, after := treeForms(t, tree), treeForms(t, e.Tree())
	for nameA, a := range before {
		for nameB := range after {
			noDifference(t, nameA+" and "+nameB, a, before[nameB])
			list, err := Diff(t.Context(), a, after[nameB])
			if err != nil || len(list) != 1 || list[0].String() != "changed /"+name+": content" {
				t.Errorf("%s and %s: %v %v", nameA, nameB, list, err)
			}
		}
	}
}

// treeForms is a tree with its contents in memory and in every kind of blob.
func treeForms(t testing.TB, tree *Tree) map[string]*Tree {
	forms := map[string]*Tree{"memory": tree}
	for form, blob := range blobForms(t, tree) {
		forms[form] = mustApply(t, nil, mustRead(t, blob))
	}
	return forms
}

// firstFile is the name of the first file with content and one name.
func firstFile(t testing.TB, tree *Tree) string {
	t.Helper()
	links := hardLinks(tree)
	found := ""
	_ = tree.Walk(func(name string, n *Node) error {
		if found == "" && n.IsRegular() && n.Size > 0 && n.Data == nil && links[n] == nil {
			found = name
		}
		return nil
	})
	return found
}

func TestClamp(t *testing.T) {
	e := NewTree().Edit(Timespec{Sec: 100, Nsec: 7})
	if err := e.WriteFile("d/late", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := e.Link("d/late", "d/link"); err != nil {
		t.Fatal(err)
	}
	e.ModTime = Timespec{Sec: 50, Nsec: 9}
	if err := e.WriteFile("early/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tree := e.Tree()
	clamped := Clamp(tree, Timespec{Sec: 60})
	want := map[string]Timespec{"d": {60, 0}, "d/late": {60, 0}, "d/link": {60, 0}, "early": {50, 9}, "early/file": {50, 9}}
	for name, at := range want {
		n, err := clamped.Lookup(name)
		if err != nil || n.MTime != at {
			t.Errorf("%s has the time %v, %v", name, n.MTime, err)
		}
	}
	d := clamped.Root().Child("d")
	if d.Child("late") != d.Child("link") {
		t.Error("the hard link is lost")
	}
	if clamped.Root().Child("early") != tree.Root().Child("early") {
		t.Error("what is early enough was copied")
	}
	if n, _ := tree.Lookup("d/late"); n.MTime.Sec != 100 {
		t.Error("the old tree was changed")
	}
	if Clamp(clamped, Timespec{Sec: 60}).Root() != clamped.Root() {
		t.Error("clamping again makes a copy")
	}
}
