package layers

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

func TestOrdinaryUserWritesDirectories(t *testing.T) {
	if !testenv.InUserNamespace() {
		testenv.OrdinaryUser(t).RunAgain(t, "TestOrdinaryUserWritesDirectories")
		return
	}
	tree := awkward(t)
	dir, report := written(t, tree, DirOptions{})
	want := []string{"etc/attr trusted.t=u%3D%", "etc/owner owner", "nodes/disk entry", "nodes/null entry"}
	var got []string
	for _, u := range report.Unheld {
		what := u.Xattr
		if u.Entry {
			what = "entry"
		}
		if u.Owner {
			what = "owner"
		}
		got = append(got, u.Path+" "+what)
	}
	lessText := cmp.Transformer("sorted", func(list []string) map[string]bool {
		set := map[string]bool{}
		for _, s := range list {
			set[s] = true
		}
		return set
	})
	if diff := cmp.Diff(want, got, lessText); diff != "" {
		t.Errorf("other things are not held (-want +got):\n%s", diff)
	}
	again, notes, err := Rescan(t.Context(), dir, tree, report)
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	sameTree(t, "read again", tree, again)

	// The report goes on through changes: what was not held and did not change is still known, new things are added.
	e := tree.Edit(Timespec{Sec: 4})
	for _, step := range []error{
		e.Remove("nodes/disk"),
		e.Link("nodes/null", "nodes/null2"),
		e.Put("nodes/tty", &Node{Mode: TypeChar | 0o600, Major: 5, MTime: e.ModTime}),
		e.WriteFile("nodes/file", []byte("f"), 0o644),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	report, err = UpdateDir(t.Context(), dir, tree, e.Tree(), report)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err = Rescan(t.Context(), dir, e.Tree(), report)
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, "changed and read again", e.Tree(), again)
}

func TestOrdinaryUserRoundTrips(t *testing.T) {
	if !testenv.InUserNamespace() {
		testenv.OrdinaryUser(t).RunAgain(t, "TestOrdinaryUserRoundTrips")
		return
	}
	for seed := range uint64(4) {
		tree := randomTree(t, 300+seed, 300)
		dir := filepath.Join(t.TempDir(), "tree")
		report, err := WriteDir(t.Context(), dir, tree, DirOptions{})
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := Rescan(t.Context(), dir, tree, report)
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, "read again", tree, again)
	}
}
