package layerstest

import (
	"testing"

	"github.com/imgbuild/imgbuild/layers"
)

// Files returns a tree of files that anybody may read, from their names to their contents.
func Files(t testing.TB, files map[string]string) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{})
	for name, text := range files {
		if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

// Same fails the test for each entry in which two trees differ, up to 20 of them.
func Same(t testing.TB, want, got *layers.Tree) {
	t.Helper()
	differences, err := layers.Diff(t.Context(), want, got)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range differences {
		if i == 20 {
			t.Fatalf("and %d more", len(differences)-i)
		}
		a, _ := want.Lookup(d.Path)
		b, _ := got.Lookup(d.Path)
		t.Errorf("%+v: %+v, not %+v", d, b, a)
	}
}

// Changed returns a tree with every node changed; hard links stay hard links.
func Changed(t testing.TB, tree *layers.Tree, change func(*layers.Node)) *layers.Tree {
	t.Helper()
	edit := tree.Edit(layers.Timespec{})
	done := map[*layers.Node]*layers.Node{}
	err := tree.Walk(func(name string, n *layers.Node) error {
		if done[n] == nil {
			c := *n
			change(&c)
			done[n] = &c
		}
		return edit.Put(name, done[n])
	})
	if err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}
